package client

import (
	"cmp"
	"context"
	"errors"
	"io"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/selvage-edge/selvage/fault"
	"github.com/selvage-edge/selvage/wire/h2/frame"
	"github.com/selvage-edge/selvage/wire/msg"
)

// resetError is a RST_STREAM from the origin.
type resetError frame.Code

func (e resetError) Error() string { return "h2: reset by the origin: " + frame.Code(e).String() }

// ResetCode returns with which code the origin reset the request's stream, where
// that is why it failed.
func ResetCode(err error) (frame.Code, bool) {
	e, ok := errors.AsType[resetError](err)
	return frame.Code(e), ok
}

func (e resetError) Is(target error) bool {
	switch frame.Code(e) {
	case frame.RefusedStream:
		return target == ErrUnprocessed
	case frame.HTTP11Required:
		return target == ErrHTTP11 || target == ErrUnprocessed
	}
	return false
}

// interim is a 1xx answer on its way to Do.
type interim struct {
	status int
	fields msg.Fields
}

// stream is one request and its answer, and the answer's Body. It is made for
// one exchange, so that a reader who comes late finds it closed and not the
// next one's bytes.
type stream struct {
	c   *Conn
	id  uint32
	ctx context.Context // of Do: one exchange is its scope
	req *msg.Request
	kit *kit
	// how long the origin may take: for a head, between arrivals of the body
	headTime, bodyTime time.Duration
	// reused says that the connection had answered before this request.
	reused bool

	src    io.Reader
	sent   chan struct{} // closed when the sender has ended; nil without a body
	srcErr error         // that the body itself gave, read after sent is closed
	sentAt atomic.Int64  // clock time of the sender's latest progress
	cur    *chunk        // owned by who reads the body

	// Guarded by c.mu.
	open     bool // among the connection's streams
	stop     bool // the sender shall end
	reading  bool // the sender is in src.Read
	blocked  bool // the sender waits for room
	sendDone bool // our side has ended
	window   int64
	status   int // of the final answer, 0 before its head
	interims []interim
	early    int   // interim answers so far
	ended    bool  // the origin's side has ended, in order
	err      error // why the answer ends before its end
	want     int64 // bytes of the body announced; -1 = none was
	got      int64
	queue    []*chunk
	granted  int // receive window as a whole
	left     int // of it, that the origin may still send
	eaten    int // read and not yet given back
	waiting  int // in Read
	closed   bool
	tunnel   bool
}

func newStream(c *Conn, ctx context.Context, req *msg.Request, body io.Reader) *stream {
	st := &stream{
		c: c, ctx: ctx, req: req, src: body, kit: c.l.Memory.kits.Get().(*kit), want: -1, granted: firstWindow, left: firstWindow,
		headTime: cmp.Or(req.Patience, c.l.HeadTimeout), bodyTime: cmp.Or(req.Patience, c.l.BodyTimeout),
	}
	st.kit.head.Limit, st.kit.tail.Limit = c.l.Head, c.l.Head
	st.queue = st.kit.queue
	return st
}

// forget takes the stream out of the connection's; the caller holds mu.
func (st *stream) forget() {
	if !st.open {
		return
	}
	st.open = false
	st.unblock()
	delete(st.c.streams, st.id)
	st.c.extra -= st.granted - firstWindow
	st.granted = firstWindow
}

// end notes why the answer ends early and wakes who waits; the caller holds mu.
func (st *stream) end(why error) {
	if !st.ended && st.err == nil {
		st.err = why
	}
	st.unblock()
	signal(st.kit.wake)
	signal(st.kit.room)
}

// reset ends the stream and tells the origin; the caller holds mu.
func (st *stream) reset(why error, code frame.Code) {
	st.end(why)
	if st.open {
		st.c.out = frame.AppendReset(st.c.out, st.id, code)
		st.forget()
	}
}

// cut is reset for who does not hold mu.
func (st *stream) cut(why error) {
	st.c.mu.Lock()
	st.reset(why, frame.Cancel)
	st.c.mu.Unlock()
	st.c.flush()
}

