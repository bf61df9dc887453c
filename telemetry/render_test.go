package telemetry

import (
	"encoding/binary"
	"testing"
	"time"
)

func TestEightPlainBytesAreWhatOneIs(t *testing.T) {
	for at := range 8 {
		for c := range 256 {
			for _, around := range []byte{'a', ' ', '!', '~', '#', '[', ']'} {
				p := []byte{around, around, around, around, around, around, around, around}
				p[at] = byte(c)
				if allPlain(binary.LittleEndian.Uint64(p)) && !plain[c] {
					t.Errorf("%q is taken for plain", p)
				}
			}
		}
	}
	if !allPlain(binary.LittleEndian.Uint64([]byte("Mozilla/"))) {
		t.Error("plain text is not taken for it")
	}
}

func TestTimesAreThoseOfTheirRecords(t *testing.T) {
	var s stamp
	for _, at := range []int64{0, 1, 999_999, 1_790_000_000_123_456_789, 1_790_000_000_999_999_999, 1_790_000_001_000_000_000, 1_790_000_000_000_001_000, -1} {
		want := time.Unix(0, at).UTC().Format("2006-01-02T15:04:05.000000Z")
		if got := string(s.append(nil, at)); got != want {
			t.Errorf("%d: %s, want %s", at, got, want)
		}
	}
}
