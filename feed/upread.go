package feed

import (
	"bytes"
	"sync/atomic"
)

// Report is a signal, as its reader at the root gets it.
type Report struct {
	Class   Class
	Node    NodeInfo // who says it, as connected here or below a relay
	Payload []byte   // valid until the reader returns
}

// Reader takes in the signals of one class. It is called from many goroutines and
// must not block for long; its error is counted and says what cannot be used.
type Reader func(Report) error

// What signals are refused for, as metrics name it.
const (
	refusedClass   = iota // of a class that is not known here
	refusedUnread         // nobody reads the class
	refusedPlace          // the node is not below the relay that speaks for it
	refusedPayload        // its reader cannot use it
	refusals
)

var refusalNames = [refusals]string{"class", "unread", "place", "payload"}

// signalCounters are of what a server takes in.
type signalCounters struct {
	received [classes]atomic.Uint64
	refused  [refusals]atomic.Uint64
}

// signals takes in a batch of a subscriber's. A node speaks for itself alone, a
// relay also for those that it said are below it. What cannot be used of a batch
// that is well formed is passed over and counted: a newer node may say more than
// is known here, and one that moves is for a moment below two.
func (x *session) signals(p []byte) error {
	s := x.server
	var from NodeInfo
	begin := func(node string) (bool, error) {
		if node == x.peer.Node {
			from = x.snapshotInfo()
			return true, nil
		}
		if !x.peer.Relay {
			return false, Refuse(ReasonRole, "node %s speaks for %s, and is no relay", x.peer.Node, node)
		}
		var ok bool
		if from, ok = s.below.of(node, x.peer.Node); !ok {
			x.grumble(refusedPlace, node)
		}
		return ok, nil
	}
	return readBatch(p, begin, func(c Class, payload []byte) {
		if !c.known() {
			x.grumble(refusedClass, from.Node)
			return
		}
		s.signals.received[c].Add(1)
		if s.cfg.Pass != nil {
			s.cfg.Pass.put(c, from.Node, bytes.Clone(payload))
			return
		}
		read := s.cfg.Readers[c]
		if read == nil {
			x.grumble(refusedUnread, from.Node)
			return
		}
		if err := read(Report{c, from, payload}); err != nil {
			x.grumble(refusedPayload, from.Node, "error", err)
		}
	})
}

// grumble counts what was refused, and logs the first of each kind of a
// connection: who sends rubbish is not to fill the log.
func (x *session) grumble(why int, node string, more ...any) {
	x.server.signals.refused[why].Add(1)
	if x.grumbled&(1<<why) != 0 {
		return
	}
	x.grumbled |= 1 << why
	x.server.log.Warn("signals refused, further ones of this connection are only counted",
		append([]any{"node", node, "by", x.peer.Node, "because", refusalNames[why]}, more...)...)
}

// of returns how a node below the relay via is known; ok is false where it is not
// below it.
func (b *below) of(node, via string) (info NodeInfo, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if n := b.nodes[node]; n != nil && !n.own && !n.gone && n.info.Via == via {
		return n.info, true
	}
	return NodeInfo{}, false
}
