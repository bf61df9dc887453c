package cache

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/selvage-edge/selvage/edge/request"
	"github.com/selvage-edge/selvage/zone"
)

// configure gives the zone cache rules (the text of the list, "" = none) and
// settings.
func (g *rig) configure(rules string, settings zone.Settings) {
	g.t.Helper()
	spec := &zone.Spec{Settings: settings}
	if rules != "" {
		spec.Rulesets = []zone.Ruleset{{Phase: RulesPhase, Body: json.RawMessage(`{"rules":[` + rules + `]}`)}}
	}
	p, err := Compile(spec)
	if err != nil {
		g.t.Fatalf("%s: %v", rules, err)
	}
	g.plan.base, g.plan.rules, g.plan.level, g.plan.static, g.plan.bypass, g.plan.sortQuery = p.base, p.rules, p.level, p.static, p.bypass, p.sortQuery
}

// rule is one rule in the API's form.
func ruleText(expression, parameters string) string {
	return fmt.Sprintf(`{"expression":%q,"action":"set_cache_settings","action_parameters":{%s}}`, expression, parameters)
}

// step is one request of a story and what becomes of it.
type visit struct {
	after time.Duration
	line  string // and header lines, separated by "\n"
	cache string
}

func TestRulesDecide(t *testing.T) {
	every := func(parameters string) string { return ruleText("true", parameters) }
	for name, test := range map[string]struct {
		rules    string
		settings zone.Settings
		origin   string // field lines separated by "\n"
		status   int
		visits   []visit
	}{
		"cache false bypasses": {rules: every(`"cache":false`), origin: "Cache-Control: max-age=60", visits: []visit{
			{0, "GET /a", "BYPASS"}, {0, "GET /a", "BYPASS"},
		}},
		"the last rule that matches wins": {rules: every(`"cache":false`) + "," + ruleText(`starts_with(http.request.uri.path, "/img/")`, `"cache":true`), origin: "Cache-Control: max-age=60", visits: []visit{
			{0, "GET /a", "BYPASS"}, {0, "GET /img/a", "MISS"}, {0, "GET /img/a", "HIT"},
		}},
		"each setting has a last rule of its own": {
			rules:  every(`"edge_ttl":{"mode":"override_origin","default":60},"cache_key":{"custom_key":{"query_string":{"exclude":"*"}}}`) + "," + every(`"edge_ttl":{"mode":"override_origin","default":10}`),
			origin: "Cache-Control: no-store", visits: []visit{{0, "GET /a?x", "MISS"}, {0, "GET /a?y", "HIT"}, {11 * time.Second, "GET /a?y", "EXPIRED"}},
		},
		"a rule that is off does nothing": {rules: strings.Replace(every(`"cache":false`), "{", `{"enabled":false,`, 1), origin: "Cache-Control: max-age=60", visits: []visit{
			{0, "GET /a", "MISS"},
		}},
		"without freshness nothing is stored": {origin: "X: y", visits: []visit{{0, "GET /a", "DYNAMIC"}, {0, "GET /a", "DYNAMIC"}}},
		"eligible has default freshness":      {rules: every(`"cache":true`), origin: "X: y", visits: []visit{{0, "GET /a", "MISS"}, {119 * time.Minute, "GET /a", "HIT"}, {2 * time.Minute, "GET /a", "EXPIRED"}}},
		"of a missing page three minutes":     {rules: every(`"cache":true`), status: 404, origin: "X: y", visits: []visit{{0, "GET /a", "MISS"}, {2 * time.Minute, "GET /a", "HIT"}, {2 * time.Minute, "GET /a", "EXPIRED"}}},
		"eligible still respects no-store":    {rules: every(`"cache":true`), origin: "Cache-Control: no-store", visits: []visit{{0, "GET /a", "BYPASS"}, {0, "GET /a", "BYPASS"}}},
		"override goes before the origin": {rules: every(`"edge_ttl":{"mode":"override_origin","default":60}`), origin: "Cache-Control: private, no-cache, no-store, max-age=0\nAge: 500", visits: []visit{
			{0, "GET /a", "MISS"}, {59 * time.Second, "GET /a", "HIT"}, {2 * time.Second, "GET /a", "EXPIRED"},
		}},
		"override stores no cookie": {rules: every(`"edge_ttl":{"mode":"override_origin","default":60}`), origin: "Set-Cookie: a=b", visits: []visit{{0, "GET /a", "BYPASS"}, {0, "GET /a", "BYPASS"}}},
		"unless it is stripped":     {rules: every(`"edge_ttl":{"mode":"override_origin","default":60},"strip_set_cookie":true`), origin: "Set-Cookie: a=b", visits: []visit{{0, "GET /a", "MISS"}, {0, "GET /a", "HIT"}}},
		"override shares no answer to a password": {rules: every(`"edge_ttl":{"mode":"override_origin","default":60}`), origin: "Cache-Control: public", visits: []visit{
			{0, "GET /a\nAuthorization: Basic x", "BYPASS"},
		}},
		"status by range goes first": {
			rules:  every(`"edge_ttl":{"mode":"override_origin","default":60,"status_code_ttl":[{"status_code":404,"value":5},{"status_code_range":{"from":400},"value":-1}]}`),
			status: 404, visits: []visit{{0, "GET /a", "MISS"}, {6 * time.Second, "GET /a", "EXPIRED"}},
		},
		"status by range says no-store": {
			rules:  every(`"edge_ttl":{"mode":"override_origin","default":60,"status_code_ttl":[{"status_code_range":{"from":400},"value":-1}]}`),
			status: 410, visits: []visit{{0, "GET /a", "BYPASS"}, {0, "GET /a", "BYPASS"}},
		},
		"status 0 is no-cache": {
			rules:  every(`"edge_ttl":{"mode":"respect_origin","status_code_ttl":[{"status_code_range":{"to":299},"value":0}]}`),
			origin: "Cache-Control: max-age=60\nETag: \"v\"", visits: []visit{{0, "GET /a", "MISS"}, {0, "GET /a", "EXPIRED"}},
		},
		"bypass by default": {rules: every(`"cache":true,"edge_ttl":{"mode":"bypass_by_default"}`), origin: "ETag: \"v\"\nLast-Modified: Mon, 02 Jan 2006 15:04:05 GMT", visits: []visit{
			{0, "GET /a", "BYPASS"}, {0, "GET /a", "BYPASS"},
		}},
		"bypass by default hears the origin": {rules: every(`"cache":true,"edge_ttl":{"mode":"bypass_by_default"}`), origin: "Cache-Control: max-age=5", visits: []visit{{0, "GET /a", "MISS"}, {0, "GET /a", "HIT"}}},
		"no stale while updating": {rules: every(`"serve_stale":{"disable_stale_while_updating":true}`), origin: "Cache-Control: max-age=5, stale-while-revalidate=60", visits: []visit{
			{0, "GET /a", "MISS"}, {6 * time.Second, "GET /a", "EXPIRED"},
		}},
		"origin control off does not store what is to be asked for": {rules: every(`"origin_cache_control":false`), origin: "Cache-Control: no-cache\nETag: \"v\"", visits: []visit{{0, "GET /a", "BYPASS"}}},
		"development mode is above rules": {
			rules: every(`"cache":true`), settings: zone.Settings{"development_mode": []byte(`"on"`)}, origin: "Cache-Control: max-age=60", visits: []visit{{0, "GET /a", "BYPASS"}},
		},
		"level basic": {settings: zone.Settings{"cache_level": []byte(`"basic"`)}, origin: "Cache-Control: max-age=60", visits: []visit{
			{0, "GET /a", "MISS"}, {0, "GET /a", "HIT"}, {0, "GET /a?", "DYNAMIC"}, {0, "GET /a?x", "DYNAMIC"},
		}},
		"level simplified": {settings: zone.Settings{"cache_level": []byte(`"simplified"`)}, origin: "Cache-Control: max-age=60", visits: []visit{
			{0, "GET /a.css?x", "MISS"}, {0, "GET /a.css?y", "HIT"}, {0, "GET /a.css", "HIT"}, {0, "GET /a?x", "MISS"}, {0, "GET /a?y", "MISS"},
		}},
		"static files only": {settings: zone.Settings{"cache_eligibility": []byte(`"static"`)}, origin: "X: y", visits: []visit{
			{0, "GET /a.PNG", "MISS"}, {0, "GET /a.PNG", "HIT"}, {0, "GET /a", "DYNAMIC"}, {0, "GET /a.html", "DYNAMIC"}, {0, "GET /robots.txt", "MISS"}, {0, "GET /a.png/b", "DYNAMIC"},
		}},
		"static files must not be disguised pages": {settings: zone.Settings{"cache_eligibility": []byte(`"static"`)}, origin: "Cache-Control: max-age=60\nContent-Type: text/html", visits: []visit{
			{0, "GET /account/a.css", "BYPASS"}, {0, "GET /account/a.css", "BYPASS"},
		}},
		"a rule goes before static files only": {rules: every(`"cache":true`), settings: zone.Settings{"cache_eligibility": []byte(`"static"`)}, origin: "X: y", visits: []visit{{0, "GET /a", "MISS"}, {0, "GET /a", "HIT"}}},
		"armor keeps disguised pages out": {rules: every(`"cache_key":{"cache_deception_armor":true}`), origin: "Cache-Control: max-age=60\nContent-Type: text/html; charset=utf-8", visits: []visit{
			{0, "GET /account/a.css", "BYPASS"}, {0, "GET /account/a.css", "BYPASS"}, {0, "GET /account", "MISS"},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			g := newRig(t, Config{}, func(r *request.Request) error {
				return reply(r, max(test.status, 200), "x", strings.Split(test.origin, "\n")...)
			})
			if test.status != 0 {
				g.serve = func(r *request.Request) error { return reply(r, test.status, "x", strings.Split(test.origin, "\n")...) }
			}
			g.configure(test.rules, test.settings)
			for i, v := range test.visits {
				g.sleep(v.after)
				line, headers, _ := strings.Cut(v.line, "\n")
				var lines []string
				if headers != "" {
					lines = strings.Split(headers, "\n")
				}
				if a := g.run(line, lines...); a.cache != v.cache {
					t.Errorf("%d: %s is %s, want %s", i, v.line, a.cache, v.cache)
				}
			}
		})
	}
}

