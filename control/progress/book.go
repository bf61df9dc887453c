// Package progress keeps how far each node has come. It promises that any
// control process answers for the nodes of all that share its database, at most
// half a second late, that a node which is gone is known with the time since
// when, also after a restart, and that what it holds is bounded by the number of
// nodes.
package progress

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/selvage-edge/selvage/control/identity"
	"github.com/selvage-edge/selvage/control/store"
	"github.com/selvage-edge/selvage/feed"
)

const (
	// keptAcks is how many acknowledgements of a node are remembered with
	// their times.
	keptAcks = 256
	// LagLimit is how far behind a connected node may be before it counts as
	// lagging.
	LagLimit = 3 * time.Second
	// maxReason bounds a rejection's text, in bytes.
	maxReason = 512
)

// Config is what a Book is made from.
type Config struct {
	Store *store.Store
	// Control names this control process among those of the database.
	Control string
	// Nodes lists the nodes that may connect.
	Nodes func(context.Context) ([]identity.Node, error)
	// Head is the newest entry's number.
	Head func() uint64
	// Times appends the times of the entries after one number up to another,
	// in order, as far as they are at hand.
	Times func(dst []time.Time, after, through uint64) []time.Time
	// Time is an entry's time or, where that is not at hand, that of the oldest
	// one after it that is; zero for none.
	Time func(seq uint64) time.Time
	Log  *slog.Logger
}

// Book is where nodes' reports are noted. Safe for concurrent use.
type Book struct {
	Config
	counters

	mu      sync.Mutex
	nodes   map[string]*node  // guarded by mu
	read    time.Time         // when the database was read last; guarded by mu
	rejects []store.Rejection // not written yet; guarded by mu
	known   []identity.Node   // as last listed, for metrics; guarded by mu
}

type ack struct {
	seq uint64
	at  time.Time
}

// node is what is known of one.
type node struct {
	colo, addr, via string
	control         string // the process that it is or was connected to; "" for this one
	applied         uint64
	at              time.Time // when applied was heard
	connected       bool
	since           time.Time // since when it is, or is not
	began           time.Time // as the node's connection itself says: tells two of them apart
	acks            []ack     // the last ones, a ring
	next            int       // the oldest of acks once they are keptAcks
	rejected        []store.Rejection
	waits           ack  // the oldest entry that it does not have, and that one's time
	dirty           bool // not written yet
}

// New makes a Book that knows what the database does; Run keeps it so.
func New(ctx context.Context, c Config) (*Book, error) {
	b := &Book{Config: c, counters: newCounters(), nodes: map[string]*node{}}
	return b, b.refresh(ctx)
}

// Connected notes that a node is connected, and stands where it says.
func (b *Book) Connected(n feed.NodeInfo, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	x := b.node(n.Node)
	if n.Acked != x.applied || x.at.IsZero() { // lower: it began again
		if n.Acked < x.applied {
			x.acks, x.next = nil, 0
		}
		x.reached(n.Acked, now)
	}
	x.colo, x.via, x.addr, x.control, x.began = n.Colo, n.Via, n.Addr, "", n.Since
	x.connected, x.since, x.dirty = true, n.Since.UTC(), true
}

// Disconnected notes the end of a connection.
func (b *Book) Disconnected(n feed.NodeInfo, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	x := b.node(n.Node)
	if x.control != "" || !x.connected || !x.began.Equal(n.Since) {
		return // it has come back meanwhile, here or elsewhere
	}
	x.connected, x.since, x.addr, x.dirty = false, now, "", true
}

// Note hears that a node reached seq, or, with a reason, that it could not use
// entry seq although it stored it.
func (b *Book) Note(n feed.NodeInfo, seq uint64, rejected string, now time.Time) {
	was, seen := b.note(n, seq, rejected, now)
	if !seen || seq <= was || was == 0 { // a new node was not waited for
		return
	}
	for _, at := range b.Times(nil, was, seq) {
		b.delay.Observe(max(0, now.Sub(at)).Seconds())
	}
}

// note returns where the node was before, and whether that was known.
func (b *Book) note(n feed.NodeInfo, seq uint64, rejected string, now time.Time) (was uint64, seen bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	x := b.node(n.Node)
	if rejected != "" {
		r := store.Rejection{Node: n.Node, Seq: seq, Reason: rejected[:min(len(rejected), maxReason)], At: now}
		if !x.reject(r) {
			return seq, false // said again, as on each new connection
		}
		b.rejectedTotal.Inc()
		if b.rejects = append(b.rejects, r); len(b.rejects) > store.KeptRejections*max(16, len(b.nodes)) {
			b.rejects = b.rejects[1:] // the database does not take them
		}
	}
	was, seen = x.applied, !x.at.IsZero()
	if n.Since.Before(x.began) {
		return was, false // of a connection that was replaced
	}
	x.colo, x.via, x.control, x.began = n.Colo, n.Via, "", n.Since
	if !x.connected {
		x.connected, x.since = true, n.Since.UTC()
	}
	x.dirty = true
	if seq > was || !seen {
		x.reached(seq, now)
	}
	return was, seen
}

// node is called with mu held.
func (b *Book) node(id string) *node {
	x := b.nodes[id]
	if x == nil {
		x = &node{}
		b.nodes[id] = x
	}
	return x
}

func (x *node) reached(seq uint64, at time.Time) {
	x.applied, x.at = seq, at
	if len(x.acks) < keptAcks {
		x.acks = append(x.acks, ack{seq, at})
		return
	}
	x.acks[x.next] = ack{seq, at}
	x.next = (x.next + 1) % keptAcks
}

// reject reports whether the rejection is news.
func (x *node) reject(r store.Rejection) bool {
	i, found := slices.BinarySearchFunc(x.rejected, r.Seq, func(r store.Rejection, seq uint64) int { return cmp.Compare(r.Seq, seq) })
	if found && x.rejected[i].Reason == r.Reason {
		return false
	}
	if found {
		x.rejected[i] = r
		return true
	}
	x.rejected = slices.Insert(x.rejected, i, r)
	if len(x.rejected) > store.KeptRejections {
		x.rejected = x.rejected[1:]
	}
	return true
}

// reachedAt is when the node was first heard to have seq, as far as is
// remembered; zero when it does not have it.
func (x *node) reachedAt(seq uint64) time.Time {
	for i := range x.acks {
		if a := x.acks[(x.next+i)%len(x.acks)]; a.seq >= seq {
			return a.at
		}
	}
	return time.Time{}
}

// Describe implements prometheus.Collector.
func (b *Book) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(b, ch) }
