package zone

import (
	"encoding/json"
	"maps"
	"strings"
	"testing"
)

func TestOwnSettingsGoOverDefaults(t *testing.T) {
	own := Settings{"http3": json.RawMessage(`"on"`)}
	defaults := Settings{"http3": json.RawMessage(`"off"`), "browser_cache_ttl": json.RawMessage(`60`)}
	got := own.Over(defaults)
	if !got.On("http3") || got.Number("browser_cache_ttl") != 60 || got.Text("ssl") != "full" {
		t.Errorf("got %s", got)
	}
	if len(own) != 1 || len(defaults) != 2 || defaults.On("http3") {
		t.Errorf("changed: own %s, defaults %s", own, defaults)
	}
	if got := Settings(nil).Over(defaults); got.On("http3") {
		t.Error("a zone without settings has not the default")
	}
	if got := own.Over(nil); !maps.EqualFunc(got, own, func(a, b json.RawMessage) bool { return string(a) == string(b) }) {
		t.Errorf("without defaults: %s", got)
	}
}

func TestDefaultsAreChecked(t *testing.T) {
	for value, want := range map[string]string{
		`{}`:                           "",
		`{"min_tls_version":"1.3"}`:    "",
		`{"tiered_cache_parents":[]}`:  "",
		`{"min_tls_version":"1.1"}`:    "min_tls_version",
		`{"min_tls_version":null}`:     "min_tls_version",
		`{"browser_cache_ttl":-1}`:     "browser_cache_ttl",
		`{"nope":1}`:                   "nope",
		`{"development_mode":"off"}`:   "development_mode",
		`{"variants":{}}`:              "variants",
		`{"cache_reserve":"off"}`:      "cache_reserve",
		`["http3"]`:                    "settings",
		``:                             "settings",
		`{"http3":"on"}{"http2":"on"}`: "settings",
	} {
		_, err := DecodeDefaults([]byte(value))
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want an error with %q", value, err, want)
		}
	}
}

// What is accepted is known by name and by value, and reads the same again.
func FuzzDecodeDefaults(f *testing.F) {
	for _, seed := range []string{`{}`, `{"http3":"off","browser_cache_ttl":60}`, `{"nope":1}`, `{"ssl":null}`, `[`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		s, err := DecodeDefaults(value)
		if err != nil {
			return
		}
		for name, v := range s {
			if d := FindSetting(name); d == nil || d.Own || d.Check(v) != nil {
				t.Errorf("%q was accepted: %s", name, v)
			}
		}
		text, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := DecodeDefaults(text); err != nil || len(again) != len(s) {
			t.Errorf("%s: read again %v, %v", text, again, err)
		}
	})
}
