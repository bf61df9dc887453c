package expr

import (
	"errors"
	"strings"
	"testing"
)

func TestLiterals(t *testing.T) {
	for src, want := range map[string]bool{"true": true, " true\n": true, "false": false} {
		p, err := Compile(src)
		if err != nil {
			t.Fatalf("%q: %v", src, err)
		}
		if p.Match(nil) != want {
			t.Errorf("%q evaluates to %v", src, !want)
		}
	}
}

func TestErrorsPointAtTheColumn(t *testing.T) {
	for src, column := range map[string]int{"": 1, "  maybe": 3, "TRUE": 1, "true true": 1, strings.Repeat(" ", MaxBytes+1): MaxBytes + 1} {
		_, err := Compile(src)
		syntax, ok := errors.AsType[*SyntaxError](err)
		if !ok || syntax.Column != column || !strings.Contains(err.Error(), "expected") {
			t.Errorf("%.20q: %v, want column %d", src, err, column)
		}
	}
}

func FuzzCompile(f *testing.F) {
	f.Add("true")
	f.Add(" fal\x00se")
	f.Fuzz(func(t *testing.T, src string) {
		p, err := Compile(src)
		if (p == nil) == (err == nil) {
			t.Fatalf("%q: program %v and error %v", src, p, err)
		}
	})
}