func TestRulesBrowserTTL(t *testing.T) {
	for parameters, want := range map[string]string{
		`"browser_ttl":{"mode":"override_origin","default":30}`: "max-age=30", `"browser_ttl":{"mode":"override_origin","default":0}`: "no-cache",
		`"browser_ttl":{"mode":"bypass"}`: "no-store", `"browser_ttl":{"mode":"respect_origin"}`: "public, max-age=7200", `"browser_ttl":{"mode":"bypass_by_default"}`: "public, max-age=60",
	} {
		g := newRig(t, Config{}, always(200, "x", "Cache-Control: public, max-age=60", "Expires: "+at(time.Hour)))
		g.configure(ruleText("true", parameters), zone.Settings{"browser_cache_ttl": []byte("7200")})
		for range 2 {
			if a := g.run("GET /a"); a.get("Cache-Control") != want {
				t.Errorf("%s: %s %q", parameters, a.cache, a.get("Cache-Control"))
			}
		}
	}
	g := newRig(t, Config{}, always(200, "x", "CDN-Cache-Control: max-age=60"))
	g.configure(ruleText("true", `"browser_ttl":{"mode":"bypass_by_default"}`), nil)
	if a := g.run("GET /a"); a.cache != "MISS" || a.get("Cache-Control") != "no-store" {
		t.Errorf("bypass by default: %s %q", a.cache, a.get("Cache-Control"))
	}
}

