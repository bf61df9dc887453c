package progress

import (
	"context"
	"time"

	"github.com/selvage-edge/selvage/control/identity"
	"github.com/selvage-edge/selvage/control/store"
)

// Node is where one node stands.
type Node struct {
	identity.Node
	Connected bool
	Since     time.Time // since when it is connected, or is not; zero: never heard of
	Addr      string    // "" when it is connected elsewhere
	Via       string    // the relay between; "" for none
	Control   string    // the control process that it is or was connected to
	Applied   uint64    // newest entry that it has
	At        time.Time // when that was heard
	// Lag is how many entries it lacks, Waits the time of the oldest of them;
	// where that is out of reach, of the oldest that is known.
	Lag   uint64
	Waits time.Time
	// Reached is when it was first heard to have the entry that was asked for,
	// as far as is remembered.
	Reached  time.Time
	Rejected []store.Rejection // by number
}

// At returns all nodes that may connect, with what they did about entry seq, 0
// for none.
func (b *Book) At(ctx context.Context, seq uint64) ([]Node, error) {
	known, err := b.Nodes(ctx)
	if err != nil {
		return nil, err
	}
	if b.Store.Shared() {
		if err := b.refresh(ctx); err != nil {
			return nil, err
		}
	}
	return b.view(known, seq), nil
}

// view is what is known of known nodes.
func (b *Book) view(known []identity.Node, seq uint64) []Node {
	head := b.Head()
	all := make([]Node, len(known))
	waits := make([]ack, len(known))
	b.mu.Lock()
	b.known = known
	for i, n := range known {
		x := b.nodes[n.ID]
		if x == nil {
			x = &node{}
		}
		if n.Colo == "" {
			n.Colo = x.colo
		}
		all[i] = Node{
			Node: n, Connected: x.connected, Since: x.since, Addr: x.addr, Via: x.via, Control: x.control,
			Applied: x.applied, At: x.at, Rejected: append([]store.Rejection(nil), x.rejected...),
		}
		if x.control == "" && !x.at.IsZero() {
			all[i].Control = b.Control
		}
		if seq > 0 {
			all[i].Reached = x.reachedAt(seq)
		}
		waits[i] = x.waits
	}
	b.mu.Unlock()
	for i := range all {
		n := &all[i]
		if n.Applied >= head {
			continue
		}
		n.Lag = head - n.Applied
		if waits[i].seq != n.Applied+1 {
			waits[i] = ack{n.Applied + 1, b.Time(n.Applied + 1)}
		}
		n.Waits = waits[i].at
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, n := range known {
		if x := b.nodes[n.ID]; x != nil {
			x.waits = waits[i]
		}
	}
	return all
}

// Behind is how long a node has lacked an entry; 0 when it has all.
func (n *Node) Behind(now time.Time) time.Duration {
	if n.Waits.IsZero() {
		return 0
	}
	return max(0, now.Sub(n.Waits))
}

// Rejection returns why a node could not use an entry.
func (n *Node) Rejection(seq uint64) (store.Rejection, bool) {
	for _, r := range n.Rejected {
		if r.Seq == seq {
			return r, true
		}
	}
	return store.Rejection{}, false
}
