package cache

import (
	"bytes"
	"reflect"
	"testing"

	"github.com/selvage-edge/selvage/wire/msg"
)

func storedSample() stored {
	return stored{
		kind: storedWhole, stamp: 0x1234, size: 77, life: 5, seq: 9,
		tags: []byte("a,b"), page: []byte("h.test/a"), status: 200, born: 1e18, lifetime: 60e9, revalid: 1e9, fail: 2e9,
		strict: true, validate: true, date: []byte("Sun, 06 Nov 1994 08:49:37 GMT"),
		lines: []byte("Content-Type: text/plain\r\nX-A: b\r\n"),
		vary: []varyField{
			{id: msg.AcceptEncoding, value: []byte("gzip"), sent: []byte("gzip")},
			{name: []byte("x-device"), value: nil},
			{id: msg.AcceptLanguage, value: []byte{}, language: []byte("de")},
		},
	}
}

func TestStoredHeadsRoundTrip(t *testing.T) {
	want := storedSample()
	b := want.append(nil)
	got, err := decodeStored(b)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	for n := range b {
		if _, err := decodeStored(b[:n]); err == nil {
			t.Errorf("a head cut off after %d of %d bytes is accepted", n, len(b))
		}
	}
	if _, err := decodeStored(append(b, 0)); err == nil {
		t.Error("a head with a byte too many is accepted")
	}
}

func TestStoredHeadsAreJudged(t *testing.T) {
	for name, spoil := range map[string]func(*stored){
		"status":            func(h *stored) { h.status = 199 },
		"another status":    func(h *stored) { h.status = 600 },
		"kind":              func(h *stored) { h.kind = 9 },
		"lifetime":          func(h *stored) { h.lifetime = -1 },
		"size":              func(h *stored) { h.size = -1 },
		"split line":        func(h *stored) { h.lines = []byte("A: b\r\n\r\nC: d\r\n") },
		"line without end":  func(h *stored) { h.lines = []byte("A: b") },
		"bare line feed":    func(h *stored) { h.lines = []byte("A: b\nC: d\r\n") },
		"name with a space": func(h *stored) { h.lines = []byte("A b: c\r\n") },
		"empty name":        func(h *stored) { h.lines = []byte(": c\r\n") },
		"date":              func(h *stored) { h.date = []byte("a\r\nb: c") },
		"vary without name": func(h *stored) { h.kind, h.vary = storedVary, nil },
	} {
		h := storedSample()
		spoil(&h)
		if _, err := decodeStored(h.append(nil)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// FuzzStored feeds any bytes: what is accepted is the same after another round,
// and its lines cannot break out of an answer's head.
func FuzzStored(f *testing.F) {
	h := storedSample()
	f.Add(h.append(nil))
	h.kind, h.vary, h.lines = storedVary, h.vary[:1], nil
	f.Add(h.append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := decodeStored(b)
		if err != nil {
			return
		}
		if bytes.Contains(h.lines, []byte("\r\n\r\n")) || bytes.HasPrefix(h.lines, []byte("\r\n")) ||
			bytes.Count(h.lines, []byte("\n")) != bytes.Count(h.lines, []byte("\r\n")) {
			t.Fatalf("lines %q", h.lines)
		}
		again, err := decodeStored(h.append(nil))
		if err != nil || !reflect.DeepEqual(again, h) {
			t.Fatalf("got %+v, %v; want %+v", again, err, h)
		}
	})
}