func TestRulesPassErrorsThrough(t *testing.T) {
	for _, on := range []bool{false, true} {
		status := 200
		g := newRig(t, Config{}, func(r *request.Request) error {
			return reply(r, status, fmt.Sprint(status), "Cache-Control: max-age=5")
		})
		g.configure(ruleText("true", fmt.Sprintf(`"origin_error_page_passthru":%v`, on)), nil)
		g.run("GET /a")
		g.sleep(6 * time.Second)
		status = 503
		want := "STALE 200"
		if on {
			want = "503"
		}
		if a := g.run("GET /a"); !strings.HasSuffix(a.cache+" "+a.body, want) {
			t.Errorf("passthru %v: %s %q", on, a.cache, a.body)
		}
	}
}

func TestRulesStripBeforeStoring(t *testing.T) {
	g := newRig(t, Config{}, always(200, "x", "Cache-Control: max-age=60", `ETag: "v"`, "Last-Modified: Mon, 02 Jan 2006 15:04:05 GMT"))
	g.configure(ruleText("true", `"strip_etags":true,"strip_last_modified":true`), nil)
	for range 2 {
		if a := g.run("GET /a"); a.get("ETag") != "" || a.get("Last-Modified") != "" {
			t.Errorf("%s: ETag %q, Last-Modified %q", a.cache, a.get("ETag"), a.get("Last-Modified"))
		}
	}
}

