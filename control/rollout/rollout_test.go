package rollout

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/selvage-edge/selvage/control/health"
	"github.com/selvage-edge/selvage/control/identity"
	"github.com/selvage-edge/selvage/control/progress"
	"github.com/selvage-edge/selvage/control/publish"
	"github.com/selvage-edge/selvage/control/store"
	"github.com/selvage-edge/selvage/rings"
	"github.com/selvage-edge/selvage/telemetry/report"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func at(seconds int) time.Time { return noon.Add(time.Duration(seconds) * time.Second) }

// world is a control plane with one rollout and the nodes it watches.
type world struct {
	t       *testing.T
	rollout publish.Rollout
	seq     uint64
	leads   bool
	nodes   []progress.Node
	samples map[string][]health.Sample
	orders  []string
	now     int // seconds past noon
	*Driver
}

// colos by ring: one canary, one of the share, two others.
func newWorld(t *testing.T) *world {
	d := rings.Definition{Canaries: []string{"FRA"}, Share: 10, CanaryHold: 60, ShareHold: 120}
	colos := map[rings.Ring]string{rings.Canary: "FRA"}
	for i := range 26 * 26 {
		colo := string([]byte{'A' + byte(i/26), 'A' + byte(i%26), 'X'})
		if _, ok := colos[d.Of(colo)]; !ok {
			colos[d.Of(colo)] = colo
		}
	}
	w := &world{
		t: t, seq: 7, leads: true, samples: map[string][]health.Sample{},
		rollout: publish.Rollout{N: 1, State: publish.Pending, Ring: rings.Canary, Rings: d, Version: 1, Steps: []publish.Step{{At: noon, What: "staged"}}},
	}
	for _, colo := range []string{"FRA", colos[rings.Share], colos[rings.All], "ZZZ"} {
		w.nodes = append(w.nodes, progress.Node{Node: identity.Node{ID: colo, Colo: colo}, Connected: true, Since: at(-1000), Applied: 7})
		w.samples[colo] = []health.Sample{
			{At: at(-300), Health: report.Health{Started: at(-2000), Requests: 1000}},
			{At: at(-1), Health: report.Health{Started: at(-2000), Requests: 2000, Failed: 10}},
		}
	}
	w.start()
	return w
}

// start is a control plane that starts, or starts again.
func (w *world) start() {
	w.Driver = New(Config{
		Rollouts: w, Leads: func() bool { return w.leads }, Log: slog.New(slog.DiscardHandler),
		Nodes: func(context.Context, uint64) ([]progress.Node, error) { return w.nodes, nil },
		Health: func(node string, since time.Time) []health.Sample {
			all := w.samples[node]
			for len(all) > 1 && !all[1].At.After(since) {
				all = all[1:]
			}
			return append([]health.Sample(nil), all...)
		},
	})
}

func (w *world) PendingRollouts(context.Context) ([]publish.Watched, error) {
	if w.rollout.State != publish.Pending {
		return nil, nil
	}
	r := w.rollout
	return []publish.Watched{{Rollout: &r, Seq: w.seq}}, nil
}

func (w *world) Release(_ context.Context, o publish.Order) (*publish.Rollout, uint64, error) {
	if o.Version != w.rollout.Version {
		return nil, 0, publish.ErrMoved
	}
	w.orders = append(w.orders, o.To.String()+": "+o.Why)
	w.rollout.Ring, w.rollout.Live, w.rollout.Memory = o.To, time.Time{}, nil
	w.rollout.Version++
	w.rollout.Steps = append(w.rollout.Steps, publish.Step{At: at(w.now), What: "released"})
	w.seq++
	if o.To == rings.All {
		w.rollout.State = publish.Released
	}
	return &w.rollout, w.seq, nil
}

func (w *world) Halt(_ context.Context, o publish.Order) (*publish.Rollout, uint64, error) {
	w.orders = append(w.orders, "halt: "+o.Why)
	w.rollout.State = publish.Halted
	return &w.rollout, w.seq + 1, nil
}

