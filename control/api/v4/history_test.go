package v4_test

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"
)

type pastAnswer struct {
	Floor   uint64
	Changes []struct {
		Seq           uint64
		Actor, Action string
		Changes       []struct {
			Part          string
			Before, After json.RawMessage
		}
		More int
	}
}

func number(t *testing.T, a *answer) uint64 {
	t.Helper()
	n, err := strconv.ParseUint(a.Seq, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestHistoryTellsEachChangeAndRollbackTakesThemBack(t *testing.T) {
	p := newPlane(t)
	z := p.zone("a.test")
	ours := "/selvage/v1" + z
	var r struct{ ID string }
	made := number(t, p.ok("POST", z+"/dns_records", `{"type":"TXT","name":"x","content":"<one>","ttl":60}`, &r))
	p.ok("PATCH", z+"/dns_records/"+r.ID, `{"content":"two"}`, nil)
	p.ok("PATCH", z+"/settings/brotli", `{"value":"off"}`, nil)
	p.ok("PUT", z+"/rulesets/phases/http_request_cache_settings/entrypoint", `{"rules": [ ]}`, nil)
	cert := number(t, p.ok("POST", z+"/custom_certificates", issue(t, ecKey(t), time.Now().Add(time.Hour), "a.test").body(), nil))
	last := number(t, p.ok("DELETE", z+"/dns_records/"+r.ID, "", nil))

	var h pastAnswer
	a := p.ok("GET", ours+"/history", "", &h)
	if len(h.Changes) != 8 || h.Changes[0].Seq != last || h.Changes[7].Action != "zone.create" {
		t.Fatalf("history: %s", a.Result)
	}
	two := h.Changes[5].Changes[0]
	if two.Part != "dns_records/"+r.ID || !strings.Contains(string(two.Before), `"content":"\u003cone\u003e"`) || !strings.Contains(string(two.After), `"content":"two"`) || len(h.Changes[5].Changes) != 1 {
		t.Errorf("the second change of the record: %s → %s in %s", two.Before, two.After, two.Part)
	}
	if strings.Contains(string(a.Body), "sealed") || strings.Contains(string(a.Body), "data_key") || strings.Contains(string(a.Body), "PRIVATE") {
		t.Errorf("history speaks of keys: %s", a.Body)
	}
	p.ok("GET", ours+"/history?limit=2&before="+fmt.Sprint(cert), "", &h)
	if len(h.Changes) != 2 || h.Changes[0].Action != "certificate.create" {
		t.Errorf("a page of two: %+v", h.Changes)
	}
	p.bad("GET", ours+"/history?limit=0", "", 400, 6003, "limit: ")
	p.bad("GET", ours+"/history?before=x", "", 400, 6003, "before: ")
	for _, call := range []string{"GET /history", "POST /rollback"} {
		method, path, _ := strings.Cut(call, " ")
		if a := p.raw(method, ours+path, "application/json", "stranger", `{"to":1}`); a.Status != 404 {
			t.Errorf("a stranger's %s: %d %s", call, a.Status, a.Body)
		}
	}

	head, _ := p.publish.Head()
	if dry := p.call("POST", ours+"/rollback", fmt.Sprintf(`{"to":%d,"dry_run":true,"certificates":"keep"}`, made)); dry.Status != 200 || dry.Seq != "" || !strings.Contains(string(dry.Result), "rulesets/http_request_cache_settings") {
		t.Errorf("a dry run: %d %s", dry.Status, dry.Body)
	}
	if now, _ := p.publish.Head(); now != head {
		t.Errorf("a dry run published entry %d", now)
	}
	p.bad("POST", ours+"/rollback", fmt.Sprintf(`{"to":%d,"from":%d}`, made, cert), 409, 1409, "the zone has changed since")
	p.ok("POST", ours+"/rollback", fmt.Sprintf(`{"to":%d,"from":%d,"certificates":"keep"}`, made, last), nil)
	if now, _ := p.publish.Head(); now != head+1 {
		t.Errorf("the rollback made %d entries, want one", now-head)
	}
	var back struct{ ID, Content string }
	p.ok("GET", z+"/dns_records/"+r.ID, "", &back)
	if back.Content != "<one>" {
		t.Errorf("the record says %q, want <one>", back.Content)
	}
	p.bad("GET", z+"/rulesets/phases/http_request_cache_settings/entrypoint", "", 404, 10003, "")
	// The same again is nothing new.
	if got := number(t, p.ok("POST", ours+"/rollback", fmt.Sprintf(`{"to":%d,"certificates":"keep"}`, made), nil)); got != head+1 {
		t.Errorf("an identical rollback has the number %d, want %d", got, head+1)
	}

	p.bad("POST", ours+"/rollback", `{}`, 400, 6003, "to: ")
	p.bad("POST", ours+"/rollback", `{"to":99}`, 400, 6003, "to: 99 is not given out yet")
	p.bad("POST", ours+"/rollback", `{"to":1,"certificates":"drop"}`, 400, 6003, "certificates: ")
	other := p.zone("b.test")
	p.bad("POST", "/selvage/v1"+other+"/rollback", `{"to":1}`, 409, 1409, "to: the zone did not exist then")
	p.bad("POST", "/selvage/v1/zones/"+strings.Repeat("0", 32)+"/rollback", `{"to":1}`, 404, 1001, "zone_id")

	// What a certificate's deletion erased does not come back, the rest does.
	p.ok("DELETE", z, "", nil)
	p.bad("POST", ours+"/rollback", fmt.Sprintf(`{"to":%d}`, last), 409, 1409, "certificates: the keys of these certificates have been erased")
	p.ok("POST", ours+"/rollback", fmt.Sprintf(`{"to":%d,"certificates":"keep"}`, made), nil)
	p.ok("GET", z+"/dns_records/"+r.ID, "", nil)
}

func TestKillSwitches(t *testing.T) {
	p := newPlane(t)
	z := p.zone("a.test")
	id := strings.TrimPrefix(z, "/zones/")
	var k struct {
		Name, Reason, By string
		Since            time.Time
		Expires          *time.Time
	}
	seq := number(t, p.ok("PUT", "/selvage/v1/kill/cache", `{"reason":"a bug","ttl":3600}`, &k))
	if k.Name != "cache" || k.Reason != "a bug" || k.By == "" || k.Expires == nil || time.Until(*k.Expires) > time.Hour || k.Since.IsZero() {
		t.Errorf("set: %+v", k)
	}
	p.ok("PUT", "/selvage/v1/kill/zone/"+id, `{"reason":"abuse"}`, nil)
	if got := number(t, p.ok("PUT", "/selvage/v1/kill/zone/"+id, `{"reason":"abuse"}`, nil)); got != seq+1 {
		t.Errorf("set again for the same reason: %d, want %d", got, seq+1)
	}
	var all []struct{ Name string }
	p.ok("GET", "/selvage/v1/kill", "", &all)
	if len(all) != 2 || all[0].Name != "cache" || all[1].Name != "zone/"+id {
		t.Errorf("list: %+v", all)
	}
	p.ok("GET", "/selvage/v1/kill/cache", "", &k)
	p.ok("DELETE", "/selvage/v1/kill/cache", "", nil)
	p.bad("DELETE", "/selvage/v1/kill/cache", "", 404, 7003, "the switch cache is not set")
	p.bad("GET", "/selvage/v1/kill/cache", "", 404, 1411, "name: the switch cache is not set")
	p.bad("PUT", "/selvage/v1/kill/nothing", `{"reason":"x"}`, 404, 1411, "name: ")
	p.bad("PUT", "/selvage/v1/kill/zone/x", `{"reason":"x"}`, 400, 7003, "name: ")
	p.bad("PUT", "/selvage/v1/kill/zone/"+strings.Repeat("0", 32), `{"reason":"x"}`, 404, 1001, "zone_id: ")
	p.bad("PUT", "/selvage/v1/kill/cache", `{"reason":" "}`, 400, 6003, "reason: is missing")
	p.bad("PUT", "/selvage/v1/kill/cache", `{"reason":"`+strings.Repeat("x", 501)+`"}`, 400, 6003, "reason: at most 500 bytes")
	p.bad("PUT", "/selvage/v1/kill/cache", `{"reason":"x","ttl":0}`, 400, 6003, "ttl: ")
	p.bad("PUT", "/selvage/v1/kill/cache", `{"reason":"x","expires":"2001-01-01T00:00:00Z"}`, 400, 6003, "expires: ")
	// A limit that is misspelt is not none.
	p.bad("PUT", "/selvage/v1/kill/cache", `{"reason":"x","until":"2001-01-01T00:00:00Z"}`, 400, 6007, "until: is no field of this call")
	p.bad("PUT", "/selvage/v1/kill/cache", `null`, 400, 6007, "body: must be an object")
	p.bad("POST", "/selvage/v1"+z+"/rollback", `{"to":1,"form":1}`, 400, 6007, "form: ")

	// The control plane clears what is over, and nothing else.
	p.ok("PUT", "/selvage/v1/kill/tiers", `{"reason":"x","ttl":60}`, &k)
	next, err := p.publish.ExpireKills(t.Context(), time.Now())
	if err != nil || !next.Equal(*k.Expires) {
		t.Errorf("next expiry %v (%v), want %v", next, err, k.Expires)
	}
	if next, err = p.publish.ExpireKills(t.Context(), time.Now().Add(time.Hour)); err != nil || !next.IsZero() {
		t.Errorf("next expiry %v (%v), want none", next, err)
	}
	p.ok("GET", "/selvage/v1/kill", "", &all)
	if len(all) != 1 || all[0].Name != "zone/"+id {
		t.Errorf("after an hour: %+v", all)
	}
}