func TestRulesRefuseNamingTheField(t *testing.T) {
	with := func(parameters string) string { return `{"rules":[` + ruleText("true", parameters) + `]}` }
	long := strings.Repeat("x", maxKeyText+1)
	for body, want := range map[string]string{
		`{"rules":{}}`:   "rules: must be a JSON array",
		`{"phase":"no"}`: `phase: must be "http_request_cache_settings", got "no"`,
		`{"rules":[{"expression":"http.hst eq 1"}]}`:                                           "rules[0].expression: column 1: expected a field",
		`{"rules":[{"expression":"true","action":"route"}]}`:                                   `rules[0].action: must be "set_cache_settings", got "route"`,
		`{"rules":[{"expression":"true","action":"set_cache_settings"}]}`:                      "rules[0].action_parameters: is needed",
		`{"rules":[{"expression":"true","action_parameters":{"cache":true}}]}`:                 "rules[0].action: is needed",
		`{"rules":[{"action":"set_cache_settings","action_parameters":{"cache":true}}]}`:       "rules[0].expression: is needed",
		`{"rules":[` + strings.Repeat(ruleText("true", `"cache":true`)+",", MaxRules) + `{}]}`: "rules: at most 300 are allowed",
		with(``):                                      "rules[0].action_parameters: at least one setting is needed",
		with(`"cache":1`):                             "rules[0].action_parameters.cache: must be true or false, got 1",
		with(`"cach":true`):                           "rules[0].action_parameters.cach: no field has this name",
		with(`"cache":true,"cache":false`):            "rules[0].action_parameters.cache: stands here twice",
		with(`"edge_ttl":{}`):                         "rules[0].action_parameters.edge_ttl.mode: must be one of",
		with(`"edge_ttl":{"mode":"x"}`):               "rules[0].action_parameters.edge_ttl.mode: must be one of",
		with(`"edge_ttl":{"mode":"override_origin"}`): "rules[0].action_parameters.edge_ttl.default: is needed with mode override_origin",
		with(`"edge_ttl":{"mode":"respect_origin","default":5}`):                                                               "rules[0].action_parameters.edge_ttl.default: goes with mode override_origin only",
		with(`"edge_ttl":{"mode":"override_origin","default":-1}`):                                                             "rules[0].action_parameters.edge_ttl.default: must be 0..31536000, got -1",
		with(`"edge_ttl":{"mode":"respect_origin","status_code_ttl":[{"value":1}]}`):                                           "rules[0].action_parameters.edge_ttl.status_code_ttl[0]: needs status_code or status_code_range",
		with(`"edge_ttl":{"mode":"respect_origin","status_code_ttl":[{"status_code":200}]}`):                                   "rules[0].action_parameters.edge_ttl.status_code_ttl[0].value: is needed",
		with(`"edge_ttl":{"mode":"respect_origin","status_code_ttl":[{"status_code":99,"value":1}]}`):                          "rules[0].action_parameters.edge_ttl.status_code_ttl[0].status_code: must be 100..999, got 99",
		with(`"edge_ttl":{"mode":"respect_origin","status_code_ttl":[{"status_code_range":{},"value":1}]}`):                    "rules[0].action_parameters.edge_ttl.status_code_ttl[0].status_code_range: needs from, to or both",
		with(`"edge_ttl":{"mode":"respect_origin","status_code_ttl":[{"status_code_range":{"from":300,"to":200},"value":1}]}`): "rules[0].action_parameters.edge_ttl.status_code_ttl[0].status_code_range: from 300 is above to 200",
		with(`"browser_ttl":{"mode":"no"}`):                                                                                    "rules[0].action_parameters.browser_ttl.mode: must be one of",
		with(`"browser_ttl":{"mode":"bypass","default":1}`):                                                                    "rules[0].action_parameters.browser_ttl.default: goes with mode",
		with(`"cache_reserve":{"minimum_file_size":1}`):                                                                        "rules[0].action_parameters.cache_reserve.eligible: is needed",
		with(`"serve_stale":{"x":true}`):                                                                                       "rules[0].action_parameters.serve_stale.x: no field has this name",
		with(`"read_timeout":0`):                                                                                               "rules[0].action_parameters.read_timeout: must be 1..6000, got 0",
		with(`"additional_cacheable_ports":[0]`):                                                                               "rules[0].action_parameters.additional_cacheable_ports[0]: must be 1..65535",
		with(`"cache_key":{"x":1}`):                                                                                            "rules[0].action_parameters.cache_key.x: no field has this name",
		with(`"cache_key":{"custom_key":{"query_string":{}}}`):                                                                 "rules[0].action_parameters.cache_key.custom_key.query_string: needs include or exclude",
		with(`"cache_key":{"custom_key":{"query_string":{"include":"*","exclude":"*"}}}`):                                      "rules[0].action_parameters.cache_key.custom_key.query_string: needs include or exclude",
		with(`"cache_key":{"custom_key":{"query_string":{"include":[]}}}`):                                                     "rules[0].action_parameters.cache_key.custom_key.query_string.include: must name at least one",
		with(`"cache_key":{"custom_key":{"query_string":{"include":["a&b"]}}}`):                                                `rules[0].action_parameters.cache_key.custom_key.query_string.include: "a&b" is no name`,
		with(`"cache_key":{"custom_key":{"query_string":{"include":{"all":false}}}}`):                                          "rules[0].action_parameters.cache_key.custom_key.query_string.include: needs all: true or a list",
		with(`"cache_key":{"custom_key":{"query_string":{"include":{"all":true,"list":["a"]}}}}`):                              "rules[0].action_parameters.cache_key.custom_key.query_string.include: needs all: true or a list",
		with(`"cache_key":{"custom_key":{"header":{"include":["User-Agent"]}}}`):                                               `rules[0].action_parameters.cache_key.custom_key.header.include: "User-Agent" has too many values`,
		with(`"cache_key":{"custom_key":{"header":{"include":["Cookie"]}}}`):                                                   `rules[0].action_parameters.cache_key.custom_key.header.include: "Cookie" has a part of the key of its own`,
		with(`"cache_key":{"custom_key":{"header":{"include":["CF-Ray"]}}}`):                                                   `rules[0].action_parameters.cache_key.custom_key.header.include: "CF-Ray" is not the visitor's`,
		with(`"cache_key":{"custom_key":{"header":{"include":["a b"]}}}`):                                                      `"a b" is no name of a header`,
		with(`"cache_key":{"custom_key":{"header":{"check_presence":["` + long + `"]}}}`):                                      "is no name of a header",
		with(`"cache_key":{"custom_key":{"header":{"contains":{"a":[]}}}}`):                                                    "rules[0].action_parameters.cache_key.custom_key.header.contains.a: must name at least one value",
		with(`"cache_key":{"custom_key":{"header":{"contains":{"a":["\n"]}}}}`):                                                "rules[0].action_parameters.cache_key.custom_key.header.contains.a: a value has",
		with(`"cache_key":{"custom_key":{"cookie":{"include":["__cfduid"]}}}`):                                                 `"__cfduid" is a cookie of the edge's own`,
		with(`"cache_key":{"custom_key":{"user":{"geo":"yes"}}}`):                                                              "rules[0].action_parameters.cache_key.custom_key.user.geo: must be true or false",
		with(`"cache_key":{"custom_key":{"host":{"resolve":true}}}`):                                                           "rules[0].action_parameters.cache_key.custom_key.host.resolve: no field",
	} {
		rules, err := CompileRules(json.RawMessage(body))
		if err == nil || rules != nil || !strings.Contains(err.Error(), want) || len(err.Error()) > 300 {
			t.Errorf("%.150s: %v\nwant %s", body, err, want)
		}
	}
}

