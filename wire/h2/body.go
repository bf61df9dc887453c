package h2

import (
	"errors"
	"io"
	"sync"
	"time"

	"github.com/selvage-edge/selvage/fault"
	"github.com/selvage-edge/selvage/internal/clock"
	"github.com/selvage-edge/selvage/wire/msg"
)

var (
	errBodyClosed = errors.New("h2: body closed")
	errReset      = errors.New("h2: stream reset by the visitor")
)

// body is a request's body: what has arrived and was not read yet. One is made
// for each request that has one, so that a reader who comes late finds it dead
// and not the next request's. The connection's loop writes, one goroutine
// reads. As each byte is taken, the visitor may send another.
type body struct {
	c        *conn
	st       *stream      // until the stream has ended; guarded by c.mu
	req      *msg.Request // gets the trailers
	declared int64        // of content-length, msg.LengthUnknown without; owned by the loop
	got      int64        // owned by the loop

	mu      sync.Mutex // guards what follows; never held with c.mu
	cond    sync.Cond
	blocks  []*block // of which all but the last are full
	first   int      // bytes of blocks[0] that were read
	last    int      // bytes of the last block that were written
	held    int
	err     error // what comes behind the bytes: io.EOF or a failure
	closed  bool
	expect  bool          // the visitor waits for 100
	waiting bool          // a Read is waiting
	since   time.Duration // when a Read began to wait, or the latest bytes came to it
	pace    clock.Pace
	trailer msg.Fields
}

func newBody(c *conn, st *stream) *body {
	b := &body{c: c, st: st, req: &st.req, declared: st.req.Length, pace: clock.Pace{Most: c.s.l.BodyTimeout}}
	if !st.req.CallsGRPC() { // whose messages come when they come
		b.pace.Rate = c.s.l.MinRate
	}
	b.cond.L = &b.mu
	return b
}

// Read returns *fault.Error (Side Visitor) when the visitor fails to send.
func (b *body) Read(p []byte) (int, error) {
	n, err := b.take(p)
	if n > 0 {
		b.c.credit(b, n)
	}
	return n, err
}

func (b *body) take(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.expect && b.held == 0 && b.err == nil && !b.closed {
		b.expect = false
		b.mu.Unlock()
		b.c.sendContinue(b)
		b.mu.Lock()
	}
	b.since = b.c.s.clock.Now()
	for b.held == 0 && b.err == nil && !b.closed {
		b.waiting = true
		b.cond.Wait()
		b.waiting = false
	}
	switch {
	case b.closed:
		return 0, errBodyClosed
	case b.held > 0:
		return b.shift(p), nil
	case b.err == io.EOF && b.req != nil:
		b.req.Trailer, b.trailer = b.trailer, msg.Fields{}
		b.req = nil
	}
	return 0, b.err
}

// shift moves bytes out of blocks. mu is held.
func (b *body) shift(p []byte) (n int) {
	for len(p) > 0 && b.held > 0 {
		end := blockSize
		if len(b.blocks) == 1 {
			end = b.last
		}
		k := copy(p, b.blocks[0].b[b.first:end])
		p, n = p[k:], n+k
		b.first += k
		b.held -= k
		if b.first == end {
			b.c.s.pools.block.Put(b.blocks[0])
			b.first = 0
			b.blocks = append(b.blocks[:0], b.blocks[1:]...)
		}
	}
	return n
}

// Buffered returns how many bytes a Read gets at least without waiting.
func (b *body) Buffered() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.held
}

// write takes bytes that arrived; it reports false when nobody will read them.
func (b *body) write(p []byte, now time.Duration) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return false
	}
	waited := time.Duration(0)
	if b.waiting {
		waited, b.since = now-b.since, now
	}
	b.pace.Moved(waited, len(p))
	b.expect = false
	for len(p) > 0 {
		if len(b.blocks) == 0 || b.last == blockSize {
			b.blocks = append(b.blocks, b.c.s.pools.block.Get().(*block))
			b.last = 0
		}
		k := copy(b.blocks[len(b.blocks)-1].b[b.last:blockSize], p)
		p = p[k:]
		b.last += k
		b.held += k
	}
	b.cond.Broadcast()
	return true
}

// end says that no more comes: err is io.EOF or a failure, which also takes
// away what was not read, as many bytes as it returns.
func (b *body) end(err error) (dropped int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == nil {
		b.err = err
		if err != io.EOF {
			dropped = b.drop()
		}
	}
	b.cond.Broadcast()
	return dropped
}

// drop gives the blocks back. mu is held.
func (b *body) drop() (held int) {
	for i, k := range b.blocks {
		b.c.s.pools.block.Put(k)
		b.blocks[i] = nil
	}
	held = b.held
	b.blocks, b.first, b.last, b.held = nil, 0, 0, 0
	return held
}

// Close ends a Read that waits; what was not read is thrown away.
func (b *body) Close() error {
	b.mu.Lock()
	b.closed = true
	b.req = nil
	held := b.drop()
	b.cond.Broadcast()
	b.mu.Unlock()
	if held > 0 {
		b.c.credit(b, held)
	}
	return nil
}

// late reports that a reader waits, and that the visitor's time is over.
func (b *body) late(now time.Duration) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.waiting && now-b.since > b.pace.Left()
}

// visitorFault says whose fault a failed read or write is: the visitor's.
func visitorFault(op string, kind fault.Kind, err error) *fault.Error {
	return &fault.Error{Op: op, Side: fault.Visitor, Kind: kind, Err: err}
}
