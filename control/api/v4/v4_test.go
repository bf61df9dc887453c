package v4_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/selvage-edge/selvage/control/api/selvage"
)

func TestAuthentication(t *testing.T) {
	p := newPlane(t)
	for _, tt := range []struct {
		name, token  string
		status, code int
	}{
		{"missing", "", 401, 10000},
		{"unknown", "nope", 403, 9109},
		{"disabled", "off", 403, 9109},
		{"too long", strings.Repeat("x", 600), 401, 10000},
	} {
		a := p.raw("GET", "/zones", "", tt.token, "")
		if a.Status != tt.status || a.Success || a.Errors[0].Code != tt.code || string(a.Result) != "null" {
			t.Errorf("%s token: got %d %s", tt.name, a.Status, a.Body)
		}
	}
	var got struct{ ID, Status string }
	p.ok("GET", "/user/tokens/verify", "", &got)
	if got.Status != "active" || len(got.ID) != 32 {
		t.Errorf("verify: got %+v", got)
	}
	p.bad("GET", "/nothing", "", 404, 7000, "No route")
	p.bad("PUT", "/zones", "", 405, 7001, "PUT is not available")
}

func TestZones(t *testing.T) {
	p := newPlane(t)
	var z struct {
		ID, Name, Status, Type, OriginalDNSHost string
		Paused                                  bool
		NameServers                             []string `json:"name_servers"`
		Account                                 struct{ ID, Name string }
		Plan, Meta, Owner                       map[string]any
	}
	p.ok("POST", "/zones", `{"name":"Bücher.Example.","type":"full","account":{"id":"`+p.account+`"},"jump_start":true}`, &z)
	if z.Name != "xn--bcher-kva.example" || z.Status != "active" || z.Account.Name != "Test" || len(z.NameServers) != 2 || len(z.ID) != 32 {
		t.Errorf("created zone: %+v", z)
	}
	for _, tt := range []struct {
		body         string
		status, code int
		field        string
	}{
		{``, 400, 6007, "body"},
		{`{`, 400, 6007, "body"},
		{`{}`, 400, 1049, "name"},
		{`{"name":7}`, 400, 6007, "name"},
		{`{"name":""}`, 400, 1049, "name"},
		{`{"name":"localhost"}`, 400, 1049, "name"},
		{`{"name":"a..b"}`, 400, 1049, "name"},
		{`{"name":"192.0.2.1"}`, 400, 1049, "name"},
		{`{"name":"[2001:db8::1]"}`, 400, 1049, "name"},
		{`{"name":"1.2.3.4.5"}`, 400, 1049, "name"},
		{`{"name":"-a.test"}`, 400, 1049, "name"},
		{`{"name":"a_b.test"}`, 400, 1049, "name"},
		{`{"name":"*.a.test"}`, 400, 1049, "name"},
		{`{"name":"` + strings.Repeat("a", 64) + `.test"}`, 400, 1049, "name"},
		{`{"name":"` + strings.Repeat("abcdefgh.", 30) + `test"}`, 400, 1049, "name"},
		{`{"name":"xn--bcher-kva.example"}`, 409, 1061, "name"},
		{`{"name":"ok.test","type":"partial"}`, 400, 6003, "type"},
		{`{"name":"ok.test","account":{"id":"ff"}}`, 400, 6003, "account.id"},
	} {
		p.bad("POST", "/zones", tt.body, tt.status, tt.code, tt.field)
	}
	path := "/zones/" + z.ID
	p.ok("PATCH", path, `{"paused":true}`, &z)
	if !z.Paused {
		t.Error("patch did not pause the zone")
	}
	p.bad("PATCH", path, `{"paused":"yes"}`, 400, 6007, "paused")
	p.bad("GET", "/zones/abc", "", 400, 7003, "zone_id")
	p.bad("GET", "/zones/"+strings.Repeat("00", 16), "", 404, 1001, "zone_id")
	p.ok("DELETE", path, "", nil)
	p.bad("GET", path, "", 404, 1001, "zone_id")
	p.bad("DELETE", path, "", 404, 1001, "zone_id")
}

