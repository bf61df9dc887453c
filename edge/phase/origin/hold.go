package origin

import (
	"io"
	"sync/atomic"
	"time"

	"github.com/selvage-edge/selvage/wire/msg"
)

// A visitor who takes an answer slowly holds a connection to the origin, or a
// seat on one, all the while, and a few hundred of them would hold every connection that the zone
// may have. So when a request has to stand in line, the connection whose
// visitor has come for nothing more for the longest time, and for HoldTime at
// least, is given up: its answer is cut, the request in line gets its place.
// What the kernel still sends of what it was handed is not seen here.

// hold is what a connection knows of an answer that is being taken.
type hold struct {
	since atomic.Int64 // Unix nanoseconds since when the visitor has what was read; 0 = the origin is being read
	lost  bool         // given up; guarded by the pool's mu
}

// passed is an answer's body on its way to the visitor. It notes when the
// visitor's side comes for more. Trailers behind it are cleaned as the head is,
// before anybody sees them.
type passed struct {
	io.ReadCloser
	trailer *msg.Fields // nil = none
	hold    *hold
}

func (b *passed) Read(p []byte) (int, error) {
	b.hold.since.Store(0)
	n, err := b.ReadCloser.Read(p)
	b.hold.since.Store(time.Now().UnixNano())
	if err == io.EOF && b.trailer != nil {
		cleanAnswer(b.trailer, false, false)
	}
	return n, err
}

// Buffered is what the body says of bytes that need no waiting: where it does
// not tell, an answer's head is sent alone.
func (b *passed) Buffered() int {
	if in, ok := b.ReadCloser.(interface{ Buffered() int }); ok {
		return in.Buffered()
	}
	return 0
}

// streams puts a connection among those whose answer is being taken.
func (p *pool) streams(c *conn) {
	c.hold.since.Store(time.Now().UnixNano())
	p.mu.Lock()
	defer p.mu.Unlock()
	p.streaming[c] = struct{}{}
}

// streamed takes it out again and reports whether it had been given up.
func (p *pool) streamed(c *conn) (lost bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.streaming, c)
	lost, c.hold.lost = c.hold.lost, false
	return lost
}

// giveUp frees the place of the slowest visitor for whoever stands in line;
// where nobody does any more, nobody is cut.
func (p *pool) giveUp(now time.Time) {
	oldest := now.Add(-p.engine.config.HoldTime).UnixNano()
	var slowest *conn
	p.mu.Lock()
	if len(p.waiters) == 0 || p.dialing > 0 {
		p.mu.Unlock()
		return
	}
	for c := range p.streaming {
		if at := c.hold.since.Load(); at != 0 && at <= oldest {
			slowest, oldest = c, at
		}
	}
	if slowest == nil {
		p.mu.Unlock()
		return
	}
	delete(p.streaming, slowest)
	slowest.hold.lost = true
	p.mu.Unlock()
	slowest.cut() // its reader, who owns the rest, finds the answer cut
	p.engine.metrics.givenUp.Inc()
	if slowest.session != nil {
		p.stand(slowest.session)
		return
	}
	p.free()
}
