package h3

import (
	"github.com/quic-go/quic-go"

	"github.com/selvage-edge/selvage/wire/head"
)

// priority is what RFC 9218 says of one answer.
type priority = head.Priority

// maxEarly bounds the priorities kept for requests that have not come yet.
const maxEarly = 64

// prioritise gives the stream the priority that the visitor asked for. Until it
// has shown that it knows RFC 9218, answers take turns, as quic-go has it.
func (x *exchange) prioritise() {
	c := x.c
	if x.build.Priority == nil && !c.ahead.Load() {
		return
	}
	pr := head.DefaultPriority
	if x.build.Priority != nil {
		pr = head.ParsePriority(x.build.Priority, pr)
	}
	c.mu.Lock()
	c.signals = true
	c.ahead.Store(true)
	if early, ok := c.early[x.id]; ok { // newer than the field (RFC 9218 §7)
		pr = early
		delete(c.early, x.id)
	}
	c.mu.Unlock()
	x.st.SetPriority(int8(pr.Urgency), pr.Incremental)
}

// priorityUpdate acts on a PRIORITY_UPDATE of a request (RFC 9218 §7.2).
func (c *conn) priorityUpdate(p []byte) *failure {
	v, n := readVarint(p)
	if n == 0 {
		return errFrameLength
	}
	id := quic.StreamID(v) //nolint:gosec // below 2^62
	next := quic.StreamID(c.next.Load())
	if id&3 != 0 || id >= next+4*quic.StreamID(c.s.l.Streams)*2 {
		return errPriorityID
	}
	pr := head.ParsePriority(p[n:], head.DefaultPriority)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.updates.Over(c.s.clock.Now(), c.s.l.Updates, c.s.l.FloodTime) {
		return errPriorityFlood
	}
	c.ahead.Store(true)
	if x := c.waiting[id]; x != nil {
		x.st.SetPriority(int8(pr.Urgency), pr.Incremental)
		return nil
	}
	if id+4 < next {
		return nil // answered, or about to be
	}
	// To come, or the latest, which serve may be about to hand over.
	if c.early == nil {
		c.early = make(map[quic.StreamID]priority)
	}
	if len(c.early) < maxEarly {
		c.early[id] = pr
	}
	return nil
}
