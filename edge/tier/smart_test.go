package tier

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/selvage-edge/selvage/edge/request"
	"github.com/selvage-edge/selvage/zone"
)

// world is the tables of some colos, that consult each other, and how far the
// origin is from each colo.
type world struct {
	tables map[string]*Table
	mu     sync.Mutex
	far    map[string]time.Duration // by colo; 0 = cannot be reached; guarded by mu
}

func (w *world) distance(colo string) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.far[colo]
}

func (w *world) move(colo string, far time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.far[colo] = far
}

func newWorld(t *testing.T, far map[string]time.Duration) *world {
	w := &world{tables: map[string]*Table{}, far: far}
	var colos []string
	for colo := range far {
		colos = append(colos, colo)
	}
	nodes := edges(2, colos...)
	for _, n := range nodes {
		w.tables[n.ID] = NewTable(Config{
			Self: n, Probe: func(context.Context, *Node) error { return nil },
			Measure: func(context.Context, string) (time.Duration, error) {
				far := w.distance(n.Colo)
				if far == 0 {
					return 0, errors.New("unreachable")
				}
				return far, nil
			},
			Consult: func(_ context.Context, to *Node, report []byte) ([]byte, error) {
				return w.tables[to.ID].Hear(n.ID, report)
			},
		})
	}
	for _, table := range w.tables {
		table.Set(nodes)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { table.Run(ctx); close(done) }()
		t.Cleanup(func() { cancel(); <-done })
	}
	return w
}

// serve lets every edge serve the zone for a while.
func (w *world) serve(d time.Duration) {
	smart := &zone.Topology{Mode: zone.TopologySmart}
	for end := time.Now().Add(d); time.Now().Before(end); <-time.After(time.Second) {
		for _, table := range w.tables {
			table.Way(nil, testZone, smart, 1, request.RoleNone)
		}
	}
}

// upper is the upper tier on which all agree; "" when they do not.
func (w *world) upper() string {
	found := ""
	for _, table := range w.tables {
		got := table.upper(table.view.Load(), testZone, &zone.Topology{Mode: zone.TopologySmart})
		if found == "" {
			found = got
		}
		if got != found {
			return ""
		}
	}
	return found
}

func TestUpperTierIsTheNearestToTheOrigin(t *testing.T) {
	for _, near := range []string{"FRA", "NRT", "IAD"} {
		synctest.Test(t, func(t *testing.T) {
			far := map[string]time.Duration{"FRA": 90 * time.Millisecond, "NRT": 120 * time.Millisecond, "IAD": 80 * time.Millisecond}
			far[near] = 5 * time.Millisecond
			w := newWorld(t, far)
			w.serve(time.Minute)
			if got := w.upper(); got != near {
				t.Errorf("upper tier %q, want %s", got, near)
			}
		})
	}
}

func TestUpperTierMovesOnlyForWhatIsClearlyBetter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, map[string]time.Duration{"FRA": 30 * time.Millisecond, "NRT": 200 * time.Millisecond})
		w.serve(time.Minute)
		w.move("NRT", 26*time.Millisecond) // a tenth better, and not by 5 ms
		w.serve(10 * time.Minute)
		if got := w.upper(); got != "FRA" {
			t.Errorf("upper tier %q, want FRA", got)
		}
		w.move("NRT", 10*time.Millisecond)
		w.serve(5 * time.Minute)
		if got := w.upper(); got != "NRT" {
			t.Errorf("upper tier %q, want NRT", got)
		}
		w.move("NRT", 0)
		w.serve(10 * time.Minute)
		if got := w.upper(); got != "FRA" {
			t.Errorf("upper tier %q, want FRA since NRT does not reach the origin", got)
		}
	})
}

// One window is no reason to move.
func TestUpperTierNeedsThreeWindows(t *testing.T) {
	d := &decided{upper: "FRA", from: map[string]distance{"FRA": {d: 100 * time.Millisecond}, "NRT": {d: time.Millisecond}, "SIN": {d: time.Millisecond}}}
	for i, step := range []struct {
		best  string
		moves bool
	}{{"NRT", false}, {"NRT", false}, {"SIN", false}, {"SIN", false}, {"FRA", false}, {"SIN", false}, {"SIN", false}, {"SIN", true}} {
		if got := d.step(step.best); got != step.moves {
			t.Errorf("window %d: moved %t, want %t", i, got, step.moves)
		}
	}
	if d.upper != "SIN" {
		t.Errorf("upper tier %s", d.upper)
	}
}

func TestReportsOfStrangersAndTooLargeOnesAreRefused(t *testing.T) {
	table := NewTable(Config{Self: Node{ID: "FRA-0", Colo: "FRA"}})
	table.Set(edges(1, "FRA", "NRT"))
	large := report{Zones: make([]zoneDistance, maxReport+1)}
	text, err := json.Marshal(large)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ node, text string }{
		"stranger": {"x", `{"zones":[]}`}, "no JSON": {"NRT-0", `zones`}, "many": {"NRT-0", string(text)},
		"long": {"NRT-0", fmt.Sprintf("%*s", MaxReportBytes+1, "{}")},
	} {
		if answer, err := table.Hear(c.node, []byte(c.text)); err == nil {
			t.Errorf("%s: answered %s", name, answer)
		}
	}
	if answer, err := table.Hear("NRT-0", []byte(`{"zones":[{"zone":"z","us":-9223372036854775808},{"zone":"z","us":9223372036854775807}]}`)); err != nil {
		t.Errorf("%s, %v", answer, err)
	}
}

func TestZonesInMemoryAreBounded(t *testing.T) {
	table := NewTable(Config{Self: Node{ID: "FRA-0", Colo: "FRA"}})
	table.Set(edges(1, "FRA", "NRT"))
	for i := range maxDecided/maxReport + 2 {
		r := report{}
		for j := range maxReport {
			r.Zones = append(r.Zones, zoneDistance{Zone: fmt.Sprintf("%d-%d", i, j), Micros: 5})
		}
		table.hear("NRT", &r)
	}
	if n := len(table.smart.decided); n != maxDecided {
		t.Errorf("%d zones decided for, at most %d", n, maxDecided)
	}
	for i := range maxActive + 10 {
		table.smart.touch(fmt.Sprint(i))
	}
	if n := len(table.smart.active); n != maxActive {
		t.Errorf("%d zones reported, at most %d", n, maxActive)
	}
	table.choose(time.Now().Add(measureLife * 2))
	if n := len(table.smart.decided); n != 0 {
		t.Errorf("%d zones after their life", n)
	}
}

// Whatever a report says, the answer can be read and nothing grows.
func FuzzHear(f *testing.F) {
	f.Add([]byte(`{"zones":[{"zone":"a","us":5},{"zone":"b","us":-1}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		table := NewTable(Config{Self: Node{ID: "FRA-0", Colo: "FRA"}})
		table.Set(edges(1, "FRA", "NRT"))
		answer, err := table.Hear("NRT-0", text)
		if err != nil {
			return
		}
		var said choices
		if err := json.Unmarshal(answer, &said); err != nil || len(said.Upper) > maxReport {
			t.Errorf("%q answers %q, %v", text, answer, err)
		}
		table.choose(time.Now())
	})
}
