package origin

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/selvage-edge/selvage/edge/request"
	"github.com/selvage-edge/selvage/zone"
)

func record(name, kind, content string, proxied bool) zone.Record {
	return zone.Record{Name: name, Type: kind, Content: content, Proxied: proxied}
}

func TestProxiedFollowsDNSWildcards(t *testing.T) {
	p, err := Compile(&zone.Spec{Records: []zone.Record{
		record("shop.test", "A", "192.0.2.1", true),
		record("*.shop.test", "A", "192.0.2.2", true),
		record("direct.shop.test", "A", "192.0.2.3", false),
		record("a.deep.shop.test", "TXT", "x", false),
		record("*.sub.shop.test", "CNAME", "elsewhere.example", true),
		record("mail.shop.test", "MX", "mx.example", false),
		record("*.off.shop.test", "A", "192.0.2.4", false),
	}})
	if err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]string{
		"shop.test":           "192.0.2.1",
		"www.shop.test":       "192.0.2.2",
		"x.y.z.shop.test":     "192.0.2.2",
		"direct.shop.test":    "",                  // exists, not proxied
		"x.direct.shop.test":  "",                  // the closest name has no wildcard
		"deep.shop.test":      "",                  // exists as an empty non-terminal
		"b.deep.shop.test":    "",                  // which shields what is below
		"a.deep.shop.test":    "",                  //
		"x.sub.shop.test":     "elsewhere.example", //
		"x.y.sub.shop.test":   "elsewhere.example", //
		"sub.shop.test":       "",                  // only names below it
		"mail.shop.test":      "",                  //
		"x.off.shop.test":     "",                  //
		"other.test":          "",
		"test":                "",
		"":                    "",
		"evilshop.test":       "",
		"shop.test.evil.test": "",
	} {
		got := ""
		if e := p.find([]byte(host)); e != nil {
			got = strings.Join(e.targets, " ")
		}
		if got != want || p.Proxied([]byte(host)) != (want != "") {
			t.Errorf("%q: got %q, want %q", host, got, want)
		}
	}
	if (*Plan)(nil).Proxied([]byte("shop.test")) {
		t.Error("a nil plan proxies something")
	}
}

func TestAliasesInsideTheZoneAreFollowed(t *testing.T) {
	p, err := Compile(&zone.Spec{Records: []zone.Record{
		record("shop.test", "A", "192.0.2.1", true),
		record("shop.test", "AAAA", "2606:4700::1", true),
		record("www.shop.test", "CNAME", "Shop.Test.", true),
		record("w3.shop.test", "CNAME", "www.shop.test", true),
		record("*.w.shop.test", "A", "192.0.2.9", false),
		record("wild.shop.test", "CNAME", "any.w.shop.test", true),
		record("gone.shop.test", "CNAME", "nowhere.shop.test", true),
		record("out.shop.test", "CNAME", "app.host.example", true),
	}})
	if err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]string{
		"www.shop.test":  "192.0.2.1 2606:4700::1",
		"w3.shop.test":   "192.0.2.1 2606:4700::1",
		"wild.shop.test": "192.0.2.9",
		"gone.shop.test": "nowhere.shop.test",
		"out.shop.test":  "app.host.example",
	} {
		if got := strings.Join(p.find([]byte(host)).targets, " "); got != want {
			t.Errorf("%s: got %q, want %q", host, got, want)
		}
	}
}

func TestCompileNamesTheFieldItRefuses(t *testing.T) {
	rules := func(body string) []zone.Ruleset {
		return []zone.Ruleset{{Phase: Phase, Body: json.RawMessage(body)}}
	}
	for _, c := range []struct {
		spec zone.Spec
		want string
	}{
		{zone.Spec{Records: []zone.Record{record("a.test", "CNAME", "b.test", true), record("b.test", "CNAME", "a.test", true)}}, "dns_records: a.test: content: CNAME records lead in a circle"},
		{zone.Spec{Records: []zone.Record{record("a.test", "A", "nonsense", true)}}, `dns_records: a.test: content: must be an address for type A, got "nonsense"`},
		{zone.Spec{Records: []zone.Record{record("a.test", "A", "::1", true)}}, "dns_records: a.test: content: must be an address for type A"},
		{zone.Spec{Records: []zone.Record{record("a.test", "AAAA", "1.2.3.4", true)}}, "dns_records: a.test: content: must be an address for type AAAA"},
		{zone.Spec{Records: []zone.Record{record("a.test", "CNAME", "no spaces", true)}}, "dns_records: a.test: content: must be a host name"},
		{zone.Spec{Settings: zone.Settings{"ssl": []byte(`"maybe"`)}}, "settings: ssl: value must be"},
		{zone.Spec{Rulesets: rules(`{"rules":3}`)}, "rulesets: http_request_origin: rules: must be a JSON array"},
	} {
		_, err := Compile(&c.spec)
		if err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("got %v, want %q", err, c.want)
		}
	}
	p, err := Compile(&zone.Spec{Records: []zone.Record{record("a.test", "A", "192.0.2.1", false)}})
	if p != nil || err != nil {
		t.Errorf("a zone that proxies nothing: got %v, %v; want nil, nil", p, err)
	}
}