func TestZoneList(t *testing.T) {
	p := newPlane(t)
	for i := range 7 {
		p.zone(fmt.Sprintf("z%d.test", i))
	}
	for _, tt := range []struct{ query, want string }{
		{"", "z0 z1 z2 z3 z4 z5 z6"},
		{"?per_page=3", "z0 z1 z2"},
		{"?per_page=3&page=3", "z6"},
		{"?per_page=3&page=4", ""},
		{"?direction=desc&per_page=2", "z6 z5"},
		{"?name=z4.test", "z4"},
		{"?name=Z4.TEST", "z4"},
		{"?name=contains:z4", "z4"},
		{"?name=starts_with:Z4", "z4"},
		{"?name=starts_with_case_sensitive:Z4", ""},
		{"?name=ends_with_case_sensitive:5.test", "z5"},
		{"?name=z4.test&status=pending", ""},
		{"?name=none.test", ""},
		{"?status=active&per_page=1", "z0"},
		{"?status=pending", ""},
		{"?account.id=" + p.account + "&per_page=1", "z0"},
		{"?account.id=other", ""},
		{"?match=any&name=z1.test&status=pending", "z1"},
	} {
		var zones []struct{ Name string }
		a := p.ok("GET", "/zones"+tt.query, "", &zones)
		var names []string
		for _, z := range zones {
			names = append(names, strings.TrimSuffix(z.Name, ".test"))
		}
		if got := strings.Join(names, " "); got != tt.want || a.Info == nil {
			t.Errorf("zones%s: got %q, want %q", tt.query, got, tt.want)
		}
		if len(zones) == 0 && string(a.Result) != "[]" {
			t.Errorf("zones%s: result is %s, want []", tt.query, a.Result)
		}
	}
	for _, q := range []string{"page=0", "page=x", "per_page=0", "per_page=-1", "order=size", "direction=up", "status=odd", "match=some"} {
		name, _, _ := strings.Cut(q, "=")
		p.bad("GET", "/zones?"+q, "", 400, 6003, name)
	}
}

func TestAccounts(t *testing.T) {
	p := newPlane(t)
	var all []struct{ ID, Name string }
	p.ok("GET", "/accounts", "", &all)
	if len(all) != 1 || all[0].ID != p.account {
		t.Errorf("accounts: %+v", all)
	}
	p.ok("GET", "/accounts?page=2", "", &all)
	if len(all) != 0 {
		t.Errorf("page 2: %+v", all)
	}
	p.ok("GET", "/accounts/"+p.account, "", nil)
	p.bad("GET", "/accounts/"+strings.Repeat("0", 32), "", 404, 7003, "account_id")
	p.bad("GET", "/accounts/x", "", 400, 7003, "account_id")
	p.ok("GET", "/user", "", nil)
}

func TestRulesetComesBackByteForByte(t *testing.T) {
	p := newPlane(t)
	path := p.zone("rules.test") + "/rulesets/phases/http_request_origin/entrypoint"
	p.bad("GET", path, "", 404, 10003, "could not find entrypoint")
	rules := `[ {"expression" : "true",  "action":"route","description":"a <b> & \u00e9 é",` + "\n\t" +
		`"action_parameters":{"origin":{"port":9000,"host":"127.0.0.1"}}, "enabled":true},{"action":"route","expression":"false","action_parameters":{"origin":{"port":1}}} ]`
	a := p.ok("PUT", path, `{"rules":`+rules+`}`, nil)
	if !strings.Contains(string(a.Body), `"rules":`+rules+`,`) {
		t.Errorf("put: rules changed:\n%s", a.Body)
	}
	first := a.Body
	a = p.ok("GET", path, "", nil)
	if string(a.Body) != string(first) {
		t.Errorf("get differs from put:\n%s\n%s", first, a.Body)
	}
	var r struct{ ID, Kind, Phase, Version, Name string }
	if err := json.Unmarshal(a.Result, &r); err != nil || r.Kind != "zone" || r.Phase != "http_request_origin" || r.Version != "1" || len(r.ID) != 32 {
		t.Errorf("ruleset: %+v, %v", r, err)
	}
	p.ok("PUT", path, `{"rules":[]}`, &r)
	if r.Version != "2" {
		t.Errorf("version after second put: %s", r.Version)
	}
	for _, tt := range []struct {
		body  string
		code  int
		field string
	}{
		{`[]`, 6007, "body"},
		{`{}`, 20015, "rules"},
		{`{"rules":null}`, 20015, "rules"},
		{`{"rules":{}}`, 20015, "rules"},
		{`{"rules":[],"kind":"root"}`, 20015, "kind"},
		{`{"rules":[],"phase":"http_request_sanitize"}`, 20015, "phase"},
		{`{"rules":[{"expression":"tru","action":"route","action_parameters":{"origin":{"port":1}}}]}`, 20015, "rules[0].expression"},
		{`{"rules":[{"expression":"true","action":"block"}]}`, 20015, "rules[0].action"},
		{`{"rules":[{"expression":"true","action":"route","action_parameters":{"origin":{"port":99999}}}]}`, 20015, "rules[0].action_parameters.origin.port"},
	} {
		p.bad("PUT", path, tt.body, 400, tt.code, tt.field)
	}
	p.bad("GET", strings.Replace(path, "http_request_origin", "http_ratelimit", 1), "", 404, 10003, "phase")
	p.bad("PUT", path, `{"rules":[`+strings.Repeat(" ", 1<<20)+`]}`, 413, 10026, "body")
}

