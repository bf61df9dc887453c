package conf

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func settings() (map[string]string, []Setting) {
	got := map[string]string{}
	set := func(key string) func(string) error {
		return func(v string) error { got[key] = v; return nil }
	}
	return got, []Setting{
		{Key: "colo", Set: set("colo")},
		{Key: "parent", Set: set("parent"), List: true},
		{Key: "cache_bytes", Set: func(v string) error {
			var s Size
			got["cache_bytes"] = v
			return s.Set(v)
		}},
	}
}

func TestParseSetsWhatTheFileSays(t *testing.T) {
	got, all := settings()
	text := "# an edge\ncolo: FRA   # data center\nparent:\n  - a:1\n  - \"b:2\"\ncache_bytes: 64MiB\n"
	if err := Parse("edge.yaml", []byte(text), all); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{"colo": "FRA", "parent": "a:1,b:2", "cache_bytes": "64MiB"} {
		if got[key] != want {
			t.Errorf("%s = %q, want %q", key, got[key], want)
		}
	}
}

func TestParseAcceptsEmptyFiles(t *testing.T) {
	for _, text := range []string{"", "# nothing but a comment\n", "---\n"} {
		_, all := settings()
		if err := Parse("edge.yaml", []byte(text), all); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestParseRefusesNamingKeyAndLine(t *testing.T) {
	tests := []struct{ text, want string }{
		{"colo: FRA\nfruit: apple\n", `edge.yaml:2: unknown key "fruit"; known are cache_bytes, colo, parent`},
		{"colo: FRA\n\ncachebytes: 1MiB\n", `edge.yaml:3: unknown key "cachebytes"; did you mean "cache_bytes"?`},
		{"cole: FRA\n", `edge.yaml:1: unknown key "cole"; did you mean "colo"?`},
		{"cache_bytes: lots\n", `edge.yaml:1: cache_bytes: a size with its unit is needed, such as 256MiB, got "lots"`},
		{"colo: [FRA, NRT]\n", `edge.yaml:1: colo: one value is needed, not a list`},
		{"colo:\n", `edge.yaml:1: colo: no value; give one or remove the line`},
		{"colo:\n  a: b\n", `edge.yaml:1: colo: a plain value is needed`},
		{"parent: [\"a,b\"]\n", `edge.yaml:1: parent: item "a,b": a comma is not allowed inside a list`},
		{"- FRA\n", `edge.yaml:1: lines of the form "key: value" are needed`},
		{"colo: FRA\n---\ncolo: NRT\n", `edge.yaml:3: a second document; one is allowed`},
	}
	for _, tt := range tests {
		_, all := settings()
		err := Parse("edge.yaml", []byte(tt.text), all)
		if err == nil || err.Error() != tt.want {
			t.Errorf("%q:\n got %v\nwant %s", tt.text, err, tt.want)
		}
	}
}

func TestParseNamesTheLineOfSyntaxErrors(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"colo: FRA\ncolo: NRT\n", "edge.yaml:2: "},
		{"colo: FRA\n\tparent: a:1\n", "edge.yaml:"},
		{"colo: \"FRA\n", "edge.yaml:1: "},
	} {
		_, all := settings()
		err := Parse("edge.yaml", []byte(tt.text), all)
		if err == nil || !strings.HasPrefix(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: got %v, want one line that starts with %q", tt.text, err, tt.want)
		}
	}
}

func TestSize(t *testing.T) {
	for text, want := range map[string]Size{"0": 0, "4096": 4096, "4096B": 4096, "256MiB": 256 << 20, "1.5GiB": 3 << 29, "2KB": 2000, "1 MiB": 1 << 20} {
		var s Size
		if err := s.Set(text); err != nil || s != want {
			t.Errorf("%q = %d, %v; want %d", text, s, err, want)
		}
	}
	for _, text := range []string{"", "MiB", "-1MiB", "1mib", "1e30GiB", "NaN", "12 parsecs"} {
		var s Size
		if err := s.Set(text); err == nil {
			t.Errorf("%q was taken as %d", text, s)
		}
	}
	if got := Size(256 << 20).String(); got != "256MiB" {
		t.Errorf("String = %q", got)
	}
}

func TestDuration(t *testing.T) {
	var d Duration
	if err := d.Set("1m30s"); err != nil || time.Duration(d) != 90*time.Second {
		t.Errorf("1m30s = %v, %v", d, err)
	}
	for _, text := range []string{"", "30", "-1s", "soon"} {
		if err := d.Set(text); err == nil {
			t.Errorf("%q was taken", text)
		}
	}
}

func TestLists(t *testing.T) {
	addrs := NewAddrs()
	if err := errors.Join(addrs.Set("192.0.2.1,::ffff:192.0.2.2"), addrs.Set("2001:db8::1")); err != nil {
		t.Fatal(err)
	}
	if got, want := addrs.String(), "192.0.2.1,192.0.2.2,2001:db8::1"; got != want {
		t.Errorf("addrs = %s, want %s", got, want)
	}
	prefixes := NewPrefixes()
	if err := prefixes.Set("127.0.0.0/8,::1/128"); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"10.0.0.1/8", "10.0.0.1", "", "10.0.0.0/8,"} {
		if err := NewPrefixes().Set(text); err == nil {
			t.Errorf("network %q was taken", text)
		}
	}
	for _, text := range []string{"localhost", "fe80::1%eth0", "1.2.3.4,,5.6.7.8"} {
		if err := NewAddrs().Set(text); err == nil {
			t.Errorf("address %q was taken", text)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("colo: FRA\nparent: [a, b]\n"))
	f.Add([]byte("a: &x {b: *x}\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		_, all := settings()
		if err := Parse("f", text, all); err != nil && strings.Contains(err.Error(), "\n") {
			t.Errorf("an error of several lines: %q", err)
		}
	})
}