const goodRule = `{"expression":"true","action":"route","action_parameters":{"origin":{"host":"app.example","port":9000},"host_header":"Inner.example:8080","sni":{"value":"tls.example"}},"enabled":true,"description":"x"}`

func TestRulesOverrideRoute(t *testing.T) {
	for _, c := range []struct {
		body string
		want request.Route
	}{
		{`{"rules":[` + goodRule + `]}`, request.Route{Host: "app.example", Port: 9000, HostHeader: "inner.example:8080", SNI: "tls.example"}},
		{`{"rules":[{"expression":"true","action":"route","action_parameters":{"origin":{"port":81}}}]}`, request.Route{Port: 81}},
		{`{"rules":[{"expression":"true","action":"route","action_parameters":{"host_header":"h.example"}}]}`, request.Route{HostHeader: "h.example"}},
		{`{"rules":[{"expression":"true","action":"route","action_parameters":{"origin":{"host":"[2606:4700::1]"}}}]}`, request.Route{Host: "2606:4700::1"}},
		{`{"rules":[{"expression":"false","action":"route","action_parameters":{"origin":{"port":81}}}]}`, request.Route{}},
		{`{"rules":[{"expression":"true","action":"route","enabled":false,"action_parameters":{"origin":{"port":81}}}]}`, request.Route{}},
		{`{"rules":[` + goodRule + `,{"expression":"true","action":"route","action_parameters":{"origin":{"port":1}}}]}`, request.Route{Host: "app.example", Port: 1, HostHeader: "inner.example:8080", SNI: "tls.example"}},
		{`{"name":"n","kind":"zone","phase":"http_request_origin","description":"","rules":[]}`, request.Route{}},
		{`{}`, request.Route{}},
	} {
		rules, err := CompileRules(json.RawMessage(c.body))
		if err != nil {
			t.Errorf("%s: %v", c.body, err)
			continue
		}
		var got request.Route
		if rules != nil {
			rules.apply(nil, &got)
		}
		if got != c.want {
			t.Errorf("%s: got %+v, want %+v", c.body, got, c.want)
		}
	}
}