func TestPurge(t *testing.T) {
	p := newPlane(t)
	path := p.zone("purge.test") + "/purge_cache"
	p.ok("POST", path, `{"purge_everything":true}`, nil)
	p.ok("POST", path, `{"files":["http://purge.test/a","https://www.purge.test/b?x=1",{"url":"https://PURGE.test/c","headers":{"Origin":"x"}}]}`, nil)
	many := strings.Repeat(`"http://purge.test/a",`, 101)
	for _, tt := range []struct{ body, field string }{
		{`{}`, "files"},
		{`{"files":[]}`, "files"},
		{`{"purge_everything":true,"files":["http://purge.test/"]}`, "purge_everything"},
		{`{"files":[` + strings.TrimSuffix(many, ",") + `]}`, "files"},
		{`{"files":["/path"]}`, "files[0]"},
		{`{"files":["http://purge.test/","ftp://purge.test/"]}`, "files[1]"},
		{`{"files":["http://other.test/"]}`, "files[0]"},
		{`{"files":["http://notpurge.test/"]}`, "files[0]"},
		{`{"files":[5]}`, "files[0]"},
		{`{"files":["http://user:secret@purge.test/"]}`, "files[0]"},
		{`{"files":[{"headers":{}}]}`, "files[0]"},
		{`{"tags":["a,b"]}`, "tags[0]"},
		{`{"prefixes":["purge.test/a","a"]}`, "prefixes[1]"},
		{`{"hosts":["other.test"]}`, "hosts[0]"},
		{`{"hosts":["purge.test"],"soft":true}`, "soft"},
		{`{"reserve":true}`, "reserve"},
	} {
		p.bad("POST", path, tt.body, 400, 1107, tt.field)
	}
	for _, body := range []string{`{"tags":["a","b c"]}`, `{"prefixes":["www.purge.test/img"]}`, `{"hosts":["WWW.purge.test"],"tags":["x"]}`} {
		p.ok("POST", path, body, nil)
		soft := strings.TrimSuffix(body, "}") + `,"soft":true}`
		p.ok("POST", selvage.Prefix+strings.TrimSuffix(path, "_cache"), soft, nil)
	}
	p.bad("POST", selvage.Prefix+strings.TrimSuffix(path, "_cache"), `{"soft":true}`, 400, 1107, "files")
	p.ok("POST", selvage.Prefix+strings.TrimSuffix(path, "_cache"), `{"reserve":true}`, nil)
	p.bad("POST", selvage.Prefix+strings.TrimSuffix(path, "_cache"), `{"reserve":true,"purge_everything":true}`, 400, 1107, "purge_everything")
	p.bad("POST", path, `{"tags":"a"}`, 400, 6007, "tags")
	p.bad("POST", path, `{"purge_everything":"yes"}`, 400, 6007, "purge_everything")
	p.bad("POST", "/zones/"+strings.Repeat("0", 32)+"/purge_cache", `{"purge_everything":true}`, 404, 1001, "zone_id")
}