func (w *world) Remember(_ context.Context, r *publish.Rollout) error {
	if r.Version != w.rollout.Version {
		return store.ErrStale
	}
	w.rollout = *r
	w.rollout.Version++
	return nil
}

func (w *world) node(colo string) *progress.Node {
	for i := range w.nodes {
		if w.nodes[i].Colo == colo {
			return &w.nodes[i]
		}
	}
	w.t.Fatalf("no node in %s", colo)
	return nil
}

// until turns once a second; every node that does not fail answers ten requests
// a second, of which none fails.
func (w *world) until(second int, each func()) {
	w.t.Helper()
	for w.now < second {
		w.now++
		for id, all := range w.samples {
			last := all[len(all)-1]
			last.At = at(w.now)
			last.Requests += 10
			w.samples[id] = append(all, last)
		}
		if each != nil {
			each()
		}
		if err := w.turn(w.t.Context(), at(w.now)); err != nil {
			w.t.Fatal(err)
		}
	}
}

func (w *world) fail(colo string, requests uint64) {
	all := w.samples[colo]
	all[len(all)-1].Failed += requests
}

// metrics are what the Driver counts.
func (w *world) metrics() (pending, halted float64) {
	w.t.Helper()
	r := prometheus.NewRegistry()
	r.MustRegister(w.Driver)
	all, err := r.Gather()
	if err != nil || len(all) != 2 {
		w.t.Fatalf("%v, %v", all, err)
	}
	return all[1].Metric[0].GetGauge().GetValue(), all[0].Metric[0].GetCounter().GetValue()
}

// ordered compares what was done: each order begins with what is wanted.
func (w *world) ordered(want ...string) {
	w.t.Helper()
	ok := len(want) == len(w.orders)
	for i := range want {
		ok = ok && strings.HasPrefix(w.orders[i], want[i])
	}
	if !ok {
		w.t.Errorf("after %d s ordered %q, want %q", w.now, w.orders, want)
	}
}

func TestChangeGoesRingByRing(t *testing.T) {
	w := newWorld(t)
	w.node("FRA").Applied = 6
	w.until(10, nil)
	if !w.rollout.Live.IsZero() {
		t.Error("the hold time begins before the canary has the change")
	}
	w.node("FRA").Applied = 7
	w.until(40, nil)
	w.start() // and goes on where the one before was
	w.until(70, nil)
	w.ordered()
	w.until(72, nil)
	w.ordered("share: ring canary held it for 1m0s")
	for i := range w.nodes {
		w.nodes[i].Applied = 8
	}
	w.until(72+120, nil)
	w.ordered("share: ")
	w.until(72+124, nil)
	w.ordered("share: ", "all: ring share held it for 2m0s")
	w.until(72+130, nil)
	if pending, _ := w.metrics(); pending != 0 {
		t.Errorf("%g on their way after the last", pending)
	}
}

func TestWhoDoesNotLeadDecidesNothing(t *testing.T) {
	w := newWorld(t)
	w.leads = false
	w.until(1000, nil)
	w.ordered()
	w.leads = true
	w.until(1002, nil)
	if w.rollout.Memory == nil {
		t.Error("who leads does nothing")
	}
}

func TestNotNumberedYet(t *testing.T) {
	w := newWorld(t)
	w.seq = 0
	w.until(100, nil)
	w.ordered()
	if w.rollout.Memory != nil {
		t.Error("what was before is taken of a change that no node can have")
	}
}

func TestRingWithoutNodesIsPassedOver(t *testing.T) {
	w := newWorld(t)
	w.nodes = w.nodes[2:]
	w.until(2, nil)
	w.ordered("all: no data center is in ring canary")
}

func TestCanaryThatIsAwayHoldsTheChange(t *testing.T) {
	w := newWorld(t)
	n := w.node("FRA")
	n.Connected, n.Applied = false, 3
	w.until(1000, nil)
	w.ordered()
	n.Connected, n.Applied = true, 7
	w.until(1059, nil)
	w.ordered()
	w.until(1062, nil)
	w.ordered("share: ")
}