// awaitHead waits for the final answer's head and hands on interim ones. While
// the origin may still be busy with the request, it has headTime from the
// latest part of it.
func (st *stream) awaitHead(res *msg.Response) error {
	c := st.c
	from := c.now()
	for {
		c.mu.Lock()
		var early []interim
		early, st.interims = st.interims, nil
		status, err, reading := st.status, st.err, st.reading
		c.mu.Unlock()
		for i := range early {
			if st.req.Interim != nil {
				_ = st.req.Interim(early[i].status, &early[i].fields) // who cannot take it misses nothing
			}
		}
		switch {
		case status != 0:
			return st.answer(res)
		case err != nil:
			return err
		}
		left := st.headTime - (c.now() - max(from, time.Duration(st.sentAt.Load())))
		if reading {
			left = st.headTime // the visitor's turn, who is timed elsewhere
		}
		if left <= 0 {
			return os.ErrDeadlineExceeded
		}
		if err := st.wait(left); err != nil && err != os.ErrDeadlineExceeded {
			return err
		}
	}
}

// wait waits for something to happen to the answer; 0 = for ever.
func (st *stream) wait(timeout time.Duration) error {
	var expired <-chan time.Time
	if timeout > 0 {
		st.kit.timer.Reset(timeout)
		expired = st.kit.timer.C
	}
	select {
	case <-st.kit.wake:
		return nil
	case <-st.ctx.Done():
		return st.ctx.Err()
	case <-expired:
		return os.ErrDeadlineExceeded
	}
}

// answer sets res up.
func (st *stream) answer(res *msg.Response) error {
	c := st.c
	c.mu.Lock()
	res.Status = st.status
	res.Fields, st.kit.fields = st.kit.fields, res.Fields
	ended := st.ended
	st.tunnel = len(st.req.Upgrade) > 0 && st.status >= 200 && st.status < 300
	whole := ended && st.got == 0 && st.kit.trailer.Len() == 0 || st.bodiless()
	c.mu.Unlock()
	if st.tunnel {
		res.Status = 101
		res.Fields.Del(msg.ContentLength)
		res.Tunnel = tunnel{st}
		return nil
	}
	if st.req.Method != msg.HEAD && res.Status != 304 {
		res.Length = st.want
		res.Fields.Del(msg.ContentLength)
	}
	if res.Status >= 300 && !ended {
		st.halt() // it will not want the rest
	}
	if whole {
		res.Length = 0
		res.Release = st.finish
		return nil
	}
	res.Trailer = &st.kit.trailer
	res.Body = body{st}
	return nil
}

// body is an answer's body; its methods are called by one goroutine at a time.
type body struct{ st *stream }

// Read returns io.EOF or a *fault.Error at the end.
func (b body) Read(p []byte) (int, error) {
	n, err := b.st.read(p, b.st.bodyTime)
	if err == nil || err == io.EOF {
		return n, err
	}
	return n, b.st.failure("h2.body", err)
}

// Buffered returns how many bytes a Read gets at least without waiting.
func (b body) Buffered() int {
	st := b.st
	st.c.mu.Lock()
	defer st.c.mu.Unlock()
	if st.closed {
		return 0
	}
	n := 0
	if st.cur != nil {
		n = st.cur.w - st.cur.r
	}
	for _, k := range st.queue {
		n += k.w - k.r
	}
	return n
}

// Cut ends the answer before its end: a Read finds it so. Any goroutine may call it.
func (b body) Cut() { b.st.cut(errCut) }

// Close gives the stream back; a body that was not read to its end is reset.
func (b body) Close() error {
	b.st.finish()
	return nil
}

