package v4_test

import (
	"strings"
	"testing"
	"time"

	"github.com/selvage-edge/selvage/zone"
)

// What is written a second time makes no entry and is a success; an empty value is
// a value.
func TestIdenticalWritesAreDropped(t *testing.T) {
	p := newPlane(t)
	z := p.zone("a.test")
	ours := "/selvage/v1" + z
	var r, cert struct{ ID string }
	p.ok("POST", z+"/dns_records", `{"type":"A","name":"x","content":"192.0.2.1","proxied":true,"comment":"c"}`, &r)
	made := issue(t, ecKey(t), time.Now().Add(time.Hour), "a.test").body()
	p.ok("POST", z+"/custom_certificates", made, &cert)
	for _, call := range []struct{ method, path, body string }{
		{"PUT", z + "/dns_records/" + r.ID, `{"type":"A","name":"x","content":"192.0.2.9","ttl":60}`},
		{"PATCH", z + "/dns_records/" + r.ID, `{"comment":"other"}`},
		{"PATCH", z + "/dns_records/" + r.ID, `{"comment":""}`},
		{"POST", z + "/dns_records/batch", `{"patches":[{"id":"` + r.ID + `","ttl":120}]}`},
		{"PATCH", z, `{"paused":true}`},
		{"PATCH", z + "/settings/ssl", `{"value":"strict"}`},
		{"PATCH", z + "/settings/development_mode", `{"value":"on"}`},
		{"PATCH", z + "/settings", `{"items":[{"id":"brotli","value":"off"},{"id":"http3","value":"off"}]}`},
		{"PATCH", z + "/cache/variants", `{"value":{}}`},
		{"PATCH", z + "/argo/tiered_caching", `{"value":"off"}`},
		{"DELETE", z + "/cache/tiered_cache_smart_topology_enable", ""},
		{"PUT", z + "/url_normalization", `{"type":"rfc3986","scope":"both"}`},
		{"DELETE", z + "/url_normalization", ""},
		{"PUT", ours + "/topology", `{"mode":"custom","regional":false,"parents":["FRA"]}`},
		{"PATCH", ours + "/settings/zstd", `{"value":"off"}`},
		{"PUT", z + "/rulesets/phases/http_request_cache_settings/entrypoint", `{"rules":[]}`},
		{"PUT", z + "/rulesets/phases/http_request_origin/entrypoint", `{ "rules" : [ ] }`},
		{"PATCH", z + "/custom_certificates/" + cert.ID, `{"bundle_method":"optimal"}`},
		{"PATCH", z + "/custom_certificates/" + cert.ID, made},
		{"PUT", "/selvage/v1/kill/cache", `{"reason":"x"}`},
	} {
		p.ok(call.method, call.path, call.body, nil)
		before, _ := p.publish.Head()
		a := p.ok(call.method, call.path, call.body, nil)
		if now, _ := p.publish.Head(); now != before || number(t, a) != before {
			t.Errorf("%s %s %s again: head %d → %d, the answer says %s", call.method, call.path, call.body, before, now, a.Seq)
		}
	}
	var got struct{ Comment *string }
	p.ok("GET", z+"/dns_records/"+r.ID, "", &got)
	if got.Comment != nil {
		t.Errorf("an empty comment came back as %q", *got.Comment)
	}
	var v struct{ Value map[string]any }
	p.ok("GET", z+"/cache/variants", "", &v) // 404 while it is not set
	p.ok("GET", z+"/rulesets/phases/http_request_cache_settings/entrypoint", "", nil)
}

// A zone file that is imported again adds nothing, what it says otherwise than the
// zone is refused as ever, and a single record that exists is one too many.
func TestAnIdenticalImportAddsNothing(t *testing.T) {
	p := newPlane(t)
	path := p.zone("imp.test") + "/dns_records"
	send := func(file, proxied string) *answer {
		t.Helper()
		ct, body := upload(t, map[string]string{"file": file, "proxied": proxied})
		return p.raw("POST", path+"/import", ct, secret, body)
	}
	if a := send(zoneFile, "true"); a.Status != 200 {
		t.Fatalf("import: %d %s", a.Status, a.Body)
	}
	head, _ := p.publish.Head()
	a := send(zoneFile, "true")
	if now, _ := p.publish.Head(); a.Status != 200 || now != head || number(t, a) != head || string(a.Result) != `{"recs_added":0,"total_records_parsed":13}` {
		t.Errorf("the same again: head %d → %d, %d %s", head, now, a.Status, a.Body)
	}
	if a := send(zoneFile+"more IN A 192.0.2.77\n", "true"); number(t, a) != head+1 || string(a.Result) != `{"recs_added":1,"total_records_parsed":14}` {
		t.Errorf("one more: %d %s, want entry %d", a.Status, a.Body, head+1)
	}
	for _, other := range []struct{ file, proxied string }{{"more IN A 192.0.2.77\n", "false"}, {"sub 7200 IN NS ns.other.test.\n", "true"}} {
		if a := send(other.file, other.proxied); a.Status != 409 || a.Errors[0].Code != 81058 {
			t.Errorf("%q proxied %s: %d %s, want 409 and 81058", other.file, other.proxied, a.Status, a.Body)
		}
	}
	p.bad("POST", path, `{"type":"A","name":"more","content":"192.0.2.77","proxied":true}`, 409, 81058, "")
	if now, _ := p.publish.Head(); now != head+1 {
		t.Errorf("refused writes moved the feed from %d to %d", head+1, now)
	}
}

// A value over its limit is refused where it is accepted, with the limit.
func TestLimitsAreNamed(t *testing.T) {
	p := newPlane(t)
	z := p.zone("a.test")
	long := strings.Repeat("x", 5000)
	for _, call := range []struct{ method, path, body, limit string }{
		{"POST", z + "/dns_records", `{"type":"A","name":"x","content":"192.0.2.1","comment":"` + long + `"}`, "500"},
		{"POST", z + "/dns_records", `{"type":"A","name":"x","content":"192.0.2.1","tags":["` + long + `"]}`, ""},
		{"POST", z + "/dns_records", `{"type":"A","name":"` + strings.Repeat("a.", 130) + `a","content":"192.0.2.1"}`, "253"},
		{"POST", "/zones", `{"name":"` + strings.Repeat("a.", 130) + `test"}`, ""},
		{"PUT", z + "/rulesets/phases/http_request_origin/entrypoint", `{"rules":[],"description":"` + strings.Repeat("x", zone.MaxRulesetBytes) + `"}`, ""},
		{"PATCH", z + "/settings/browser_cache_ttl", `{"value":31536001}`, "31536000"},
		{"PUT", "/selvage/v1" + z + "/topology", `{"mode":"custom","parents":[` + strings.Repeat(`"FRA",`, 16) + `"FRA"]}`, "16"},
		{"POST", z + "/purge_cache", `{"tags":["` + long + `"]}`, ""},
		{"PUT", "/selvage/v1/kill/cache", `{"reason":"` + long + `"}`, "500"},
		{"PATCH", z + "/settings/ssl", `{"value":"` + strings.Repeat("x", 2<<20) + `"}`, "1048576"},
	} {
		head, _ := p.publish.Head()
		a := p.call(call.method, call.path, call.body)
		if now, _ := p.publish.Head(); a.Status < 400 || a.Status >= 500 || now != head || !strings.Contains(a.message(), call.limit) || !strings.ContainsAny(a.message(), "0123456789") {
			t.Errorf("%s %s %.60s…: %d %s", call.method, call.path, call.body, a.Status, a.Body)
		}
	}
}
