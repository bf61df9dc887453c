package snapshot

import (
	"encoding/json"
	"testing"

	"github.com/selvage-edge/selvage/zone"
)

// What a setting may be depends neither on another one nor on a zone's other
// parts: so defaults are judged with an empty zone for all.
func TestEachValueOfASettingCompilesWithAnyOther(t *testing.T) {
	values := map[string][]string{}
	for i := range zone.SettingTable {
		d := &zone.SettingTable[i]
		switch {
		case d.Own:
		case d.Values != nil:
			for _, v := range d.Values {
				text, err := json.Marshal(v)
				if err != nil {
					t.Fatal(err)
				}
				values[d.Name] = append(values[d.Name], string(text))
			}
		case d.List != nil:
			values[d.Name] = []string{`[]`, `["FRA"]`, `["FRA","AMS"]`}
		default:
			low, _ := json.Marshal(d.Min)
			high, _ := json.Marshal(d.Max)
			values[d.Name] = []string{string(low), string(high)}
		}
	}
	compile := func(s zone.Settings) {
		t.Helper()
		if err := s.CheckDefaults(); err != nil {
			t.Error(err)
		}
		spec := &zone.Spec{
			Meta: zone.Meta{ID: "00000000000000000000000000000001", Name: "example.com", NameServers: []string{"ns1.test", "ns2.test"}},
			Records: []zone.Record{
				{ID: "1", Name: "example.com", Type: "A", Content: "192.0.2.1", TTL: 1, Proxied: true},
				{ID: "2", Name: "www.example.com", Type: "CNAME", Content: "example.com", TTL: 1, Proxied: true},
			},
			Rulesets: []zone.Ruleset{
				{Phase: "http_request_cache_settings", Body: []byte(`{"rules":[{"expression":"http.request.uri.path eq \"/x\"","action":"set_cache_settings","action_parameters":{"cache":true}}]}`)},
				{Phase: "http_request_origin", Body: []byte(`{"rules":[{"expression":"true","action":"route","action_parameters":{"host_header":"inner.test"}}]}`)},
			},
		}
		spec.Settings = spec.Settings.Over(s)
		if _, err := Compile(spec, &zone.Shared{}); err != nil {
			t.Errorf("%s: %v", s, err)
		}
	}
	compile(nil)
	for a, ofA := range values {
		for b, ofB := range values {
			for _, x := range ofA {
				for _, y := range ofB {
					compile(zone.Settings{a: json.RawMessage(x), b: json.RawMessage(y)})
				}
			}
		}
	}
}
