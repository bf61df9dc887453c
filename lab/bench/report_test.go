package main

import "testing"

func TestEachPeerHasItsOwnFigure(t *testing.T) {
	rounds := []round{{costs: []float64{1, 2, 4}}, {costs: []float64{1, 2, 4}}}
	f := summarise(work{title: "w", peers: []peer{{"first", 0}, {"second", .3}}}, rounds)
	if len(f) != 2 || *f[0].Ratio != .5 || f[0].Met != nil || *f[1].Ratio != .25 || !*f[1].Met || *f[1].PeerName != "second" {
		t.Errorf("%v", f)
	}
	if f := summarise(work{bar: .5}, rounds); len(f) != 1 || f[0].Ours != 1 || *f[0].Met {
		t.Errorf("%v", f)
	}
}

func TestTicksAreReadBehindTheName(t *testing.T) {
	line := "42 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 100 20 3 4 20 0 1 0 0"
	if got, err := ticksOf([]byte(line)); err != nil || got != 127 {
		t.Errorf("got %d, %v, want 127", got, err)
	}
	if _, err := ticksOf([]byte("42 (short) S 1")); err == nil {
		t.Error("a short line was taken")
	}
}

func TestLoadsAreCounted(t *testing.T) {
	for _, c := range []struct {
		name, out string
		read      func([]byte) (int, error)
		want      int
		bad       bool
	}{
		{"wrk", "  1234 requests in 3.00s, 1MB read\n", wrkCount, 1234, false},
		{"wrk with errors", "  1234 requests in 3.00s\n  Socket errors: connect 0, read 3\n", wrkCount, 0, true},
		{"h2load", "requests: 500 total, 510 started, 500 done, 500 succeeded, 0 failed, 0 errored, 0 timeout\nstatus codes: 500 2xx, 0 3xx, 0 4xx, 0 5xx\n", h2loadCount, 500, false},
		{"h2load with failures", "requests: 500 total, 510 started, 500 done, 499 succeeded, 1 failed, 1 errored, 0 timeout\nstatus codes: 499 2xx, 0 3xx, 0 4xx, 0 5xx\n", h2loadCount, 0, true},
		{"h2load with 404", "requests: 5 total, 5 started, 5 done, 5 succeeded, 0 failed, 0 errored, 0 timeout\nstatus codes: 4 2xx, 0 3xx, 1 4xx, 0 5xx\n", h2loadCount, 0, true},
	} {
		got, err := c.read([]byte(c.out))
		if got != c.want || (err != nil) != c.bad {
			t.Errorf("%s: %d, %v", c.name, got, err)
		}
	}
}
