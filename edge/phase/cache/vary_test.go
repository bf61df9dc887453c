package cache

import (
	"testing"

	"github.com/selvage-edge/selvage/internal/arena"
	"github.com/selvage-edge/selvage/wire/msg"
)

// One form for spellings that mean the same, and two for those that do not.
func TestVaryNormalises(t *testing.T) {
	for _, c := range []struct {
		field, a, b string
		same        bool
	}{
		{"Accept-Encoding", "gzip, br", "br,gzip", true},
		{"Accept-Encoding", "gzip, deflate, br, zstd", "zstd ,br, deflate,\tgzip", true},
		{"Accept-Encoding", "x-gzip", "GZIP;q=1.0", true},
		{"Accept-Encoding", "gzip;q=0.5, br", "br;q=1.000, gzip;q=.5", false},
		{"Accept-Encoding", "gzip;q=0.5, br", "br;q=1.000, gzip; q=0.50", true},
		{"Accept-Encoding", "gzip", "gzip;q=0", false},
		{"Accept-Encoding", "gzip, gzip", "gzip", true},
		{"Accept-Encoding", "gzip, br;q=2", "br;q=2, gzip", false},
		{"Accept-Encoding", "gzip", "", false},
		{"Accept-Language", "en, de", "de, en", true},
		{"Accept-Language", "en, de;q=0.9", "de, en;q=0.9", false},
		{"Accept-Language", "en-GB", "en", false},
		{"Foo", "1,2", " 1 , 2 ", true},
		{"Foo", "1, 2", "2, 1", false},
		{"Foo", "a b", "ab", false},
		{"Foo", `"a, b"`, `"a,b"`, false},
		{"Foo", "A", "a", false},
		{"User-Agent", "x (a, b)", "x (a,b)", false},
		{"Cookie", "a=1, b", "a=1,b", false},
	} {
		var a arena.Arena
		var x, y, vary msg.Fields
		addLines(&x, c.field+": "+c.a)
		addLines(&y, c.field+": "+c.b)
		addLines(&vary, "Vary: "+c.field)
		list, ok := readVary(&x, &vary)
		if !ok {
			t.Fatalf("%s is not read", c.field)
		}
		if got := matches(appendVary(nil, list), &y, &a); got != c.same {
			t.Errorf("%s: %q answers %q: %v, want %v", c.field, c.a, c.b, got, c.same)
		}
	}
}

func TestLanguageOfAnswerIsChosen(t *testing.T) {
	for _, c := range []struct {
		language, asks string
		same           bool
	}{
		{"de", "fr;q=0.5, de;q=1.0", true},
		{"DE", "de", true},
		{"de", "fr, de", false}, // likes another as much
		{"de", "fr, de;q=0.9", false},
		{"de, en", "de", false},
		{"de", "de-AT", false},
		{"", "de", false},
	} {
		var a arena.Arena
		var first, out, in msg.Fields
		addLines(&first, "Accept-Language: en, de")
		addLines(&out, "Vary: Accept-Language")
		if c.language != "" {
			addLines(&out, "Content-Language: "+c.language)
		}
		addLines(&in, "Accept-Language: "+c.asks)
		list, _ := readVary(&first, &out)
		if got := matches(appendVary(nil, list), &in, &a); got != c.same {
			t.Errorf("answer in %q for %q: %v, want %v", c.language, c.asks, got, c.same)
		}
	}
}
