package h1

import (
	"errors"
	"io"
	"sync"
	"sync/atomic"

	"github.com/selvage-edge/selvage/fault"
	"github.com/selvage-edge/selvage/internal/clock"
	"github.com/selvage-edge/selvage/wire/msg"
)

var errBodyClosed = errors.New("h1: body closed")

// body is a request's body. One is made for each request that has one, so
// that a reader who comes late finds it dead and not the next request's.
// Read and Close may be called from different goroutines.
type body struct {
	c      *conn
	closed atomic.Bool
	mu     sync.Mutex // held by Read; guards what follows
	dec    decoder
	pace   clock.Pace
	expect bool // the visitor waits for 100
	err    error
}

func newBody(c *conn, expect bool) *body {
	b := &body{c: c, expect: expect, pace: clock.Pace{Most: c.s.l.BodyTimeout}}
	if !c.req.CallsGRPC() { // whose messages come when they come
		b.pace.Rate = c.s.l.MinRate
	}
	b.dec = decoder{rd: &c.rd, lim: &c.s.bounds, trailer: &c.req.Trailer, max: c.s.l.Body}
	fr := framing{length: c.req.Length}
	if c.req.Length == msg.LengthUnknown {
		fr = framing{length: -1, chunked: true}
	}
	b.dec.start(fr, false)
	return b
}

// Read returns *fault.Error (Side Visitor) when the visitor fails to send.
func (b *body) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed.Load() {
		return 0, errBodyClosed
	}
	if b.err != nil {
		return 0, b.err
	}
	if b.expect {
		b.expect = false
		if err := b.c.sendContinue(); err != nil {
			b.err = visitorFault("h1.continue", err)
			return 0, b.err
		}
	}
	n, err := b.timed(p)
	if err == nil {
		b.c.moved()
		return n, nil
	}
	if b.closed.Load() && err != io.EOF {
		return 0, errBodyClosed // by Close, and the place is kept
	}
	if b.err = err; err != io.EOF {
		b.err = visitorFault("h1.body", err)
		b.c.slow(SlowBody, err)
	}
	return n, b.err
}

// timed reads within what time the visitor has left, framing included.
func (b *body) timed(p []byte) (int, error) {
	from := b.c.s.clock.Now()
	b.c.rd.until, b.c.rd.wait = from+b.pace.Left(), b.pace.Left()
	n, err := b.dec.Read(p)
	b.c.rd.until = 0
	b.pace.Moved(b.c.s.clock.Now()-from, n)
	return n, err
}

// Close ends a Read that waits; the connection sees to the rest of the body.
func (b *body) Close() error {
	b.closed.Store(true)
	if b.mu.TryLock() {
		b.mu.Unlock()
		return nil
	}
	b.c.dl.Hold()
	return nil
}

// tractable says whether the connection may go on behind this body, before it has
// been read: nothing is left of it, or little enough to be read away.
func (b *body) tractable() bool {
	if !b.mu.TryLock() {
		return true // somebody is reading: finish decides
	}
	defer b.mu.Unlock()
	switch {
	case b.dec.state == ended:
		return true
	case b.err != nil || b.expect:
		return false
	}
	return b.dec.chunked || b.dec.left <= b.c.s.l.DrainBytes
}

// finish closes the body and, if the connection is to be kept, reads what is
// left of it. It reports whether the next request starts behind it.
func (b *body) finish(keep bool) bool {
	_ = b.Close() // never fails
	b.mu.Lock()
	defer b.mu.Unlock()
	b.c.dl.Free()
	if !keep || b.err != nil && b.err != io.EOF {
		return false
	}
	if b.dec.state == ended {
		return true
	}
	if b.expect || !b.dec.chunked && b.dec.left > b.c.s.l.DrainBytes {
		return false
	}
	blk := b.c.s.pools.stream.Get().(*block)
	defer b.c.s.pools.stream.Put(blk)
	until := b.c.s.clock.Now() + b.c.s.l.BodyTimeout
	for room := b.c.s.l.DrainBytes; room >= 0; {
		b.c.rd.wait = until - b.c.s.clock.Now()
		if b.c.rd.wait <= 0 {
			return false
		}
		n, err := b.dec.Read(blk.b)
		if err != nil {
			return err == io.EOF
		}
		room -= int64(n)
	}
	return false
}

// sendContinue sends 100 unless the final answer has begun.
func (c *conn) sendContinue() error {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	if c.started {
		return nil
	}
	_, err := c.write([]byte("HTTP/1.1 100 Continue\r\n\r\n"))
	return err
}

// sendInterim is Request.Interim.
func (c *conn) sendInterim(status int, fields *msg.Fields) error {
	if status < 100 || status > 199 || status == 101 {
		return &fault.Error{Op: "h1.interim", Side: fault.Edge, Err: errStatus}
	}
	p := appendStatus(make([]byte, 0, 512), status)
	if fields != nil {
		var err error
		if p, err = appendFields(p, fields, dropAll); err != nil {
			return err
		}
	}
	p = append(p, "\r\n"...)
	c.wmu.Lock()
	defer c.wmu.Unlock()
	if c.started {
		return &fault.Error{Op: "h1.interim", Side: fault.Edge, Err: errors.New("h1: the answer has begun")}
	}
	if _, err := c.write(p); err != nil {
		return visitorFault("h1.interim", err)
	}
	return nil
}
