package feed

import (
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Class is a kind of signal on the road up. The lower goes first; all of them
// go after acknowledgements.
type Class uint8

const (
	// ClassHealth is how a node is. Of each node the newest waits alone.
	ClassHealth Class = 1
	// ClassMeasurement is what a node counted. The oldest are dropped first.
	ClassMeasurement Class = 2
	// ClassThreat is what a node saw of an attack. The oldest are dropped first.
	ClassThreat Class = 3
	// ClassAudit is what must not be lost. It waits in a Spool until the root
	// has stored it; a relay that has no room for one leaves it to be sent again.
	ClassAudit Class = 4

	classes = 5
)

var classNames = [classes]string{"", "health", "measurement", "threat", "audit"}

func (c Class) String() string {
	if c.known() {
		return classNames[c]
	}
	return "unknown"
}

func (c Class) known() bool { return c >= ClassHealth && c < classes }

const (
	// MaxSignalBytes is the most that one signal carries.
	MaxSignalBytes = 4 << 10
	// gatherUp is the least time between two frames of signals, unless there is
	// enough for a whole one; the first after a pause goes at once.
	gatherUp = 100 * time.Millisecond
	// maxWaiting bounds what waits of one class, in bytes, and quota what waits of
	// one node below in it: one that is loud is not to silence the others.
	maxWaiting = 4 << 20
	quota      = maxWaiting / 8
	// auditShare is what audit has of each frame, whatever goes before it.
	auditShare = maxUpFrame / 8
)

// Up is what waits for a node's parent: its own signals and, on a relay, those
// of the nodes below it. All of its methods may be called from many goroutines;
// none waits.
type Up struct {
	spool   *Spool        // of this node's audit; nil for none
	wake    chan struct{} // something waits; capacity 1
	sent    [classes]atomic.Uint64
	dropped [classes]atomic.Uint64

	mu     sync.Mutex
	queues [classes]signalQueue // guarded by mu
}

// NewUp makes an Up that a Subscriber empties, with what waits in spool, nil for
// none.
func NewUp(spool *Spool) *Up {
	u := &Up{spool: spool, wake: make(chan struct{}, 1)}
	for c := range u.queues {
		u.queues[c].nodes = map[string]*pending{}
	}
	if spool != nil {
		spool.wake = u.poke
		u.poke()
	}
	return u
}

// Offer queues a signal of this node's. It is false, and counted, where the
// payload is over MaxSignalBytes or the class is none to be offered: audit goes
// through a Spool. The payload is the Up's from now on.
func (u *Up) Offer(c Class, payload []byte) bool {
	if !c.known() || c == ClassAudit || len(payload) > MaxSignalBytes {
		if c.known() {
			u.dropped[c].Add(1)
		}
		return false
	}
	return u.put(c, "", payload)
}

// put queues a signal of a node below, or of this node's where that is "".
func (u *Up) put(c Class, node string, payload []byte) bool {
	u.mu.Lock()
	lost, ok := u.queues[c].put(c, node, payload)
	u.mu.Unlock()
	u.dropped[c].Add(uint64(lost))
	u.poke()
	return ok
}

// poke says that something waits.
func (u *Up) poke() {
	select {
	case u.wake <- struct{}{}:
	default:
	}
}

// signalQueue is what waits of one class, oldest first.
type signalQueue struct {
	list  []queued
	first int // of list; what is before it is gone
	bytes int
	nodes map[string]*pending
}

type queued struct {
	of      *pending
	payload []byte
}

// pending is what waits of one node.
type pending struct {
	node  string
	bytes int
	last  int // of health: where in list the one is that waits
}

const queuedHead = 64 // of memory, about, beside the payload

// put returns how many signals are lost by it, and whether this one is not.
func (q *signalQueue) put(c Class, node string, payload []byte) (lost int, ok bool) {
	size := queuedHead + len(payload)
	of := q.nodes[node]
	if of == nil {
		of = &pending{node: node}
		q.nodes[node] = of
	}
	if c == ClassHealth && of.bytes > 0 {
		was := &q.list[of.last]
		q.count(of, len(payload)-len(was.payload))
		was.payload = payload
		return 1, true
	}
	if node != "" && of.bytes+size > quota || c == ClassAudit && q.bytes+size > maxWaiting {
		q.forget(of)
		return 1, false
	}
	for q.bytes+size > maxWaiting {
		q.pop()
		lost++
	}
	q.nodes[node] = of // the oldest may have been its last
	of.last = len(q.list)
	q.list = append(q.list, queued{of, payload})
	q.count(of, size)
	return lost, true
}

func (q *signalQueue) count(of *pending, bytes int) {
	of.bytes += bytes
	q.bytes += bytes
}

func (q *signalQueue) forget(of *pending) {
	if of.bytes == 0 {
		delete(q.nodes, of.node)
	}
}

func (q *signalQueue) empty() bool { return q.first == len(q.list) }

// pop takes the oldest out.
func (q *signalQueue) pop() {
	x := q.list[q.first]
	q.list[q.first] = queued{}
	q.first++
	q.count(x.of, -queuedHead-len(x.payload))
	q.forget(x.of)
	if q.first < 1024 && q.first < len(q.list) {
		return
	}
	for _, of := range q.nodes {
		of.last -= q.first
	}
	q.list = slices.Delete(q.list, 0, q.first)
	q.first = 0
}

// take returns a frame with what goes next, nil for nothing, and whether more
// waits. self is this node.
func (u *Up) take(self string) (frame []byte, more bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	w := batchWriter{p: append(beginFrame(nil, frameSignals), batchVersion), self: self}
	limit := frameHead + maxUpFrame
	var own []byte
	if u.spool != nil {
		own = u.spool.peek()
	}
	if own != nil || !u.queues[ClassAudit].empty() {
		limit -= auditShare
	}
	for c := ClassHealth; c < classes; c++ {
		if c == ClassAudit {
			limit = frameHead + maxUpFrame
		}
		q := &u.queues[c]
		for !q.empty() && (!more || c == ClassAudit) {
			x := q.list[q.first]
			if !w.add(c, x.of.node, x.payload, limit) {
				more = true
				break
			}
			q.pop()
			u.sent[c].Add(1)
		}
	}
	for ; own != nil; own = u.spool.peek() {
		if !w.add(ClassAudit, "", own, limit) {
			more = true
			break
		}
		u.spool.next()
		u.sent[ClassAudit].Add(1)
	}
	if w.signals == 0 {
		return nil, false
	}
	return endFrame(w.p, 0), more
}

// pace says when the next frame of signals goes; it belongs to one connection.
type pace struct {
	up   *Up // nil: never
	due  <-chan time.Time
	last time.Time
}

// begin makes what an earlier parent was told, and nobody took, be said again.
func (p *pace) begin() {
	if p.up != nil && p.up.spool != nil {
		p.up.spool.again()
	}
}

// beat looks whether something of the audit has been on its way for too long.
func (p *pace) beat() {
	if p.up != nil && p.up.spool != nil {
		p.up.spool.late()
	}
}

// wakes is ready when something waits and no time is set for it.
func (p *pace) wakes() <-chan struct{} {
	if p.up == nil || p.due != nil {
		return nil
	}
	return p.up.wake
}

func (p *pace) woken() { p.due = time.After(max(0, gatherUp-time.Since(p.last))) }

// take returns the frame that is due; what is left follows at once.
func (p *pace) take(self string) []byte {
	frame, more := p.up.take(self)
	p.last, p.due = time.Now(), nil
	if more {
		p.due = time.After(0)
	}
	return frame
}

const (
	batchVersion = 1
	groupHead    = 16 + 2
	signalHead   = 1 + 2
)

// batchWriter writes signals, those of one node that follow each other as one
// group.
type batchWriter struct {
	p       []byte
	self    string
	node    string // of the group at the end
	group   int    // where that begins; 0 for none
	signals int
}

// add is false where the signal does not fit.
func (w *batchWriter) add(c Class, node string, payload []byte, limit int) bool {
	if node == "" {
		node = w.self
	}
	size := signalHead + len(payload)
	begin := w.group == 0 || node != w.node || binary.BigEndian.Uint16(w.p[w.group+16:]) == 1<<16-1
	if begin {
		size += groupHead
	}
	if len(w.p)+size > limit {
		return false
	}
	if begin {
		w.node, w.group = node, len(w.p)
		w.p = append(appendNodeID(w.p, node), 0, 0)
	}
	n := w.p[w.group+16:]
	binary.BigEndian.PutUint16(n, binary.BigEndian.Uint16(n)+1)
	w.p = binary.BigEndian.AppendUint16(append(w.p, byte(c)), uint16(len(payload)))
	w.p = append(w.p, payload...)
	w.signals++
	return true
}

// readBatch passes each signal of a batch to yield, which may skip the others of
// its node; payloads alias p. Nothing is passed of a batch that is not whole.
func readBatch(p []byte, begin func(node string) (take bool, err error), yield func(c Class, payload []byte)) error {
	if len(p) < 1 {
		return errFrame
	}
	if p[0] != batchVersion {
		return Refuse(ReasonVersion, "signals of version %d, here is %d", p[0], batchVersion)
	}
	for _, pass := range [...]bool{false, true} {
		if err := walkBatch(p[1:], pass, begin, yield); err != nil {
			return err
		}
	}
	return nil
}

// walkBatch only looks whether all is there, unless pass is set.
func walkBatch(p []byte, pass bool, begin func(node string) (take bool, err error), yield func(c Class, payload []byte)) error {
	for len(p) > 0 {
		if len(p) < groupHead {
			return errFrame
		}
		node, n := p[:16], int(binary.BigEndian.Uint16(p[16:]))
		if p = p[groupHead:]; n == 0 {
			return fmt.Errorf("no signal of a node: %w", errFrame)
		}
		take := pass
		if pass {
			var err error
			if take, err = begin(nodeText(node)); err != nil {
				return err
			}
		}
		for range n {
			if len(p) < signalHead {
				return errFrame
			}
			c, size := Class(p[0]), int(binary.BigEndian.Uint16(p[1:]))
			if p = p[signalHead:]; size > MaxSignalBytes || size > len(p) {
				return fmt.Errorf("signal of %d bytes, at most %d: %w", size, min(MaxSignalBytes, len(p)), errFrame)
			}
			if take {
				yield(c, p[:size:size])
			}
			p = p[size:]
		}
	}
	return nil
}
