package cache

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestReadRanges(t *testing.T) {
	one := func(from, to int64) []stretch { return []stretch{{from, to}} }
	for _, c := range []struct {
		value string
		size  int64
		part  part
		want  []stretch
	}{
		{"bytes=0-3", 10, someParts, one(0, 4)},
		{"Bytes=4-", 10, someParts, one(4, 10)},
		{"bytes=-3", 10, someParts, one(7, 10)},
		{"bytes=-30", 10, someParts, one(0, 10)},
		{"bytes=8-100", 10, someParts, one(8, 10)},
		{"bytes=10-", 10, unsatisfiable, nil},
		{"bytes=-0", 10, unsatisfiable, nil},
		{"bytes=0-0", 0, unsatisfiable, nil},
		{"bytes=-1", 0, unsatisfiable, nil},
		{"bytes=99999999999999999999-", 10, unsatisfiable, nil},
		{"bytes=0-1, 4-5", 10, someParts, []stretch{{0, 2}, {4, 6}}},
		{"bytes=4-5,0-1", 10, someParts, []stretch{{4, 6}, {0, 2}}},
		{"bytes=4-5,0-1,1-2", 10, someParts, []stretch{{0, 3}, {4, 6}}},
		{"bytes=0-3,2-5", 10, someParts, one(0, 6)},
		{"bytes=0-3,4-5", 10, someParts, one(0, 6)},
		{"bytes=0-9,2-3,-1", 10, someParts, one(0, 10)},
		{"bytes=0-1,50-60,-1", 10, someParts, []stretch{{0, 2}, {9, 10}}},
		{"bytes=50-60,70-", 10, unsatisfiable, nil},
		{"bytes= 0-1 ,, 3-4,", 10, someParts, []stretch{{0, 2}, {3, 5}}},
		{"bytes=" + strings.Repeat("1-1,", maxRanges), 10, someParts, one(1, 2)},
		{"bytes=" + strings.Repeat("1-1,", maxRanges+1), 10, wholeBody, nil},
		{"bytes=3-2", 10, wholeBody, nil},
		{"bytes=0-1,3-2", 10, wholeBody, nil},
		{"bytes=a-b", 10, wholeBody, nil},
		{"bytes=-", 10, wholeBody, nil},
		{"bytes=", 10, wholeBody, nil},
		{"bytes=,", 10, wholeBody, nil},
		{"bytes", 10, wholeBody, nil},
		{"bytes =0-1", 10, wholeBody, nil},
		{"lines=1-2", 10, wholeBody, nil},
		{"bytes=0x1-2", 10, wholeBody, nil},
		{"bytes=+1-2", 10, wholeBody, nil},
	} {
		if a := readRanges([]byte(c.value), c.size); a.part != c.part || !slices.Equal(a.parts(), c.want) {
			t.Errorf("%s of %d: %v %v, want %v %v", c.value, c.size, a.part, a.parts(), c.part, c.want)
		}
	}
}

func TestReadContentRange(t *testing.T) {
	for text, want := range map[string]contentRange{
		"bytes 0-4/10": {stretch{0, 5}, 10},
		"BYTES 9-9/10": {stretch{9, 10}, 10},
		"bytes 0-4/*":  {stretch{0, 5}, -1},
	} {
		if got, ok := readContentRange([]byte(text)); !ok || got != want {
			t.Errorf("%q: %v %v, want %v", text, got, ok, want)
		}
	}
	for _, text := range []string{"", "bytes", "bytes */10", "bytes 0-9/9", "bytes 4-3/10", "bytes -4/10", "bytes 4-/10", "lines 0-1/2", "bytes=0-1/2", "bytes 0-1", "bytes 0-1/x", "bytes 0-1/2 "} {
		if got, ok := readContentRange([]byte(text)); ok {
			t.Errorf("%q is read as %v", text, got)
		}
	}
}

func FuzzRanges(f *testing.F) {
	f.Add("bytes=0-1,4-,-3", int64(10))
	f.Add("bytes=-9223372036854775808", int64(1))
	f.Fuzz(func(t *testing.T, value string, size int64) {
		if size < 0 || size > maxOffset {
			return
		}
		a := readRanges([]byte(value), size)
		for i, s := range a.parts() {
			if s.from < 0 || s.to <= s.from || s.to > size {
				t.Fatalf("%q of %d: %v", value, size, a.parts())
			}
			for _, other := range a.parts()[:i] {
				if s.from <= other.to && other.from <= s.to {
					t.Fatalf("%q of %d: %v", value, size, a.parts())
				}
			}
		}
		if (a.part == someParts) != (a.n > 0) {
			t.Fatalf("%q of %d: %v with %d parts", value, size, a.part, a.n)
		}
		for _, s := range a.parts() {
			text := fmt.Sprintf("bytes %d-%d/%d", s.from, s.to-1, size)
			if c, ok := readContentRange([]byte(text)); !ok || c.stretch != s || c.total != size {
				t.Fatalf("%s: %v %v", text, c, ok)
			}
		}
	})
}
