package msg

import (
	"fmt"
	"strings"
	"testing"
)

func TestPreparedParsesItsLines(t *testing.T) {
	for _, lines := range []string{
		"", "A: b\r\n", "Content-Type: text/html\r\nETag: \"a: b\"\r\nX-Empty: \r\nX: , \r\n", "No-Space:v\r\n",
	} {
		p := &Prepared{H1: []byte(lines)}
		var text strings.Builder
		for _, f := range p.Fields().All() {
			if f.Value == nil {
				t.Errorf("%q: a value is nil", lines)
			}
			fmt.Fprintf(&text, "%s: %s\r\n", f.Name, f.Value)
		}
		if want := strings.Replace(lines, "No-Space:v", "No-Space: v", 1); text.String() != want {
			t.Errorf("%q parsed as %q", lines, text.String())
		}
		if first := p.Fields(); first != p.Fields() {
			t.Errorf("%q: parsed twice", lines)
		}
	}
	if !(&Prepared{H1: []byte("etag: 1\r\n")}).Fields().Has(ETag) {
		t.Error("a known name is not recognised")
	}
}

// shelf keeps blocks beyond the life of a Prepared.
type shelf map[string][]byte

func (s shelf) Block(form uint32, p Proto) []byte { return s[fmt.Sprint(form, p)] }
func (s shelf) Keep(form uint32, p Proto, b []byte) []byte {
	s[fmt.Sprint(form, p)] = b
	return b
}

func TestPreparedBlocksAreBuiltOnce(t *testing.T) {
	built := 0
	build := func(f *Fields) []byte { built++; return fmt.Appendf(nil, "%d fields", f.Len()) }
	own := &Prepared{H1: []byte("A: b\r\n")}
	kept := shelf{}
	for range 3 {
		for _, p := range []*Prepared{own, {H1: own.H1, Keeper: kept}, {H1: own.H1, Keeper: kept, Form: 1}} {
			if got := string(p.H2(build)) + string(p.H3(build)); got != "1 fields1 fields" {
				t.Errorf("blocks %q", got)
			}
		}
	}
	if built != 6 {
		t.Errorf("built %d times, want once for each of 3 heads and 2 protocols", built)
	}
}
