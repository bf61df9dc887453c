package main

import "testing"

func TestBarIsJudgedByTheUpperQuartile(t *testing.T) {
	for _, c := range []struct {
		name   string
		ratios []float64
		met    bool
	}{
		{"all below", []float64{.7, .8, .9, .9, .9}, true},
		{"median below, upper quartile above", []float64{.7, .8, .9, 1.1, 1.2}, false},
		{"one far off", []float64{.7, .7, .8, .8, 3}, true},
	} {
		var rounds []round
		for _, r := range c.ratios {
			rounds = append(rounds, round{costs: []float64{10 * r, 1, 10}})
		}
		f := summarise(work{title: c.name, peers: []peer{{"first", 0}, {"second", 1}}}, rounds)
		if f[0].Met != nil {
			t.Errorf("%s: judged without a bar", c.name)
		}
		if *f[1].Met != c.met {
			t.Errorf("%s: met = %t, want %t (quartiles %v)", c.name, *f[1].Met, c.met, f[1].Spread)
		}
	}
}

func TestFigureWithoutPeerIsJudgedByItself(t *testing.T) {
	rounds := []round{{costs: []float64{7}}, {costs: []float64{8}}, {costs: []float64{9}}}
	for bar, met := range map[float64]bool{8: false, 9: true} {
		if f := summarise(work{bar: bar}, rounds)[0]; *f.Met != met || f.Ours != 8 || f.Peer != nil {
			t.Errorf("bar %v: %s", bar, f)
		}
	}
}

func TestQuantileInterpolates(t *testing.T) {
	for _, c := range []struct{ q, want float64 }{{0, 1}, {.25, 1.75}, {.5, 2.5}, {1, 4}} {
		if got := quantile([]float64{1, 2, 3, 4}, c.q); got != c.want {
			t.Errorf("quantile %v = %v, want %v", c.q, got, c.want)
		}
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
