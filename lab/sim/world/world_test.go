package world

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/selvage-edge/selvage/control/store"
	"github.com/selvage-edge/selvage/feed"
	"github.com/selvage-edge/selvage/lab/sim/wan"
)

// world is one run.
type world struct {
	t        *testing.T
	plan     *plan
	trace    *trace
	net      *wan.Net
	ca       *authority
	dir      string // of the database
	witness  *witness
	roots    []*root
	nodes    []*node
	byID     map[string]*node
	work     sync.WaitGroup
	over     chan struct{} // closed when no more faults come
	source   *source
	told     func(*node, *feed.Entry) // hears of each entry that a node stored; nil: nobody does
	ends     sync.WaitGroup           // what ends after all others
	lives    atomic.Int64
	database atomic.Int64 // nanoseconds that its clock is ahead

	mu       sync.Mutex
	rand     *rand.Rand // guarded by mu
	wrong    []string   // guarded by mu
	promised []promise  // guarded by mu
	purged   []purged   // guarded by mu
	visits   []seen     // guarded by mu
}

// promise is a change of which the client was told.
type promise struct {
	id  string
	seq uint64 // 0: it will have one
}

// broken notes that an invariant does not hold.
func (w *world) broken(which, format string, args ...any) {
	text := which + ": " + fmt.Sprintf(format, args...)
	w.trace.add("BROKEN %s", text)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wrong = append(w.wrong, text)
}

func (w *world) chance(n int64) int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rand.Int64N(n)
}

func (w *world) random() *rand.Rand { return rand.New(rand.NewPCG(uint64(w.chance(1<<62)), 3)) }

// later does f after a time; the run waits for it.
func (w *world) later(d time.Duration, f func()) {
	w.work.Go(func() {
		select {
		case <-time.After(d):
		case <-w.over:
		}
		f()
	})
}

// onAck hears what nodes say to their parents.
func (w *world) onAck(from feed.NodeInfo, seq uint64, rejected string) {
	if rejected != "" {
		w.broken("state", "%s rejects %d: %s", from.Node, seq, rejected)
		return
	}
	if seq > w.witness.head().Seq {
		w.broken("lost", "%s acknowledged %d, the log ends at %d", from.Node, seq, w.witness.head().Seq)
	}
	if n := w.byID[from.Node]; n != nil {
		n.ack(seq)
	}
}

func (w *world) node(name string) *node {
	for _, n := range w.nodes {
		if n.m.name == name {
			return n
		}
	}
	return nil
}

func (w *world) root(name string) *root {
	for _, r := range w.roots {
		if r.m.name == name {
			return r
		}
	}
	return nil
}

// run plays a plan and returns what was wrong.
func run(t *testing.T, p *plan, dir string) (w *world) {
	synctest.Test(t, func(t *testing.T) {
		w = newWorld(t, p, dir)
		w.begin()
		var clients sync.WaitGroup
		w.write(&clients)
		w.fail()
		clients.Wait()
		close(w.over)
		w.work.Wait()
		w.mend()
		w.check()
		w.end()
	})
	return w
}

func newWorld(t *testing.T, p *plan, dir string) *world {
	w := &world{
		t: t, plan: p, trace: &trace{start: time.Now()}, net: wan.New(), ca: newAuthority(t), dir: dir,
		byID: map[string]*node{}, over: make(chan struct{}), rand: rand.New(rand.NewPCG(p.seed, 2)),
	}
	log, err := store.OpenShared(context.Background(), dir, store.Shared{Now: ahead(&w.database), Around: func(_ context.Context, _ bool, run func() error) error { return run() }})
	if err != nil {
		t.Fatal(err)
	}
	w.witness = &witness{w: w, store: log}
	for i := range p.machines {
		m := &p.machines[i]
		w.trace.add("%s in %s, parents %v", m.name, m.place.Colo, m.parents)
		if m.role == control {
			r := &root{w: w, m: m, id: w.ca.identity("", "", false)}
			w.roots = append(w.roots, r)
			continue
		}
		n := newNode(w, m)
		w.nodes = append(w.nodes, n)
		w.byID[nodeID(m.name)] = n
	}
	return w
}

// begin starts all machines.
func (w *world) begin() {
	w.source = newSource(w, w.plan.machines[len(w.plan.machines)-1].place)
	for _, r := range w.roots {
		r.start()
	}
	w.create()
	for _, n := range w.nodes {
		n.start()
	}
}

// end stops all machines.
func (w *world) end() {
	for _, n := range w.nodes {
		n.stop(false, 100)
	}
	for _, r := range w.roots {
		r.stop(true)
	}
	if err := w.source.server.Close(); err != nil {
		w.t.Error(err)
	}
	w.ends.Wait()
	<-time.After(time.Second) // for answers of the origin that nobody waits for
	if err := w.witness.store.Close(); err != nil {
		w.t.Error(err)
	}
}

// converge is how long all nodes have after the last fault was mended.
const converge = 5 * time.Minute

// emptyDatabase makes the database that runs begin with.
func emptyDatabase(t *testing.T) string {
	dir := tempDir(t)
	s, err := store.Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

// newDatabase copies an empty database that was made once.
func newDatabase(t *testing.T, from string) string {
	dir := tempDir(t)
	text, err := os.ReadFile(from + "/" + store.FileName)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/"+store.FileName, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// tempDir is in memory where the machine has such a place: what is simulated is
// the end of processes, so no disk has to be waited for.
func tempDir(t *testing.T) string {
	if dir, err := os.MkdirTemp("/dev/shm", "selvage-sim-"); err == nil { //nolint:usetesting // a place of its own, in memory
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		return dir
	}
	return t.TempDir()
}