func TestSettings(t *testing.T) {
	p := newPlane(t)
	path := p.zone("set.test") + "/settings"
	var all []struct {
		ID    string
		Value json.RawMessage
	}
	p.ok("GET", path, "", &all)
	at := slices.IndexFunc(all, func(s struct {
		ID    string
		Value json.RawMessage
	}) bool {
		return s.ID == "browser_cache_ttl"
	})
	if at < 0 || string(all[at].Value) != "0" {
		t.Errorf("settings: %+v", all)
	}
	for _, tt := range []struct{ name, value string }{
		{"browser_cache_ttl", "14400"}, {"ssl", `"strict"`}, {"always_use_https", `"o\u006e"`}, {"min_tls_version", `"1.3"`},
	} {
		for _, call := range []struct{ method, body string }{{"PATCH", `{"value": ` + tt.value + ` }`}, {"GET", ""}} {
			var s struct {
				ID       string
				Value    json.RawMessage
				Modified *string `json:"modified_on"`
			}
			p.ok(call.method, path+"/"+tt.name, call.body, &s)
			if string(s.Value) != tt.value || s.ID != tt.name || s.Modified == nil {
				t.Errorf("%s %s: got %s, want %s", call.method, tt.name, s.Value, tt.value)
			}
		}
	}
	var dev struct {
		Value string
		Left  int `json:"time_remaining"`
	}
	p.ok("PATCH", path+"/development_mode", `{"value":"on"}`, &dev)
	if dev.Value != "on" || dev.Left < 10790 || dev.Left > 10800 {
		t.Errorf("development mode: %+v", dev)
	}
	var z struct {
		Left int `json:"development_mode"`
	}
	p.ok("GET", strings.TrimSuffix(path, "/settings"), "", &z)
	if z.Left < 10790 {
		t.Errorf("zone's development_mode: %d", z.Left)
	}
	p.ok("PATCH", path, `{"items":[{"id":"ssl","value":"full"},{"id":"always_online","value":"off"}]}`, nil)
	p.bad("PATCH", path, `{"items":[{"id":"ssl","value":"flexible"},{"id":"always_online","value":"maybe"}]}`, 400, 1007, "always_online")
	p.bad("PATCH", path, `{"items":[{"id":"nope","value":1}]}`, 400, 1006, "items")
	p.bad("PATCH", path, `{"items":[]}`, 400, 1007, "items")
	var ssl struct{ Value string }
	p.ok("GET", path+"/ssl", "", &ssl)
	if ssl.Value != "full" {
		t.Errorf("a refused list changed ssl to %s", ssl.Value)
	}
	p.bad("GET", path+"/websockets", "", 404, 1006, "websockets")
	p.bad("PATCH", path+"/ssl", `{"value":"bad"}`, 400, 1007, "ssl")
	p.bad("PATCH", path+"/ssl", `{}`, 400, 1007, "ssl")
	p.bad("PATCH", path+"/browser_cache_ttl", `{"value":-1}`, 400, 1007, "browser_cache_ttl")
	p.bad("PATCH", path+"/browser_cache_ttl", `{"value":"1"}`, 400, 1007, "browser_cache_ttl")
	p.bad("PATCH", path+"/min_tls_version", `{"value":"1.0"}`, 400, 1007, "min_tls_version")
}

func TestZonesOfAnotherAccountAreHidden(t *testing.T) {
	p := newPlane(t)
	path := p.zone("mine.test")
	for _, call := range []struct{ method, path, body string }{
		{"GET", path, ""}, {"DELETE", path, ""}, {"PATCH", path, `{"paused":true}`}, {"GET", path + "/dns_records", ""},
		{"POST", path + "/dns_records", `{"type":"A","name":"a","content":"192.0.2.1"}`}, {"POST", path + "/purge_cache", `{"purge_everything":true}`},
		{"GET", path + "/settings", ""}, {"GET", path + "/custom_certificates", ""},
	} {
		a := p.raw(call.method, call.path, "application/json", "stranger", call.body)
		if a.Status != 404 || a.Errors[0].Code != 1001 {
			t.Errorf("%s %s by a stranger: %d %s", call.method, call.path, a.Status, a.Body)
		}
	}
	var zones []json.RawMessage
	if a := p.raw("GET", "/zones", "", "stranger", ""); json.Unmarshal(a.Result, &zones) != nil || len(zones) != 0 {
		t.Errorf("zones of a stranger: %s", a.Body)
	}
}
