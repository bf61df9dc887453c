package world

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/selvage-edge/selvage/control/publish"
	"github.com/selvage-edge/selvage/control/store"
	"github.com/selvage-edge/selvage/feed"
	"github.com/selvage-edge/selvage/internal/figure"
	"github.com/selvage-edge/selvage/lab/sim/wan"
)

var (
	fleet   = flag.Int("fleet", 24, "data centers of the runs that are measured")
	calm    = flag.Duration("calm", 5*time.Second, "simulated time of the run without faults")
	dying   = flag.Duration("dying", 15*time.Second, "simulated time of the run in which relays die")
	figures = flag.String("figures", "", "file that the figures are added to")
)

const (
	rate       = 300 // changes per second
	dyingEvery = time.Minute
	deadFor    = 30 * time.Second
)

// delays counts how long changes took from the client to a node, by milliseconds.
type delays struct {
	counts [120_000]atomic.Int64
	sum    atomic.Int64
}

func (d *delays) add(took time.Duration) {
	ms := (took + time.Millisecond - 1) / time.Millisecond
	d.counts[min(max(0, int(ms)), len(d.counts)-1)].Add(1)
	d.sum.Add(1)
}

// quantile in milliseconds.
func (d *delays) quantile(q float64) float64 {
	left := int64(q * float64(d.sum.Load()))
	for ms := range d.counts {
		if left -= d.counts[ms].Load(); left < 0 {
			return float64(ms)
		}
	}
	return float64(len(d.counts))
}

// A change is at all data centers in less than a second when nothing is wrong.
func TestFleetIsToldInASecond(t *testing.T) {
	d := play(t, *calm, false)
	report(t, d, fmt.Sprintf("%d data centers, %d changes/s, no faults: ", *fleet, rate), .99, time.Second)
}

// And in less than five for nearly all while relays die.
func TestFleetIsToldWhileRelaysDie(t *testing.T) {
	d := play(t, *dying, true)
	report(t, d, fmt.Sprintf("%d data centers, %d changes/s, a relay dies each minute: ", *fleet, rate), .95, 5*time.Second)
}

func report(t *testing.T, d *delays, name string, q float64, bar time.Duration) {
	t.Helper()
	for _, at := range []float64{.5, .95, .99, .999} {
		most := 0.0
		if at == q {
			most = float64(bar / time.Millisecond)
		}
		f := figure.Alone(fmt.Sprintf("%sdelay from the client to a node, simulated, p%g", name, at*100), "ms", []float64{d.quantile(at)}, most)
		t.Log(f)
		if *figures != "" {
			if err := figure.Append(*figures, f); err != nil {
				t.Error(err)
			}
		}
	}
	if got := time.Duration(d.quantile(q)) * time.Millisecond; got >= bar {
		t.Errorf("p%g is %s, want less than %s", q*100, got, bar)
	}
}

// newFleet is data centers all over the world, every twentieth a relay.
func newFleet(t *testing.T) *plan {
	places, err := wan.Places()
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(330, 1))
	r.Shuffle(len(places), func(a, b int) { places[a], places[b] = places[b], places[a] })
	find := func(colo string) wan.Place {
		return places[slices.IndexFunc(places, func(p wan.Place) bool { return p.Colo == colo })]
	}
	p := &plan{light: true, gather: 2 * time.Millisecond, kept: 1 << 20}
	p.machines = []machine{{name: "control1", role: control, place: find("FRA")}, {name: "control2", role: control, place: find("IAD")}}
	places = places[:*fleet]
	relays := spread(places, max(3, *fleet/20))
	for _, at := range places {
		m := machine{name: "dc-" + at.Colo, role: edge, place: at, parents: []string{"control1", "control2"}}
		if near := nearest(at, relays); near[0].Colo == at.Colo {
			m.role = relay
		} else {
			m.parents = append([]string{"dc-" + near[0].Colo, "dc-" + near[1].Colo, "dc-" + near[2].Colo}, m.parents...)
		}
		p.machines = append(p.machines, m)
	}
	return p
}

// spread chooses places that are far from each other.
func spread(places []wan.Place, n int) []wan.Place {
	chosen := places[:1:1]
	for len(chosen) < n {
		chosen = append(chosen, slices.MaxFunc(places, func(a, b wan.Place) int {
			return int(wan.Km(a, nearest(a, chosen)[0]) - wan.Km(b, nearest(b, chosen)[0]))
		}))
	}
	return chosen
}

func nearest(to wan.Place, of []wan.Place) []wan.Place {
	return slices.SortedFunc(slices.Values(of), func(a, b wan.Place) int { return int(wan.Km(to, a) - wan.Km(to, b)) })
}

// play runs the fleet under load for a time and measures.
func play(t *testing.T, lasts time.Duration, die bool) *delays {
	d := new(delays)
	dir := tempDir(t)
	began := time.Now()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, newFleet(t), dir)
		w.told = func(n *node, e *feed.Entry) {
			at, err := strconv.ParseInt(string(e.Changes[0].Value[:19]), 10, 64)
			if err != nil {
				w.broken("state", "%s is told of %q", n.m.name, e.Changes[0].Value)
			}
			d.add(time.Since(time.Unix(0, at)))
		}
		w.begin()
		<-time.After(10 * time.Second) // all are connected
		stop := make(chan struct{})
		if die {
			w.work.Go(func() { w.reap(stop) })
		}
		w.load(lasts)
		close(stop)
		close(w.over)
		w.work.Wait()
		w.mend()
		w.check()
		w.end()
		verdict(t, w)
	})
	t.Logf("%s simulated in %s", lasts, time.Since(began).Round(time.Second))
	return d
}

// load writes as many changes per second as rate says.
func (w *world) load(lasts time.Duration) {
	var clients sync.WaitGroup
	defer clients.Wait()
	tick := time.NewTicker(time.Second / rate)
	defer tick.Stop()
	pad := bytes.Repeat([]byte("x"), 200)
	for i := range int(lasts.Seconds() * rate) {
		<-tick.C
		clients.Go(func() {
			value := append(fmt.Appendf(nil, "%019d", time.Now().UnixNano()), pad...)
			l := w.roots[i%len(w.roots)].running()
			_, err := l.pub.Write(l.ctx, publish.Action{Actor: "client", Name: "state"}, func(*store.Tx) (publish.Written, error) {
				return publish.Written{Changes: []feed.Change{{Op: feed.Set, Key: fmt.Sprintf("key/%d", i%1000), Value: value}}}, nil
			})
			if err != nil {
				w.broken("lost", "change %d: %v", i, err)
			}
		})
	}
}

// reap takes the power from a relay each minute.
func (w *world) reap(stop chan struct{}) {
	var relays []*node
	for _, n := range w.nodes {
		if n.m.role == relay {
			relays = append(relays, n)
		}
	}
	for pause := 5 * time.Second; ; pause = dyingEvery {
		select {
		case <-stop:
			return
		case <-time.After(pause):
		}
		n := relays[w.chance(int64(len(relays)))]
		w.trace.add("FAULT %s dies", n.m.name)
		n.restart(true, 0, deadFor)
	}
}
