package world

import (
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/selvage-edge/selvage/lab/sim/wan"
)

// fail makes the faults happen, each in its time, and mends those that last.
func (w *world) fail() {
	start := time.Now()
	for _, f := range w.plan.faults {
		w.work.Go(func() {
			<-time.After(f.at - time.Since(start))
			w.trace.add("FAULT %s", f)
			w.happen(f)
		})
	}
}

// happen begins a fault and sees to its end.
func (w *world) happen(f fault) {
	r := rand.New(rand.NewPCG(f.seed, 4))
	n, c := w.node(f.name), w.root(f.name)
	switch f.kind {
	case "cut":
		there, back := f.n%3 != 1, f.n%3 != 2
		w.cut(f.name, f.other, there, back, true)
		w.later(f.lasts, func() { w.cut(f.name, f.other, there, back, false) })
	case "isolate":
		w.isolate(f.name, true)
		w.later(f.lasts, func() { w.isolate(f.name, false) })
	case "delay":
		extra := span(r, 20*time.Millisecond, 3*time.Second)
		w.net.Slow(f.name, f.other, extra)
		w.net.Slow(f.other, f.name, extra/2)
		w.later(f.lasts, func() { w.net.Slow(f.name, f.other, 0); w.net.Slow(f.other, f.name, 0) })
	case "twist":
		from, to := f.name, f.other
		if f.n%4 != 0 {
			from, to = to, from
		}
		how := wan.Twist(1 + r.IntN(4))
		w.trace.add("what %s sends to %s next comes %s", from, to, how)
		w.net.Twist(from, to, how)
	case "reset":
		if l := n.running(); l != nil {
			l.host.Reset()
		}
	case "crash":
		if f.n%2 == 0 { // in the middle of what is written to the disk
			n.after.Store(int64(1 + r.IntN(300)))
			return
		}
		n.restart(f.n%3 == 0, r.IntN(100), f.lasts)
	case "full":
		n.fill(true)
		w.later(f.lasts, func() { n.fill(false) })
	case "slow":
		n.slow.Store(int64(span(r, 100*time.Microsecond, 40*time.Millisecond)))
		w.later(f.lasts, func() { n.slow.Store(0) })
	case "clock": // it is set, and stays so
		w.setClock(f.name, span(r, -2*time.Hour, 2*time.Hour))
	case "leader":
		c.restart(f.n%3 == 0, f.lasts)
	case "detach":
		if l := c.running(); l != nil {
			l.detach(true)
			w.later(f.lasts, func() { l.detach(false) })
		}
	case "mute":
		if l := c.running(); l != nil {
			l.lossy.Store(true)
			w.later(f.lasts/8, func() { l.lossy.Store(false) })
		}
	}
}

func (w *world) cut(a, b string, there, back, cut bool) {
	if there {
		w.net.Cut(a, b, cut)
	}
	if back {
		w.net.Cut(b, a, cut)
	}
}

func (w *world) isolate(name string, cut bool) {
	for i := range w.plan.machines {
		if other := w.plan.machines[i].name; other != name {
			w.cut(name, other, true, true, cut)
		}
	}
}

// mend ends all faults and starts who is dead.
func (w *world) mend() {
	w.trace.add("all is mended")
	for i := range w.plan.machines {
		for j := range w.plan.machines {
			a, b := w.plan.machines[i].name, w.plan.machines[j].name
			w.net.Cut(a, b, false)
			w.net.Slow(a, b, 0)
			w.net.Twist(a, b, wan.Straight)
		}
	}
	for _, r := range w.roots {
		if l := r.running(); l == nil {
			r.start()
		} else {
			l.detach(false)
			l.lossy.Store(false)
		}
	}
	for i, n := range w.nodes {
		if w.plan.wrong.leave && i == 0 {
			n.stop(false, 100)
			continue
		}
		n.after.Store(0)
		n.slow.Store(0)
		n.fill(false)
		if n.running() == nil {
			n.start()
		}
	}
}

// setClock moves a machine's clock, or the database's.
func (w *world) setClock(name string, by time.Duration) {
	w.trace.add("the clock of %s is set by %s", name, by)
	if n := w.node(name); n != nil {
		n.ahead.Add(int64(by))
	} else if c := w.root(name); c != nil {
		c.ahead.Add(int64(by))
	} else {
		w.database.Add(int64(by))
	}
}

// ahead is a clock that is.
func ahead(by *atomic.Int64) func() time.Time {
	return func() time.Time { return time.Now().Add(time.Duration(by.Load())) }
}
