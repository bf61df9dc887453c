package v4_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/selvage-edge/selvage/control/api"
)

// byRings is a call that asks for rings.
func (p *plane) byRings(method, path, body string) *answer {
	p.t.Helper()
	return p.with(map[string]string{api.RolloutHeader: api.RolloutRings}, method, path, "application/json", secret, body)
}

type shownRollout struct {
	Stage                 uint64
	Text, State, Ring     string
	ZoneName              string `json:"zone_name"`
	Action                string
	Has, Keys             []string
	Of                    int
	Steps                 []struct{ What, By, Why, Ring string }
	Rings                 struct{ Canaries []string }
	Live, Next            *string
	Memory, Undo, Changes json.RawMessage // the API does not show
}

func TestChangeGoesByRings(t *testing.T) {
	p := newPlane(t)
	zone := p.zone("example.com")
	p.ok("PUT", "/selvage/v1/rings", `{"canaries":["AMS"],"share_percent":0,"canary_hold_seconds":60,"share_hold_seconds":60}`, nil)
	a := p.byRings("PATCH", zone+"/settings/ssl", `{"value":"strict"}`)
	if a.Status != 200 || a.Stage != "1" || a.Seq == "" || !strings.Contains(string(a.Messages), "as stage 1, to AMS first") {
		t.Fatalf("%d %s, stage %q", a.Status, a.Body, a.Stage)
	}
	var setting struct{ Value string }
	if p.ok("GET", zone+"/settings/ssl", "", &setting); setting.Value != "strict" {
		t.Errorf("read back as %q", setting.Value)
	}
	p.bad("PATCH", zone+"/settings/brotli", `{"value":"off"}`, 409, api.CodeConflict, "stage 1, ")
	p.bad("PATCH", "/selvage/v1"+zone+"/settings/zstd", `{"value":"off"}`, 409, api.CodeConflict, "stage 1, ")
	var r shownRollout
	p.ok("GET", "/selvage/v1/rollouts/1", "", &r)
	if r.State != "pending" || r.Ring != "canary" || r.ZoneName != "example.com" || r.Action != "setting.patch" || len(r.Has) != 1 || r.Has[0] != "AMS" || r.Of != 2 ||
		len(r.Keys) != 1 || len(r.Steps) != 1 || r.Memory != nil || r.Undo != nil || r.Changes != nil {
		t.Errorf("%+v", r)
	}
	if want := "in ring canary: 1 of 2 data centers (AMS), waiting until their nodes have it"; r.Text != want {
		t.Errorf("%q, want %q", r.Text, want)
	}
	p.ok("POST", "/selvage/v1/rollouts/1/halt", `{"reason":"it is Friday"}`, &r)
	if r.State != "halted" || len(r.Has) != 0 || r.Steps[1].Why != "it is Friday" || !strings.HasSuffix(r.Text, ": it is Friday") {
		t.Errorf("%+v", r)
	}
	if p.ok("GET", zone+"/settings/ssl", "", &setting); setting.Value != "full" {
		t.Errorf("after the halt %q", setting.Value)
	}
	p.bad("POST", "/selvage/v1/rollouts/1/halt", "", 409, api.CodeConflict, "stage 1 is not on its way any more")

	a = p.byRings("POST", zone+"/dns_records", `{"type":"A","name":"www","content":"192.0.2.1","proxied":true}`)
	if a.Status != 200 || a.Stage != "2" {
		t.Fatalf("%d %s", a.Status, a.Body)
	}
	p.ok("POST", "/selvage/v1/rollouts/2/release", "", &r)
	if r.Ring != "share" || r.State != "pending" {
		t.Errorf("%+v", r)
	}
	p.ok("POST", "/selvage/v1/rollouts/2/release", `{"ring":"all","reason":"it is urgent"}`, &r)
	if r.State != "released" || len(r.Has) != 2 {
		t.Errorf("%+v", r)
	}
	var all []shownRollout
	if p.ok("GET", "/selvage/v1/rollouts", "", &all); len(all) != 2 || all[0].Stage != 2 {
		t.Errorf("%+v", all)
	}
	if a := p.raw("GET", "/selvage/v1/rollouts", "", "stranger", ""); string(a.Result) != "[]" {
		t.Errorf("another account sees %s", a.Body)
	}
	if a := p.raw("POST", "/selvage/v1/rollouts/2/halt", "", "stranger", ""); a.Status != 404 {
		t.Errorf("another account halts: %d %s", a.Status, a.Body)
	}
}

