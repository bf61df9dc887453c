package v4_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/selvage-edge/selvage/control/api/selvage"
	"github.com/selvage-edge/selvage/zone"
)

func TestCacheSettingsHavePathsOfTheirOwn(t *testing.T) {
	p := newPlane(t)
	z := p.zone("cache.test")
	type setting struct {
		ID         string
		Value      string
		Editable   bool
		ModifiedOn *string `json:"modified_on"`
	}
	for path, want := range map[string][2]string{
		"/cache/cache_reserve": {"cache_reserve", "off"}, "/cache/regional_tiered_cache": {"tc_regional", "off"},
		"/cache/tiered_cache_smart_topology_enable": {"tiered_cache_smart_topology_enable", "on"}, "/argo/tiered_caching": {"tiered_caching", "on"},
	} {
		var s setting
		p.ok("GET", z+path, "", &s)
		if s.ID != want[0] || s.Value != want[1] || !s.Editable || s.ModifiedOn != nil {
			t.Errorf("%s: %+v", path, s)
		}
		other := map[string]string{"on": "off", "off": "on"}[want[1]]
		p.ok("PATCH", z+path, `{"value":"`+other+`"}`, nil)
		p.ok("GET", z+path, "", &s)
		if s.Value != other || s.ModifiedOn == nil {
			t.Errorf("%s: changed, %+v", path, s)
		}
		p.bad("PATCH", z+path, `{"value":"maybe"}`, 400, 1007, want[0])
		p.bad("PATCH", z+path, `{}`, 400, 1007, want[0])
		// They are no settings of the v4 list, and are all of ours.
		p.bad("GET", z+"/settings/"+want[0], "", 404, 1006, want[0])
		p.ok("GET", selvage.Prefix+z+"/settings/"+want[0], "", &s)
		if s.Value != other {
			t.Errorf("%s in our own list: %+v", want[0], s)
		}
	}
	var s setting
	p.ok("DELETE", z+"/cache/tiered_cache_smart_topology_enable", "", &s)
	if s.ID != "tiered_cache_smart_topology_enable" || s.ModifiedOn != nil {
		t.Errorf("deleted: %+v", s)
	}
	if p.ok("GET", z+"/cache/tiered_cache_smart_topology_enable", "", &s); s.Value != "on" {
		t.Errorf("after deleting it: %+v", s)
	}
	p.ok("POST", z+"/cache/tiered_cache_smart_topology_enable", `{"value":"off"}`, nil)
	p.ok("PATCH", selvage.Prefix+z+"/settings/cache_eligibility", `{"value":"static"}`, &s)
	if s.Value != "static" {
		t.Errorf("cache_eligibility: %+v", s)
	}
	p.bad("PATCH", selvage.Prefix+z+"/settings/nope", `{"value":"on"}`, 404, 1006, "nope")
	var all []struct{ ID string }
	p.ok("GET", selvage.Prefix+z+"/settings", "", &all)
	if len(all) != len(zone.SettingTable) {
		t.Errorf("%d settings of %d", len(all), len(zone.SettingTable))
	}
}

func TestTopology(t *testing.T) {
	p := newPlane(t)
	z := p.zone("top.test")
	path := selvage.Prefix + z + "/topology"
	is := func(want string) {
		t.Helper()
		if got := string(p.ok("GET", path, "", nil).Result); got != want {
			t.Errorf("topology %s, want %s", got, want)
		}
	}
	is(`{"mode":"smart","regional":false,"parents":[]}`)
	p.ok("PUT", path, `{"mode":"custom","regional":true,"parents":["FRA","AMS"]}`, nil)
	is(`{"mode":"custom","regional":true,"parents":["FRA","AMS"]}`)
	p.ok("PATCH", z+"/argo/tiered_caching", `{"value":"off"}`, nil)
	is(`{"mode":"flat","regional":true,"parents":[]}`)
	p.ok("PATCH", z+"/argo/tiered_caching", `{"value":"on"}`, nil)
	p.ok("PATCH", z+"/cache/tiered_cache_smart_topology_enable", `{"value":"on"}`, nil)
	is(`{"mode":"smart","regional":true,"parents":[]}`)
	p.ok("PUT", path, `{"mode":"flat"}`, nil)
	is(`{"mode":"flat","regional":false,"parents":[]}`)
	p.bad("PUT", path, `{"mode":"star"}`, 400, 1007, "mode")
	p.bad("PUT", path, `{"mode":"custom"}`, 400, 1007, "parents")
	p.bad("PUT", path, `{"mode":"custom","parents":["fra"]}`, 400, 1007, "parents[0]")
	p.bad("PUT", path, `{"mode":"smart","parents":["FRA"]}`, 400, 1007, "parents")
}

