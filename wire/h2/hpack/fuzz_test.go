package hpack

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/net/http2/hpack"

	"github.com/selvage-edge/selvage/wire/head"
	"github.com/selvage-edge/selvage/wire/msg"
)

// FuzzDecoder gives the same blocks to this decoder and to another one. Where
// this one takes a section as sound, the other has the same lines; where it
// ends the connection, the other does, but for rules on which this is stricter.
func FuzzDecoder(f *testing.F) {
	f.Add([]byte("\x11\x82\x86\x84\x41\x0fwww.example.com\x05\x82\x86\x84\xbe\x80"))
	f.Add([]byte("\x06\x40\x01a\x01b\xbe\x02\x20\xbe\x04\x3f\x01\x7f\x00"))
	f.Fuzz(func(t *testing.T, in []byte) {
		ours := NewDecoder()
		s := section(1 << 14)
		var lines []hpack.HeaderField
		theirs := hpack.NewDecoder(DefaultTable, func(l hpack.HeaderField) { lines = append(lines, l) })
		for len(in) > 0 {
			n := min(int(in[0]), len(in)-1)
			block := in[1 : 1+n]
			in = in[1+n:]
			s.Reset()
			lines = lines[:0]
			err := ours.Decode(block, s)
			_, other := theirs.Write(block)
			if closing := theirs.Close(); other == nil {
				other = closing
			}
			if err != nil {
				if other == nil && !errors.Is(err, errInteger) && !errors.Is(err, errResize) {
					t.Fatalf("%x: %v, the other says nothing", block, err)
				}
				return
			}
			if other != nil {
				t.Fatalf("%x: the other says %v", block, other)
			}
			if s.Err == nil {
				compare(t, block, s, lines)
			}
			bounded(t, &ours.t)
		}
	})
}

func compare(t *testing.T, block []byte, s *Section, lines []hpack.HeaderField) {
	t.Helper()
	var want strings.Builder
	crumbs, cookies := 0, ""
	for p := Method; p < pseudos; p++ {
		for _, l := range lines {
			if l.Name == p.String() {
				fmt.Fprintf(&want, "%s: %s\n", l.Name, l.Value)
			}
		}
	}
	for _, l := range lines {
		if l.Name == "cookie" {
			if crumbs++; crumbs > 1 {
				cookies += "; "
			}
			cookies += l.Value
		}
	}
	for _, l := range lines {
		if l.Name[0] != ':' && (l.Name != "cookie" || crumbs < 2) {
			fmt.Fprintf(&want, "%s: %s\n", l.Name, l.Value)
		}
	}
	if crumbs > 1 {
		fmt.Fprintf(&want, "cookie: %s\n", cookies)
	}
	if text(s) != want.String() {
		t.Fatalf("%x: got\n%q\nwant\n%q", block, text(s), want.String())
	}
}

func bounded(t *testing.T, tab *table) {
	t.Helper()
	size := 0
	for i := range tab.n {
		l, ok := tab.get(i)
		if !ok {
			t.Fatal("a line is missing")
		}
		size += len(l.name) + len(l.value) + overhead
	}
	if size != tab.size || size > tab.limit || cap(tab.buf) > 2*max(tab.limit, DefaultTable)+512 {
		t.Fatalf("counts %d, has %d of %d, memory %d", tab.size, size, tab.limit, cap(tab.buf))
	}
}

// FuzzEncoder lets another decoder read what this encoder and AppendStatic write.
func FuzzEncoder(f *testing.F) {
	f.Add([]byte("user-agent\x00curl\x00x-a\x00b\x00cookie\x00c=d\x00\xff\x00\x10\x00user-agent\x00curl"))
	f.Fuzz(func(t *testing.T, in []byte) {
		e := NewEncoder()
		own := NewDecoder()
		var got []hpack.HeaderField
		theirs := hpack.NewDecoder(DefaultTable, func(l hpack.HeaderField) { got = append(got, l) })
		parts := bytes.Split(in, []byte{0})
		for len(parts) > 1 {
			if string(parts[0]) == "\xff" && len(parts[1]) == 1 {
				e.Limit(uint32(parts[1][0]) * 16)
				theirs.SetAllowedMaxDynamicTableSize(DefaultTable)
				parts = parts[2:]
				continue
			}
			var one msg.Fields
			one.Add(parts[0], parts[1])
			parts = parts[2:]
			l := one.At(0)
			block := e.Field(e.Begin(nil), l)
			whole := block
			if !head.OfConnection(l.ID) {
				whole = AppendStatic(bytes.Clone(block), &one)
			}
			got = got[:0]
			if _, err := theirs.Write(whole); err != nil || theirs.Close() != nil {
				t.Fatalf("%x: %v", whole, err)
			}
			for _, g := range got {
				if !msg.EqualFold(l.Name, g.Name) && string(asciiLower(l.Name)) != g.Name || g.Value != string(l.Value) {
					t.Fatalf("%q: %q reads as %q: %q", l.Name, l.Value, g.Name, g.Value)
				}
			}
			s := section(1 << 20)
			if err := own.Decode(whole, s); err != nil {
				t.Fatalf("%x: %v", whole, err)
			}
			if own.t.size != e.t.size || own.t.n != e.t.n {
				t.Fatalf("tables of %d and %d", e.t.size, own.t.size)
			}
			bounded(t, &e.t)
		}
	})
}

func asciiLower(p []byte) []byte { return appendLower(nil, p) }