func TestRolloutIsRefused(t *testing.T) {
	p := newPlane(t)
	zone := p.zone("example.com")
	refused := func(how, method, path, body, want string) {
		t.Helper()
		head, _ := p.publish.Head()
		a := p.with(map[string]string{api.RolloutHeader: how}, method, path, "application/json", secret, body)
		if a.Status != 400 || !strings.HasPrefix(a.message(), want) {
			t.Errorf("%s %s: %d %s, want %q", method, path, a.Status, a.Body, want)
		}
		if now, _ := p.publish.Head(); now != head {
			t.Errorf("%s %s: a refused call published entry %d", method, path, now)
		}
	}
	const cannot = api.RolloutHeader + ": this change cannot go by rings"
	refused("slowly", "PATCH", zone+"/settings/ssl", `{"value":"off"}`, api.RolloutHeader+": must be all or rings")
	refused("rings", "POST", "/zones", `{"name":"example.org"}`, cannot)
	refused("rings", "DELETE", zone, "", cannot)
	refused("rings", "POST", zone+"/purge_cache", `{"purge_everything":true}`, cannot)
	refused("rings", "POST", "/selvage/v1"+zone+"/purge", `{"purge_everything":true}`, cannot)
	refused("rings", "POST", zone+"/custom_certificates", `{}`, cannot)
	refused("rings", "POST", zone+"/cache/cache_reserve_clear", `{}`, cannot)
	refused("rings", "POST", "/selvage/v1/join-tokens", "", cannot)
	refused("rings", "PUT", "/selvage/v1/rings", `{}`, cannot)
	refused("rings", "PATCH", zone+"/settings/development_mode", `{"value":"on"}`, "development_mode: ends by itself")
	refused("rings", "PATCH", zone+"/settings/ssl", `{"value":"fulll"}`, "ssl: ")
	p.bad("PUT", "/selvage/v1/rings", `{"canaries":["fra"]}`, 400, api.CodeBadRequest, "canaries[0]: ")
	p.bad("PUT", "/selvage/v1/rings", `{"canary":["FRA"]}`, 400, api.CodeBody, "canary: ")
	p.ok("PUT", "/selvage/v1/rings", `{"canaries":["AMS"],"colos":{"canary":["AMS"]}}`, nil)
	p.bad("PUT", "/selvage/v1/rings", `{"share_percent":100}`, 400, api.CodeBadRequest, "share_percent: ")
	p.bad("POST", "/selvage/v1/rollouts/0/halt", "", 400, api.CodeIdentifier, "stage: ")
	p.bad("POST", "/selvage/v1/rollouts/7/halt", "", 404, api.CodeIdentifier, "rollout not found")
	p.bad("POST", "/selvage/v1/rollouts/7/halt", `{"reason":"`+strings.Repeat("x", 513)+`"}`, 400, api.CodeBadRequest, "reason: at most 512 bytes")
	p.bad("POST", "/selvage/v1/rollouts/7/release", `{"ring":5}`, 400, api.CodeBody, "ring: must be a string, got number")
	if a := p.with(map[string]string{api.RolloutHeader: "rings"}, "GET", zone, "", secret, ""); a.Status != 200 {
		t.Errorf("a read that asks for rings: %d", a.Status)
	}
	if a := p.byRings("PATCH", zone+"/settings/ssl", `{"value":"off"}`); a.Status != 200 || a.Stage != "1" {
		t.Fatalf("%d %s", a.Status, a.Body)
	}
	if a := p.byRings("POST", zone+"/dns_records", `{"type":"A","name":"www","content":"192.0.2.1"}`); a.Status != 409 {
		t.Errorf("a second stage of the zone: %d %s", a.Status, a.Body)
	}
	p.bad("POST", "/selvage/v1/rollouts/1/release", `{"ring":"canary"}`, 409, api.CodeConflict, "ring: ")
	p.bad("POST", "/selvage/v1/rollouts/1/release", `{"ring":"none"}`, 400, api.CodeBody, "")
}