func TestRulesRefuseWithThePath(t *testing.T) {
	param := func(p string) string {
		return `{"rules":[{"expression":"true","action":"route","action_parameters":` + p + `}]}`
	}
	for _, c := range []struct{ body, want string }{
		{``, "body: must be a JSON object"},
		{`[]`, "body: must be a JSON object"},
		{`{"rules":[]}x`, "body: something follows the JSON value"},
		{`{"rules":[]`, "body: is not JSON"},
		{`{"rules":{}}`, "rules: must be a JSON array"},
		{`{"rulez":[]}`, "rulez: no field has this name"},
		{`{"rules":[],"rules":[]}`, "rules: stands here twice"},
		{`{"phase":"http_request_cache"}`, `phase: must be "http_request_origin"`},
		{`{"rules":[3]}`, "rules[0]: must be a JSON object"},
		{`{"rules":[{}]}`, "rules[0].expression: is needed"},
		{`{"rules":[{"expression":"true"}]}`, "rules[0].action: is needed"},
		{`{"rules":[{"expression":"true","action":"route"}]}`, "rules[0].action_parameters: is needed"},
		{`{"rules":[{"expression":"maybe"}]}`, "rules[0].expression: column 1: expected a field"},
		{`{"rules":[{"expression":1}]}`, "rules[0].expression: must be a string, got 1"},
		{`{"rules":[{"action":"block"}]}`, `rules[0].action: must be "route", got "block"`},
		{`{"rules":[{"enabled":"yes"}]}`, `rules[0].enabled: must be true or false, got "yes"`},
		{`{"rules":[{"enabled":null}]}`, "rules[0].enabled: must be true or false, got null"},
		{`{"rules":[{"what":1}]}`, "rules[0].what: no field has this name"},
		{`{"rules":[` + goodRule + `,{"what":1}]}`, "rules[1].what: no field has this name"},
		{param(`{}`), "rules[0].action_parameters: one of origin, host_header and sni is needed"},
		{param(`{"x":1}`), "rules[0].action_parameters.x: no field has this name"},
		{param(`{"origin":{}}`), "rules[0].action_parameters.origin: one of host and port is needed"},
		{param(`{"origin":{"port":0}}`), "rules[0].action_parameters.origin.port: must be 1..65535, got 0"},
		{param(`{"origin":{"port":65536}}`), "rules[0].action_parameters.origin.port: must be 1..65535, got 65536"},
		{param(`{"origin":{"port":-1}}`), "rules[0].action_parameters.origin.port: must be 1..65535, got -1"},
		{param(`{"origin":{"port":"80"}}`), `rules[0].action_parameters.origin.port: must be 1..65535, got "80"`},
		{param(`{"origin":{"port":80.5}}`), "rules[0].action_parameters.origin.port: must be 1..65535, got 80.5"},
		{param(`{"origin":{"host":""}}`), "rules[0].action_parameters.origin.host: must be a host name or an address"},
		{param(`{"origin":{"host":"a b"}}`), "rules[0].action_parameters.origin.host: must be a host name or an address"},
		{param(`{"origin":{"host":"http://x"}}`), "rules[0].action_parameters.origin.host: must be a host name or an address"},
		{param(`{"origin":{"host":"fe80::1%eth0"}}`), "rules[0].action_parameters.origin.host: must be a host name or an address"},
		{param(`{"origin":{"host":"x","path":"/"}}`), "rules[0].action_parameters.origin.path: no field has this name"},
		{param(`{"host_header":"a\r\nb"}`), "rules[0].action_parameters.host_header: must be a host name"},
		{param(`{"host_header":"a:0"}`), "rules[0].action_parameters.host_header: must be a host name"},
		{param(`{"host_header":""}`), "rules[0].action_parameters.host_header: must be a host name"},
		{param(`{"sni":"x"}`), "rules[0].action_parameters.sni: must be a JSON object"},
		{param(`{"sni":{"value":"1.2.3.4"}}`), "rules[0].action_parameters.sni.value: must be a host name"},
		{param(`{"sni":{"name":"x"}}`), "rules[0].action_parameters.sni.name: no field has this name"},
		{`{"rules":[` + strings.TrimSuffix(strings.Repeat(goodRule+",", MaxRules+1), ",") + `]}`, "rules: at most 300 are allowed"},
		{strings.Repeat(" ", zone.MaxRulesetBytes+1), "rules: at most 1048576 bytes are allowed"},
	} {
		_, err := CompileRules(json.RawMessage(c.body))
		if err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%.120s: got %v, want %q", c.body, err, c.want)
		}
	}
}

func FuzzCompileRules(f *testing.F) {
	f.Add([]byte(`{"rules":[` + goodRule + `]}`))
	f.Add([]byte(`{"rules":[{"expression":"true","action":"route","action_parameters":{"sni":{"value":"a"}}}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		rules, err := CompileRules(body)
		if err != nil || rules == nil {
			return
		}
		for _, rule := range rules.list {
			r := rule.Set
			if r.host != "" && !isAddr(r.host) && !validName(r.host) || strings.ContainsAny(r.hostHeader+r.sni, "\r\n \x00") {
				t.Errorf("accepted %+v", r)
			}
		}
	})
}

func BenchmarkProxied(b *testing.B) {
	spec := &zone.Spec{Records: []zone.Record{record("*.shop.test", "A", "192.0.2.1", true)}}
	for i := range 1000 {
		spec.Records = append(spec.Records, record(fmt.Sprintf("n%d.shop.test", i), "A", "192.0.2.1", true))
	}
	p, err := Compile(spec)
	if err != nil {
		b.Fatal(err)
	}
	host := []byte("www.shop.test")
	b.ReportAllocs()
	for b.Loop() {
		if !p.Proxied(host) {
			b.Fatal("not proxied")
		}
	}
}