func TestURLNormalization(t *testing.T) {
	p := newPlane(t)
	path := p.zone("norm.test") + "/url_normalization"
	is := func(want string) {
		t.Helper()
		if got := string(p.ok("GET", path, "", nil).Result); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	is(`{"type":"cloudflare","scope":"incoming"}`)
	p.ok("PUT", path, `{"type":"rfc3986","scope":"both"}`, nil)
	is(`{"type":"rfc3986","scope":"both"}`)
	p.bad("PUT", path, `{"type":"rfc3986"}`, 400, 1007, "url_normalization_scope")
	p.bad("PUT", path, `{"type":"other","scope":"both"}`, 400, 1007, "url_normalization_type")
	p.ok("DELETE", path, "", nil)
	is(`{"type":"cloudflare","scope":"incoming"}`)
}

// What was sent comes back byte for byte, and a ruleset with one bad rule is
// not stored in part.
func TestCacheRulesAreStoredWholeOrNotAtAll(t *testing.T) {
	p := newPlane(t)
	path := p.zone("rules.test") + "/rulesets/phases/http_request_cache_settings/entrypoint"
	rules := `[ {"expression":"http.host eq \"a.rules.test\"", "action":"set_cache_settings","action_parameters":{"cache":true,"edge_ttl":{"mode":"override_origin","default":60}}},
		{"expression":"true","action":"set_cache_settings","action_parameters":{"cache":false},"enabled":false} ]`
	p.ok("PUT", path, `{"rules":`+rules+`}`, nil)
	for _, bad := range []struct{ rule, field string }{
		{`{"expression":"http.hots eq \"a\"","action":"set_cache_settings","action_parameters":{"cache":true}}`, "rules[1].expression: column 1: expected a field"},
		{`{"expression":"true","action":"set_cache_settings","action_parameters":{"edge_ttl":{"mode":"override_origin"}}}`, "rules[1].action_parameters.edge_ttl.default: is needed"},
		{`{"expression":"true","action":"route","action_parameters":{}}`, `rules[1].action: must be "set_cache_settings"`},
	} {
		p.bad("PUT", path, `{"rules":[{"expression":"true","action":"set_cache_settings","action_parameters":{"cache":false}},`+bad.rule+`]}`, 400, 20015, bad.field)
	}
	var got struct {
		Rules   json.RawMessage
		Phase   string
		Version string
	}
	a := p.ok("GET", path, "", &got)
	if !strings.Contains(string(a.Body), `"rules":`+rules) || got.Phase != "http_request_cache_settings" || got.Version != "1" {
		t.Errorf("came back as %s", a.Body)
	}
}

func TestVariants(t *testing.T) {
	p := newPlane(t)
	path := p.zone("images.test") + "/cache/variants"
	for _, method := range []string{"GET", "DELETE"} {
		p.bad(method, path, "", 404, 1142, "variants: the zone setting does not exist")
	}
	const value = `{"png":["image/webp"],"jpg":["image/webp","image/avif"]}`
	var got struct {
		ID         string
		Editable   bool
		Value      json.RawMessage
		ModifiedOn *string `json:"modified_on"`
	}
	a := p.ok("PATCH", path, `{"value":`+value+`}`, &got)
	if got.ID != "variants" || !got.Editable || got.ModifiedOn == nil || !strings.Contains(string(a.Body), value) {
		t.Errorf("set: %s", a.Body)
	}
	if a := p.ok("GET", path, "", nil); !strings.Contains(string(a.Body), value) {
		t.Errorf("came back as %s", a.Body)
	}
	p.bad("PATCH", path, `{"value":{"svg":["image/webp"]}}`, 400, 1007, "variants: value.svg")
	p.bad("PATCH", path, `{"value":{"jpg":["text/html"]}}`, 400, 1007, "variants: value.jpg[0]")
	p.bad("PATCH", path, `{}`, 400, 1007, "variants")
	p.ok("PATCH", path, `{"value":{"jpg":["image/webp"]}}`, nil)
	if a := p.ok("GET", path, "", nil); !strings.Contains(string(a.Body), `{"jpg":["image/webp"]}`) {
		t.Errorf("replaced: %s", a.Body)
	}
	got.ModifiedOn = nil
	if p.ok("DELETE", path, "", &got); got.ID != "variants" || got.ModifiedOn != nil {
		t.Errorf("deleted: %+v", got)
	}
	p.bad("GET", path, "", 404, 1142, "variants")
}

func TestCacheReserveIsCleared(t *testing.T) {
	p := newPlane(t)
	z := p.zone("clear.test")
	path, on := z+"/cache/cache_reserve_clear", z+"/cache/cache_reserve"
	type state struct {
		ID         string
		State      string
		Start      string  `json:"start_ts"`
		End        *string `json:"end_ts"`
		ModifiedOn *string `json:"modified_on"`
	}
	var first, s state
	p.bad("GET", path, "", 404, 1142, "cache_reserve_clear: the zone setting does not exist")
	p.ok("PATCH", on, `{"value":"on"}`, nil)
	p.bad("POST", path, `{}`, 400, 1007, "cache_reserve: must be off")
	p.ok("PATCH", on, `{"value":"off"}`, nil)
	before, _ := p.publish.Head()
	p.ok("POST", path, `{}`, &first)
	if first.ID != "cache_reserve_clear" || first.State != "In-progress" || first.Start == "" || first.End != nil {
		t.Errorf("started: %+v", first)
	}
	entries, err := p.publish.Read(t.Context(), before, 1<<20)
	if err != nil || len(entries) != 2 || len(entries[0].Changes) != 1 || string(entries[0].Changes[0].Value) != `{"reserve":true}` || len(entries[1].Changes) != 0 {
		t.Errorf("the feed has %+v, %v, want the purge of the reserve alone", entries, err)
	}
	// No edge has it: it goes on, a second call starts nothing, the reserve stays off.
	if p.ok("POST", path, "", &s); s.State != first.State || s.Start != first.Start {
		t.Errorf("started again: %+v after %+v", s, first)
	}
	p.bad("PATCH", on, `{"value":"on"}`, 400, 1007, "cache_reserve: cannot be on")
	p.bad("PATCH", selvage.Prefix+z+"/settings/cache_reserve", `{"value":"on"}`, 400, 1007, "cache_reserve: cannot be on")
	p.ok("PATCH", on, `{"value":"off"}`, nil)
	p.applied.Store(entries[0].Seq)
	if p.ok("GET", path, "", &s); s.State != "Completed" || s.Start != first.Start || s.End == nil || *s.End != *s.ModifiedOn {
		t.Errorf("applied: %+v", s)
	}
	// That is kept, whatever is known of the edges later.
	p.applied.Store(0)
	end := *s.End
	if p.ok("GET", path, "", &s); s.State != "Completed" || *s.End != end {
		t.Errorf("later: %+v, ended %s before", s, end)
	}
	p.ok("PATCH", on, `{"value":"on"}`, nil)
	p.ok("PATCH", on, `{"value":"off"}`, nil)
	s = state{}
	if p.ok("POST", path, "{}", &s); s.State != "In-progress" || s.Start == first.Start || s.End != nil {
		t.Errorf("started once more: %+v", s)
	}
	// It is no setting that anybody sees.
	p.bad("GET", selvage.Prefix+z+"/settings/cache_reserve_clear", "", 404, 1006, "cache_reserve_clear")
	p.bad("GET", "/zones/"+strings.Repeat("ab", 16)+"/cache/cache_reserve_clear", "", 404, 1001, "zone_id")
	p.bad("POST", "/zones/"+strings.Repeat("ab", 16)+"/cache/cache_reserve_clear", "", 404, 1001, "zone_id")
}
