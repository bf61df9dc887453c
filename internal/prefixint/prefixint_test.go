package prefixint

import (
	"bytes"
	"testing"
)

func TestExamplesOfTheRFC(t *testing.T) { // RFC 7541 appendix C.1
	for _, c := range []struct {
		n    uint
		v    int
		want []byte
	}{
		{5, 10, []byte{0x0a}},
		{5, 1337, []byte{0x1f, 0x9a, 0x0a}},
		{8, 42, []byte{0x2a}},
	} {
		if got := Append(nil, 0, c.n, c.v); !bytes.Equal(got, c.want) {
			t.Errorf("%d with %d bits is %x, want %x", c.v, c.n, got, c.want)
		}
	}
}

func TestWhatCannotBeRead(t *testing.T) {
	for _, p := range [][]byte{nil, {0x1f}, {0x1f, 0x80}, {0x1f, 0xff, 0xff, 0xff, 0xff, 0x01}} {
		if v, _, ok := Read(p, 5); ok {
			t.Errorf("%x is read as %d", p, v)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte{0x1f, 0x9a, 0x0a, 1}, uint8(5))
	f.Fuzz(func(t *testing.T, p []byte, bits uint8) {
		n := uint(bits%8) + 1
		v, rest, ok := Read(p, n)
		if !ok {
			return
		}
		if v < 0 || len(rest) >= len(p) {
			t.Fatalf("%x: %d with %d octets left", p, v, len(rest))
		}
		again, left, ok := Read(Append(nil, 0, n, v), n)
		if !ok || again != v || len(left) != 0 {
			t.Fatalf("%d comes back as %d, %v", v, again, ok)
		}
	})
}
