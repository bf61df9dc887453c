package world

import (
	"flag"
	"fmt"
	"testing"
	"time"

	"github.com/selvage-edge/selvage/lab/sim/wan"
)

var (
	fromSeed = flag.Uint64("from", 1, "first seed")
	seeds    = flag.Int("seeds", 50, "how many")
	traces   = flag.String("traces", "../../../build/traces-of-sim", "folder for the traces of runs that failed")
	keep     = flag.Bool("keep", false, "keep the traces of all runs")
)

// Whatever happens to whom, what the feed promises holds.
func TestSeeds(t *testing.T) {
	places, err := wan.Places()
	if err != nil {
		t.Fatal(err)
	}
	empty := emptyDatabase(t)
	for i := range *seeds {
		seed := *fromSeed + uint64(i)
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			p := newPlan(seed, places, changes)
			began := time.Now()
			w := run(t, &p, newDatabase(t, empty))
			verdict(t, w)
			t.Logf("%d machines, %d faults, %d entries, %s", len(p.machines), len(p.faults), len(w.witness.entries), time.Since(began).Round(time.Millisecond))
		})
	}
}

// verdict says what was wrong, where its trace is and how to see it again.
func verdict(t *testing.T, w *world) {
	t.Helper()
	if len(w.wrong) > 0 || *keep {
		path, err := w.trace.save(*traces, w.plan.seed)
		if err != nil {
			t.Error(err)
		}
		t.Logf("trace: %s", path)
	}
	for i, text := range w.wrong {
		if i == 5 {
			t.Errorf("and %d more", len(w.wrong)-i)
			break
		}
		t.Error(text)
	}
	if len(w.wrong) > 0 {
		t.Logf("again: go test ./lab/sim/world -run TestSeeds -count=1 -from %d -seeds 1", w.plan.seed)
	}
}