func TestChangeIsHalted(t *testing.T) {
	reject := func(seq uint64) []store.Rejection {
		return []store.Rejection{{Seq: seq, Reason: "zone example.com cannot be compiled"}}
	}
	for name, c := range map[string]struct {
		do   func(w *world)
		want string // "" for on its way
	}{
		"the canary rejects it": {func(w *world) { w.node("FRA").Rejected = reject(7) }, "halt: FRA rejected seq 7: zone example.com"},
		"another rejects something else": {func(w *world) {
			w.node("ZZZ").Rejected = reject(9)
		}, ""},
		"the canary alone rejects a later entry": {func(w *world) {
			w.node("FRA").Rejected = reject(9)
			w.node("ZZZ").Applied = 9
		}, "halt: FRA rejected seq 9"},
		"all reject a later entry": {func(w *world) {
			for i := range w.nodes {
				w.nodes[i].Rejected, w.nodes[i].Applied = reject(9), 9
			}
		}, ""},
		"an older rejection":         {func(w *world) { w.node("FRA").Rejected = reject(3) }, ""},
		"the canary's requests fail": {func(w *world) { w.fail("FRA", 3) }, "halt: errors rose: "},
		"everybody's requests fail": {func(w *world) {
			for colo := range w.samples {
				w.fail(colo, 3)
			}
		}, ""},
		"a request fails now and then, as before": {func(w *world) {
			if w.now%10 == 0 {
				w.fail("FRA", 1)
			}
		}, ""},
		"the canary starts again": {func(w *world) {
			if w.now == 20 {
				last := &w.samples["FRA"][len(w.samples["FRA"])-1]
				last.Started, last.Requests, last.Failed = at(20), 0, 0
			}
		}, "halt: started again since seq 7: FRA; of the 3 that do not have the change 0"},
		"everybody starts again": {func(w *world) {
			if w.now == 20 {
				for colo := range w.samples {
					last := &w.samples[colo][len(w.samples[colo])-1]
					last.Started, last.Requests, last.Failed = at(20), 0, 0
				}
			}
		}, ""},
		"the canary goes silent": {func(w *world) {
			if w.now == 20 {
				w.node("FRA").Connected, w.node("FRA").Since = false, at(20)
			}
		}, "halt: away for 10s since seq 7: FRA"},
		"the canary changes its parent": {func(w *world) {
			switch w.now {
			case 20:
				w.node("FRA").Connected, w.node("FRA").Since = false, at(20)
			case 23:
				w.node("FRA").Connected, w.node("FRA").Since = true, at(23)
			}
		}, ""},
		"everybody goes": {func(w *world) {
			for i := range w.nodes {
				if w.now == 20 {
					w.nodes[i].Connected, w.nodes[i].Since = false, at(20)
				}
			}
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.until(5, nil)
			w.until(55, func() { c.do(w) })
			if c.want == "" {
				w.ordered()
				return
			}
			w.ordered(c.want)
			if _, halted := w.metrics(); halted != 1 {
				t.Errorf("%g counted as halted", halted)
			}
		})
	}
}

// A control plane that was away does not take that its nodes have not come back
// yet for a fault of the canaries.
func TestRestartOfTheControlPlaneHaltsNothing(t *testing.T) {
	w := newWorld(t)
	w.until(5, nil)
	for i := range w.nodes {
		w.nodes[i].Connected, w.nodes[i].Since = false, at(5)
	}
	w.now = 40
	w.start()
	w.until(41, nil)
	for i := range w.nodes {
		if w.nodes[i].Colo != "FRA" {
			w.nodes[i].Connected, w.nodes[i].Since = true, at(41)
		}
	}
	w.until(47, nil)
	w.ordered()
	w.node("FRA").Connected, w.node("FRA").Since = true, at(47)
	w.until(60, nil)
	w.ordered()
}

// Late errors do not drown in what went well before them.
func TestLateErrorsAreSeen(t *testing.T) {
	w := newWorld(t)
	w.rollout.Rings.CanaryHold = 10_000
	w.until(3000, nil)
	w.ordered()
	w.until(3030, func() { w.fail("FRA", 2) })
	w.ordered("halt: errors rose: ")
}