func TestRulesDecideWithoutAllocating(t *testing.T) {
	g, r := primeRules(t)
	g.hit(r)
	if n := testing.AllocsPerRun(1000, func() { r.CachePolicy = nil; g.hit(r) }); n != 0 {
		t.Errorf("%v allocations per hit", n)
	}
}

const benchKey = `"cache_key":{"custom_key":{"query_string":{"exclude":["utm_source","utm_medium"]},"header":{"include":["x-variant"],"contains":{"accept":["webp","avif"]}},"cookie":{"include":["currency"],"check_presence":["session"]},"user":{"device_type":true,"geo":true,"lang":true},"host":{"resolved":true}}}`

// primeRules stores one object under ten rules, two of which match, and a
// custom key.
func primeRules(t testing.TB) (*rig, *request.Request) {
	g := newRig(t, Config{}, always(200, strings.Repeat("x", 1024), "Cache-Control: max-age=86400", "Content-Type: text/html"))
	g.e.clock = nil
	var rules []string
	for i := range 8 {
		rules = append(rules, ruleText(fmt.Sprintf(`http.host eq "host%d.example.com" and starts_with(http.request.uri.path, "/x")`, i), `"cache":false`))
	}
	rules = append(rules, ruleText(`http.host eq "www.example.com"`, `"cache":true,"edge_ttl":{"mode":"override_origin","default":60000}`), ruleText(`http.request.uri.path.extension in {"html" "HTM"}`, benchKey))
	g.configure(strings.Join(rules, ","), nil)
	lines := []string{"Accept: image/webp", "X-Variant: b", "Cookie: session=1; currency=EUR", "Accept-Language: de-DE,en;q=0.5", "User-Agent: Mozilla/5.0 (Linux; Android 10) Mobile"}
	target := "GET /some/path/index.html?b=1&utm_source=x&a=2"
	g.run(target, lines...)
	return g, ask(t.Context(), target, lines...)
}

