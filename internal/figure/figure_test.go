package figure

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

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
		var ours, theirs []float64
		for _, r := range c.ratios {
			ours, theirs = append(ours, 10*r), append(theirs, 10)
		}
		if f := Beside(c.name, "µs", "peer", ours, theirs, 1); *f.Met != c.met {
			t.Errorf("%s: met = %t, want %t (quartiles %v)", c.name, *f.Met, c.met, f.Spread)
		}
		if f := Beside(c.name, "µs", "peer", ours, theirs, 0); f.Met != nil || Missed([]Figure{f}) != nil {
			t.Errorf("%s: judged without a bar", c.name)
		}
	}
}

func TestFigureWithoutPeerIsJudgedByItself(t *testing.T) {
	for bar, met := range map[float64]bool{8: false, 9: true} {
		f := Alone("a", "KiB", []float64{9, 7, 8}, bar)
		if *f.Met != met || f.Ours != 8 || f.Peer != nil || (Missed([]Figure{f}) == nil) != met {
			t.Errorf("bar %v: %s", bar, f)
		}
	}
}

func TestQuantileInterpolates(t *testing.T) {
	for _, c := range []struct{ q, want float64 }{{0, 1}, {.25, 1.75}, {.5, 2.5}, {1, 4}} {
		if got := Quantile([]float64{1, 2, 3, 4}, c.q); got != c.want {
			t.Errorf("quantile %v = %v, want %v", c.q, got, c.want)
		}
	}
}

func TestWrittenFiguresHaveEveryKey(t *testing.T) {
	file := filepath.Join(t.TempDir(), "out", "a.json")
	if err := Write(file, []Figure{Alone("a", "KiB", []float64{1}, 0)}); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var list []map[string]any
	if err := json.Unmarshal(text, &list); err != nil || len(list) != 1 {
		t.Fatal(err, list)
	}
	for _, key := range []string{"name", "unit", "ours", "peer", "peer_name", "ratio", "spread", "bar", "sense", "met"} {
		if _, ok := list[0][key]; !ok {
			t.Errorf("no %s", key)
		}
	}
}

func TestWhatIsAppendedIsRead(t *testing.T) {
	file := filepath.Join(t.TempDir(), "figures")
	want := []Figure{Count("a", "fetches", 1, 1), Count("b", "answers", 1, 0), Most("c", "ms", []float64{3, 1, 2, 5, 4}, 1, 4)}
	for _, f := range want {
		if err := Append(file, f); err != nil {
			t.Fatal(err)
		}
	}
	got, err := Read(file)
	if err != nil || len(got) != len(want) {
		t.Fatal(got, err)
	}
	for i, f := range got {
		if f.String() != want[i].String() || *f.Met != (i == 0) {
			t.Errorf("got %s, want %s", f, want[i])
		}
	}
	if got[2].Ours != 5 || got[2].Spread != [2]float64{2, 4} {
		t.Errorf("got %+v", got[2])
	}
	if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{file, file + "-none"} {
		if got, err := Read(file); err == nil {
			t.Errorf("read %v", got)
		}
	}
}