// read waits for bytes of the body.
func (st *stream) read(p []byte, timeout time.Duration) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	c := st.c
	for {
		c.mu.Lock()
		if st.closed {
			c.mu.Unlock()
			return 0, errClosed
		}
		if st.cur == nil && len(st.queue) > 0 {
			st.cur = st.queue[0]
			n := copy(st.queue, st.queue[1:])
			st.queue[n] = nil
			st.queue = st.queue[:n]
		}
		if k := st.cur; k != nil {
			n := copy(p, k.b[k.r:k.w])
			if k.r += n; k.r == k.w {
				st.cur = nil
				c.l.Memory.chunks.Put(k)
			}
			told := st.giveBack(n)
			c.mu.Unlock()
			if told {
				c.flush()
			}
			return n, nil
		}
		ended, err := st.ended, st.err
		if !ended && err == nil {
			st.waiting++
		}
		c.mu.Unlock()
		switch {
		case ended:
			st.halt()
			return 0, io.EOF
		case err != nil:
			return 0, err
		}
		err = st.wait(timeout)
		c.mu.Lock()
		st.waiting--
		c.mu.Unlock()
		if err != nil {
			return 0, err
		}
	}
}

// giveBack counts bytes that were read and lets the origin send as many more,
// in steps of half a window. A reader who is faster than the origin gets a larger
// one. The caller holds mu and flushes when it is true.
func (st *stream) giveBack(n int) bool {
	c := st.c
	st.eaten += n
	if !st.open || st.ended || st.eaten < st.granted/2 {
		return false
	}
	by := st.eaten
	if grow := min(st.granted, c.l.Window-st.granted, extraWindow-c.extra); grow > 0 && len(st.queue) == 0 && st.cur == nil {
		st.granted += grow
		c.extra += grow
		by += grow
	}
	st.eaten = 0
	st.left += by
	c.out = frame.AppendWindowUpdate(c.out, st.id, uint32(by))
	return true
}

// finish ends the exchange: the sender, then the stream where it has not ended
// by itself.
func (st *stream) finish() {
	c := st.c
	c.mu.Lock()
	if st.closed {
		c.mu.Unlock()
		return
	}
	st.closed = true
	c.mu.Unlock()
	st.halt()
	c.mu.Lock()
	told := st.open
	if st.open {
		st.reset(errClosed, frame.Cancel)
	}
	for _, k := range st.queue {
		c.l.Memory.chunks.Put(k)
	}
	clear(st.queue)
	st.kit.queue, st.queue = st.queue[:0], nil
	if st.waiting > 0 || st.tunnel {
		signal(st.kit.wake) // somebody is there still: the kit is theirs
		signal(st.kit.room)
	} else {
		if st.cur != nil {
			c.l.Memory.chunks.Put(st.cur)
			st.cur = nil
		}
		st.kit.reset()
		c.l.Memory.kits.Put(st.kit)
	}
	c.mu.Unlock()
	if told {
		c.flush()
	}
}

// failure turns why an exchange ended into a fault. The sender may run still.
func (st *stream) failure(op string, err error) error {
	st.cut(err)
	st.halt()
	if cause := st.ctx.Err(); cause != nil {
		f := &fault.Error{Op: op, Side: fault.Visitor, Kind: fault.Closed, Err: cause}
		if errors.Is(cause, context.DeadlineExceeded) {
			f.Side, f.Kind = fault.Origin, fault.Timeout
		}
		return f
	}
	if st.srcErr != nil {
		if f, ok := errors.AsType[*fault.Error](st.srcErr); ok {
			return f
		}
		return &fault.Error{Op: op, Side: fault.Visitor, Kind: fault.Closed, Err: st.srcErr}
	}
	st.c.mu.Lock()
	begun := st.status != 0 || st.early > 0
	ended := st.c.dead != nil
	st.c.mu.Unlock()
	f := &fault.Error{Op: op, Side: fault.Origin, Kind: fault.Closed, Err: err}
	if _, ok := errors.AsType[*frame.Error](err); ok {
		f.Kind = fault.Malformed
	}
	if code, ok := ResetCode(err); ok && code == frame.Cancel {
		f.Kind = fault.Cancelled
	}
	switch {
	case errors.Is(err, ErrUnprocessed):
		f.Retry = true
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, errSilent):
		f.Kind = fault.Timeout
	case !begun && (errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)):
		f.Kind = fault.Refused
	}
	if ended && !begun && st.reused && (f.Kind == fault.Closed || f.Kind == fault.Refused || errors.Is(err, errSilent)) {
		f.Retry = true
	}
	return f
}
