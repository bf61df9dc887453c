package tier

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/selvage-edge/selvage/edge/request"
	"github.com/selvage-edge/selvage/zone"
)

// net is who answers probes in a test, and how.
type network struct {
	mu     sync.Mutex
	silent map[string]bool // takes the question and says nothing
	dead   map[string]bool // refuses
	probed map[string]int
}

func (n *network) probe(ctx context.Context, to *Node) error {
	n.mu.Lock()
	n.probed[to.ID]++
	silent, dead := n.silent[to.ID], n.dead[to.ID]
	n.mu.Unlock()
	if dead {
		return errors.New("refused")
	}
	if silent {
		<-ctx.Done()
		return ctx.Err()
	}
	return nil
}

func (n *network) set(m map[string]bool, id string, v bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	m[id] = v
}

func (n *network) count(id string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.probed[id]
}

// watched runs the table of FRA-0 in the bubble.
func watched(t *testing.T, nodes []Node) (*Table, *network) {
	n := &network{silent: map[string]bool{}, dead: map[string]bool{}, probed: map[string]int{}}
	table := NewTable(Config{Self: Node{ID: "FRA-0", Colo: "FRA"}, Probe: n.probe})
	table.Set(nodes)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { table.Run(ctx); close(done) }()
	t.Cleanup(func() { cancel(); <-done })
	return table, n
}

// owners counts who has some keys.
func owners(table *Table) map[string]int {
	all := map[string]int{}
	for k := range 300 {
		all[owner(table, mix(uint64(k)))]++
	}
	return all
}

func TestDeadServerIsOutWithinASecondAndBackWithItsFirstAnswer(t *testing.T) {
	for _, how := range []string{"dead", "silent"} {
		synctest.Test(t, func(t *testing.T) {
			table, n := watched(t, edges(3, "FRA"))
			<-time.After(2 * time.Second)
			which, limit := n.dead, time.Second
			if how == "silent" {
				which, limit = n.silent, 1300*time.Millisecond // nothing but time tells it from a slow one
			}
			waiting := table.view.Load().byID["FRA-1"]
			ctx, done := waiting.Asking(t.Context())
			defer done()
			began := time.Now()
			n.set(which, "FRA-1", true)
			<-ctx.Done()
			if took := time.Since(began); took > limit {
				t.Errorf("%s: out after %s", how, took)
			}
			if got := owners(table); got["FRA-1"] != 0 || got["FRA-0"] == 0 || got["FRA-2"] == 0 {
				t.Errorf("%s: keys are at %v", how, got)
			}
			n.set(which, "FRA-1", false)
			<-time.After(700 * time.Millisecond)
			if got := owners(table); got["FRA-1"] == 0 {
				t.Errorf("%s: not back: %v", how, got)
			}
		})
	}
}

func TestOneLostProbeTakesNobodyOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table, n := watched(t, edges(2, "FRA"))
		for range 10 {
			n.set(n.dead, "FRA-1", true)
			<-time.After(550 * time.Millisecond) // one or two probes
			n.set(n.dead, "FRA-1", false)
			<-time.After(350 * time.Millisecond)
			if got := owners(table); got["FRA-1"] == 0 {
				t.Fatalf("out: %v", got)
			}
		}
	})
}

func TestFailureIsProbedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table, n := watched(t, edges(2, "FRA"))
		<-time.After(310 * time.Millisecond)
		before := n.count("FRA-1")
		table.Failed(table.view.Load().byID["FRA-1"])
		synctest.Wait()
		if got := n.count("FRA-1"); got != before+1 {
			t.Errorf("%d probes, want %d", got, before+1)
		}
	})
}

// Nodes of other data centers are probed while they are asked; one that was
// lost and is asked no more gets another chance.
func TestFarNodesAreProbedWhileInUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table, n := watched(t, edges(1, "FRA", "NRT"))
		<-time.After(5 * time.Second)
		if got := n.count("NRT-0"); got != 0 {
			t.Errorf("%d probes of who is not asked", got)
		}
		far := table.view.Load().byID["NRT-0"]
		_, done := far.Asking(t.Context())
		done()
		n.set(n.dead, "NRT-0", true)
		<-time.After(5 * time.Second)
		if n.count("NRT-0") < 3 || far.up.Load() {
			t.Errorf("%d probes, up %t", n.count("NRT-0"), far.up.Load())
		}
		custom := &zone.Topology{Mode: zone.TopologyCustom, Parents: []string{"NRT"}}
		if way := table.Way(nil, testZone, custom, 1, request.RoleNone); len(way) != 0 {
			t.Error("a lost node is asked")
		}
		<-time.After(inUse)
		if way := table.Way(nil, testZone, custom, 1, request.RoleNone); len(way) != 1 {
			t.Error("a node that nobody has asked for long is still out")
		}
	})
}

// 400 nodes that do not answer keep the loop from nothing else.
func TestProbesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var nodes []Node
		for i := range 400 {
			nodes = append(nodes, Node{ID: fmt.Sprintf("FRA-%d", i), Colo: "FRA", Addrs: []string{"x:1"}})
		}
		most, now := 0, 0
		var mu sync.Mutex
		table := NewTable(Config{Self: Node{ID: "FRA-x", Colo: "FRA"}, Probe: func(ctx context.Context, _ *Node) error {
			mu.Lock()
			now++
			most = max(most, now)
			mu.Unlock()
			<-ctx.Done()
			mu.Lock()
			now--
			mu.Unlock()
			return ctx.Err()
		}})
		table.Set(nodes)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { table.Run(ctx); close(done) }()
		<-time.After(3 * time.Second)
		cancel()
		<-done
		if most != maxProbes || now != 0 {
			t.Errorf("%d probes at a time, %d left", most, now)
		}
	})
}
