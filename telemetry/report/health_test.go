package report

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestHealthTravels(t *testing.T) {
	h := Health{
		Started: time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC), State: Ready, Zones: 3, Requests: 10, Failed: 2, Errors: 1,
		Rejected: 1, Rejections: 4, MemoryUsed: 5, MemoryFree: 6, DiskFree: 7, DiskTotal: 8, AuditWaiting: 9, AuditRefused: 10,
		Problems: []string{"a\x1b[2Jb", strings.Repeat("ü", 150)},
	}
	for range 20 {
		h.Problems = append(h.Problems, "more")
	}
	p, err := h.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeHealth(p)
	if err != nil {
		t.Fatal(err)
	}
	want := h
	want.Version, want.Problems = 1, []string{"a [2Jb", strings.Repeat("ü", 100), "more", "more", "more", "more", "more", "more"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
	if h.Problems[0] != "a\x1b[2Jb" {
		t.Error("Encode changed what it was given")
	}
}

func TestHealthOfOthers(t *testing.T) {
	for _, c := range []struct {
		text string
		ok   bool
	}{
		{`{"v":2,"state":"ready","news":{"a":1}}`, true},
		{`{"v":1,"state":"loading"}`, true},
		{`{"v":0,"state":"ready"}`, false},
		{`{"v":1,"state":"fine"}`, false},
		{`{"v":1,"state":"ready","zones":-1}`, false},
		{`{"v":1,"state":"ready","requests":-1}`, false},
		{`{"v":1,"state":"ready","problems":["","","","","","","","",""]}`, false},
		{`{"v":1,"state":"ready"`, false},
		{`{"v":1,"state":"ready","x":"` + strings.Repeat("x", 4096) + `"}`, false},
		{``, false},
	} {
		if _, err := DecodeHealth([]byte(c.text)); (err == nil) != c.ok {
			t.Errorf("%.60s: %v, want it taken: %t", c.text, err, c.ok)
		}
	}
}

func FuzzHealth(f *testing.F) {
	f.Add([]byte(`{"v":1,"state":"ready","problems":["a"]}`))
	f.Fuzz(func(t *testing.T, p []byte) {
		h, err := DecodeHealth(p)
		if err != nil {
			return
		}
		again, err := h.Encode()
		if err != nil {
			return // a year that JSON does not take
		}
		if _, err := DecodeHealth(again); err != nil {
			t.Fatalf("%s reads, and what it says again (%s) does not: %v", p, again, err)
		}
	})
}
