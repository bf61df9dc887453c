package v4_test

import (
	"strings"
	"testing"
)

func TestZonesShowTheOperatorsDefaults(t *testing.T) {
	p := newPlane(t)
	zone := p.zone("example.com")
	atOnce := map[string]string{"Selvage-Rollout": "all"}
	put := func(head map[string]string, body string) *answer {
		return p.with(head, "PUT", "/selvage/v1/defaults", "application/json", secret, body)
	}
	setting := func(when, name, value string, own bool) {
		t.Helper()
		var s struct {
			Value      any     `json:"value"`
			Editable   bool    `json:"editable"`
			ModifiedOn *string `json:"modified_on"`
		}
		p.ok("GET", zone+"/settings/"+name, "", &s)
		if s.Value != value || !s.Editable || (s.ModifiedOn != nil) != own {
			t.Errorf("%s: %s is %+v, want %s, own %t", when, name, s, value, own)
		}
	}
	setting("at first", "http3", "on", false)
	if a := put(atOnce, `{"settings":{"http3":"off","tiered_caching":"off"}}`); a.Status != 200 || a.Seq == "" || a.Stage != "" {
		t.Fatalf("at once: %d %s", a.Status, a.message())
	}
	setting("with a default", "http3", "off", false)
	var top struct {
		Mode string `json:"mode"`
	}
	p.ok("GET", "/selvage/v1"+zone+"/topology", "", &top)
	if top.Mode != "flat" {
		t.Errorf("topology %q, want flat", top.Mode)
	}
	p.ok("PATCH", zone+"/settings/http3", `{"value":"on"}`, nil)
	setting("with its own", "http3", "on", true)

	// By rings, unless it is said: zones show what all data centers have.
	a := put(nil, `{"settings":{"http3":"off","tiered_caching":"off","brotli":"off"}}`)
	if a.Status != 200 || a.Stage != "1" {
		t.Fatalf("by rings: %d, stage %q, %s", a.Status, a.Stage, a.message())
	}
	setting("staged", "brotli", "on", false)
	var d struct {
		Seq      uint64            `json:"seq"`
		Settings map[string]string `json:"settings"`
		Staged   *struct {
			Stage    uint64            `json:"stage"`
			Settings map[string]string `json:"settings"`
		} `json:"staged"`
	}
	p.ok("GET", "/selvage/v1/defaults", "", &d)
	if d.Seq == 0 || len(d.Settings) != 2 || d.Staged == nil || d.Staged.Stage != 1 || d.Staged.Settings["brotli"] != "off" {
		t.Errorf("got %+v", d)
	}
	p.ok("POST", "/selvage/v1/rollouts/1/release", `{"ring":"all"}`, nil)
	setting("released", "brotli", "off", false)

	for body, want := range map[string]string{
		`{"settings":{"nope":1}}`:                  "nope",
		`{"settings":{"ssl":"x"}}`:                 "ssl",
		`{"settings":{"variants":{}}}`:             "variants",
		`{"settings":["ssl"]}`:                     "settings",
		`{}`:                                       "settings",
		`{"settings":{},"seq":999}`:                "seq",
		`{"settings":{},"seq":-1}`:                 "seq",
		`{"setting":{}}`:                           "setting",
		`{"settings":{"ssl":"full"}}{"settings":}`: "",
	} {
		if a := put(atOnce, body); a.Status < 400 || a.Status > 409 || !strings.Contains(a.message(), want) {
			t.Errorf("%s: %d %s, want a refusal that names %q", body, a.Status, a.message(), want)
		}
	}
	if a := put(map[string]string{"Selvage-Rollout": "none"}, `{"settings":{}}`); a.Status != 400 || !strings.Contains(a.message(), "Selvage-Rollout") {
		t.Errorf("%d %s", a.Status, a.message())
	}
}
