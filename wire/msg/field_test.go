package msg

import (
	"strings"
	"testing"
)

func TestKnownNamesWithoutCase(t *testing.T) {
	for id := Unknown + 1; id < count; id++ {
		name := id.String()
		for _, spelling := range []string{name, strings.ToLower(name), strings.ToUpper(name)} {
			if got := Known(spelling); got != id {
				t.Errorf("Known(%q) = %v, want %v", spelling, got, id)
			}
		}
	}
	for _, name := range []string{"", "X-Unknown", "Host ", "Hos", strings.Repeat("a", 100), "Content-Lengtg"} {
		if got := Known(name); got != Unknown {
			t.Errorf("Known(%q) = %v, want unknown", name, got)
		}
	}
}

func TestFieldsKeepOrderAndFindByID(t *testing.T) {
	var f Fields
	f.Add([]byte("vary"), []byte("a"))
	f.Add([]byte("X-One"), []byte("1"))
	f.AddID(Vary, []byte("b"))
	if got := f.Count(Vary); got != 2 {
		t.Errorf("Count = %d, want 2", got)
	}
	if got := string(f.Get(Vary)); got != "a" {
		t.Errorf("Get = %q, want the first", got)
	}
	if got := string(f.Lookup("x-ONE")); got != "1" {
		t.Errorf("Lookup = %q", got)
	}
	f.Set(Vary, []byte("c"))
	if f.Count(Vary) != 1 || string(f.Get(Vary)) != "c" || f.Len() != 2 {
		t.Errorf("after Set: %d lines", f.Len())
	}
	f.Del(Vary)
	if f.Has(Vary) || f.Get(Vary) != nil || f.Len() != 1 {
		t.Errorf("after Del: %d lines", f.Len())
	}
	f.Reset()
	if f.Len() != 0 {
		t.Error("not empty after Reset")
	}
}

func TestNextToken(t *testing.T) {
	for in, want := range map[string]string{
		"":                       "",
		" , ,":                   "",
		"a":                      "a",
		"a, b ,c":                "a|b|c",
		`a="x,y", b`:             `a="x,y"|b`,
		`"\",", z`:               `"\","|z`,
		`"open, never closed`:    `"open, never closed`,
		"max-age=1,  no-cache  ": "max-age=1|no-cache",
	} {
		var got []string
		for token, rest := NextToken([]byte(in)); token != nil; token, rest = NextToken(rest) {
			got = append(got, string(token))
		}
		if strings.Join(got, "|") != want {
			t.Errorf("%q gives %q, want %q", in, got, want)
		}
	}
}

func TestHasToken(t *testing.T) {
	var f Fields
	f.Add([]byte("Connection"), []byte("close, Upgrade"))
	f.Add([]byte("connection"), []byte("foo"))
	for token, want := range map[string]bool{"upgrade": true, "FOO": true, "keep-alive": false, "upgrad": false} {
		if f.HasToken(Connection, token) != want {
			t.Errorf("HasToken(%q) != %v", token, want)
		}
	}
}

func FuzzNextToken(f *testing.F) {
	f.Add([]byte(`a="b\", c", d,, e`))
	f.Fuzz(func(t *testing.T, in []byte) {
		size := 0
		for token, rest := NextToken(in); token != nil; token, rest = NextToken(rest) {
			if size += len(token); size > len(in) {
				t.Fatalf("%q yields more bytes than it has", in)
			}
		}
	})
}

func TestResponseCloseReleasesOnce(t *testing.T) {
	n := 0
	r := Response{Release: func() { n++ }, Bytes: []byte("x")}
	r.Close()
	r.Close()
	if n != 1 || r.Bytes != nil {
		t.Errorf("released %d times, bytes %v", n, r.Bytes)
	}
}

func BenchmarkKnown(b *testing.B) {
	name := []byte("if-none-match")
	b.ReportAllocs()
	for b.Loop() {
		if Known(name) != IfNoneMatch {
			b.Fatal("not found")
		}
	}
}
