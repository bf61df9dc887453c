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
		var pairs []pair
		for _, r := range c.ratios {
			pairs = append(pairs, pair{ours: 10 * r, theirs: 10})
		}
		f := summarise(workload{name: c.name, bar: 1}, "peer", pairs)
		if *f.Met != c.met {
			t.Errorf("%s: met = %t, want %t (quartiles %v)", c.name, *f.Met, c.met, f.Spread)
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