func BenchmarkHitRules(b *testing.B) {
	g, r := primeRules(b)
	b.ReportAllocs()
	for b.Loop() {
		r.CachePolicy = nil
		g.hit(r)
	}
}

func FuzzCompileRules(f *testing.F) {
	f.Add(`{"rules":[` + ruleText("true", `"cache":true,"edge_ttl":{"mode":"override_origin","default":5,"status_code_ttl":[{"status_code_range":{"from":200,"to":299},"value":-1}]}`) + `]}`)
	f.Add(`{"rules":[` + ruleText(`http.host eq "x"`, benchKey) + `],"phase":"http_request_cache_settings"}`)
	f.Fuzz(func(t *testing.T, body string) {
		rules, err := CompileRules(json.RawMessage(body))
		if err != nil || rules == nil {
			return
		}
		p := &Plan{rules: rules}
		p.compileBases(nil)
		r := ask(t.Context(), "GET /a?b=1&utm_source=2&a=3", "Cookie: a=b; c=d", "Accept-Language: de", "X-Variant: 1")
		pol := p.decide(r)
		if pol != p.decide(r) {
			t.Fatal("decided differently the second time")
		}
		if pol.recipe != nil {
			e := keyMaker
			if k := e.keyBy(pol.recipe, r); !strings.HasPrefix(string(k.text), testZone+" https://") {
				t.Fatalf("key %q", k.text)
			}
		}
	})
}

// An unsafe request that succeeds makes unusable what lies under the key that
// it has itself (RFC 9111 §4.4).
func TestUnsafeRequestsReachTheirOwnCustomKey(t *testing.T) {
	g := newRig(t, Config{}, always(200, "x", "Cache-Control: max-age=60"))
	g.configure(ruleText("true", `"cache_key":{"custom_key":{"query_string":{"exclude":["utm"]},"cookie":{"include":["c"]}}}`), nil)
	for _, v := range []struct{ line, header, want string }{
		{"GET /a?id=1&utm=2", "Cookie: c=1", "MISS"}, {"GET /a?id=1&utm=3", "Cookie: c=1", "HIT"}, {"GET /b", "Cookie: c=1", "MISS"},
		{"POST /a?id=1", "Cookie: c=1", "DYNAMIC"},
		{"GET /a?id=1&utm=3", "Cookie: c=1", "MISS"}, {"GET /b", "Cookie: c=1", "HIT"},
	} {
		if a := g.run(v.line, v.header); a.cache != v.want {
			t.Errorf("%s is %s, want %s", v.line, a.cache, v.want)
		}
	}
}

// A purge of a URL finds what lies under custom keys, and a rule decides again
// after it.
func TestPurgeReachesCustomKeys(t *testing.T) {
	for _, key := range []string{
		`{"custom_key":{"query_string":{"exclude":"*"}}}`, `{"custom_key":{"query_string":{"include":["id"]},"user":{"lang":true}}}`,
		`{"ignore_query_strings_order":false}`, `{"custom_key":{"host":{"resolved":true}}}`,
	} {
		g := newRig(t, Config{}, always(200, "x", "Cache-Control: max-age=60"))
		g.configure(ruleText("true", `"cache_key":`+key), nil)
		g.run("GET /a?id=1&b=2")
		if a := g.run("GET /a?id=1&b=2"); a.cache != "HIT" {
			t.Errorf("%s: %s", key, a.cache)
		}
		g.run("GET /other?id=1")
		if err := g.e.Purge(testZone, 7, zone.Purge{Files: []string{"https://www.example.com/a?b=2&id=1"}}); err != nil {
			t.Fatal(err)
		}
		if a := g.run("GET /a?id=1&b=2"); a.cache != "MISS" {
			t.Errorf("%s: %s after the purge", key, a.cache)
		}
		if a := g.run("GET /other?id=1"); a.cache != "HIT" {
			t.Errorf("%s: %s of another URL", key, a.cache)
		}
	}
}
