package h3

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/selvage-edge/selvage/fault"
	"github.com/selvage-edge/selvage/wire/h3/qpack"
	"github.com/selvage-edge/selvage/wire/head"
	"github.com/selvage-edge/selvage/wire/msg"
)

// exchange is one request and its answer. It belongs to the goroutine that
// serves it, and is used again on its connection.
type exchange struct {
	c       *conn
	sess    msg.Session
	step    msg.Stepper // sess, when it is one
	leaver  msg.Leaver  // likewise
	interim func(int, *msg.Fields) error

	st    *quic.Stream
	id    quic.StreamID
	req   msg.Request
	res   msg.Response
	build head.Builder
	qp    qpack.Reader
	phase phase
	skip  uint64 // bytes of an unknown frame still to come
	in    []byte // what was read; in[r:w] is still to be looked at
	r, w  int
	eof   bool  // nothing follows in[w:]
	body  *body // of the request, nil when it has none
	out   []byte
	sent  int64 // body bytes
	err   error // why the answer did not leave whole

	stop func() bool // ends watch, nil when it does not run
	left atomic.Bool // the session was told that the visitor left

	wmu     sync.Mutex // guards interim answers against the final one
	started bool       // the final answer's head is being written
}

// phase is how far a request has come.
type phase uint8

const (
	wantHead phase = iota // the HEADERS frame
	wantBody              // whether a body follows
	whole                 // it can be served
)

const (
	// inlineWait is how long the goroutine that takes requests waits for the
	// rest of one: what came in one packet is there by then, and whoever sends
	// less holds up nobody but itself.
	inlineWait = 100 * time.Microsecond
	// firstRead is what the head of most requests fits in.
	firstRead = 4 << 10
	// keepBuffer is the largest buffer that waits for the next request.
	keepBuffer = 16 << 10
)

var (
	errWait  = errors.New("h3: more has to come")
	errGiven = errors.New("h3: the visitor gave the request up")
)

func newExchange(c *conn) *exchange {
	x := &exchange{c: c, sess: c.s.h.Open(c.mc)}
	x.step, _ = x.sess.(msg.Stepper)
	x.leaver, _ = x.sess.(msg.Leaver)
	x.interim = x.sendInterim
	return x
}

func (x *exchange) close() { x.sess.Close() }

// start makes x ready for the request of a stream.
func (x *exchange) start(st *quic.Stream, early bool) {
	x.st, x.id = st, st.StreamID()
	x.req.Early = early
}

// reusable clears x and reports whether it can serve another request.
func (x *exchange) reusable() bool {
	x.st, x.phase, x.skip, x.r, x.w, x.eof = nil, wantHead, 0, 0, 0, false
	x.body, x.sent, x.err, x.started = nil, 0, nil, false
	x.req.Reset()
	x.res.Reset()
	if cap(x.in) > keepBuffer {
		x.in = nil
	}
	if cap(x.out) > keepBuffer {
		x.out = nil
	}
	if cap(x.qp.Mem) > keepBuffer {
		x.qp.Mem = nil
	}
	return !x.left.Load()
}

// receive reads until the request can be served, for at most wait. It returns
// errWait when that was not enough, and can be called again.
func (x *exchange) receive(wait time.Duration) error {
	clock := x.c.s.clock
	_ = x.st.SetReadDeadline(clock.At(clock.Now() + wait)) // never fails
	for {
		err := x.parse()
		if err != nil || x.phase == whole {
			return err
		}
		if x.eof {
			return errIncomplete
		}
		if err := x.fill(); err != nil {
			return err
		}
	}
}

// fill reads more, at least a byte or the end.
func (x *exchange) fill() error {
	if x.skip > 0 && x.r == x.w && x.phase == wantHead {
		x.r, x.w = 0, 0
	}
	if x.w == len(x.in) {
		x.grow(max(firstRead, 2*len(x.in)))
	}
	n, err := x.st.Read(x.in[x.w:])
	x.w += n
	switch {
	case err == nil:
		return nil
	case err == io.EOF:
		x.eof = true
		return nil
	case n > 0:
		return nil // the next Read says it again
	case errors.Is(err, os.ErrDeadlineExceeded):
		return errWait
	}
	return errGiven
}

func (x *exchange) grow(size int) {
	in := make([]byte, size)
	copy(in, x.in[:x.w])
	x.in = in
}

// parse looks at what has been read. It changes phase as far as that goes.
func (x *exchange) parse() error {
	for x.phase != whole {
		if x.skip > 0 {
			n := min(x.skip, uint64(x.w-x.r))
			x.r, x.skip = x.r+int(n), x.skip-n
			if x.skip > 0 {
				return x.cut()
			}
		}
		if x.phase == wantBody && (x.ended() || !x.mayEndLater()) {
			return x.settle(x.ended())
		}
		kind, length, n := readFrame(x.in[x.r:x.w])
		if n == 0 {
			return x.cut()
		}
		if x.phase == wantBody && (kind == frameHeaders || kind == frameData && length > 0) {
			return x.settle(false)
		}
		switch {
		case kind == frameHeaders:
			if length > uint64(x.c.s.l.Head) {
				return errHeadLong
			}
			end := x.r + n + int(length)
			if end > x.w {
				if end > len(x.in) {
					x.grow(end)
				}
				return x.cut()
			}
			if err := x.decode(x.in[x.r+n : end : end]); err != nil {
				return err
			}
			x.r, x.phase = end, wantBody
		case kind == frameData && x.phase == wantBody:
			x.r += n
		case known(kind):
			return errFrameOrder
		default:
			if err := x.c.sawUnknown(); err != nil {
				return err
			}
			x.r, x.skip = x.r+n, length
		}
	}
	return nil
}

// cut judges an end of what has been read within a frame.
func (x *exchange) cut() error {
	if !x.eof {
		return nil
	}
	if x.r == x.w && x.skip == 0 {
		return errIncomplete
	}
	return errFrameCut
}

func (x *exchange) ended() bool { return x.eof && x.r == x.w }

// mayEndLater says whether it is worth waiting to see whether a body follows:
// not where the head says so, or where bodies are the rule.
func (x *exchange) mayEndLater() bool {
	if x.req.Fields.Has(msg.ContentLength) {
		return false
	}
	switch msg.MethodOf(x.req.MethodText) {
	case msg.GET, msg.HEAD, msg.OPTIONS, msg.DELETE, msg.TRACE:
		return true
	}
	return false
}

// decode takes the field section apart. Its bytes stay part of the request.
func (x *exchange) decode(section []byte) error {
	if err := x.qp.Start(section); err != nil {
		return &failure{codeDecompression, Compression, err.Error()}
	}
	x.build.Start(&x.req)
	size := 0
	for n := 0; x.qp.More(); n++ {
		name, value, err := x.qp.Next()
		if err != nil {
			return &failure{codeDecompression, Compression, err.Error()}
		}
		if size += len(name) + len(value) + 32; size > x.c.s.l.Head {
			return errHeadLong
		}
		if n == x.c.s.l.Fields {
			return errFieldCount
		}
		if err := x.build.Add(name, value); err != nil {
			return err
		}
	}
	return nil
}

// settle completes the request.
func (x *exchange) settle(ended bool) error {
	if err := x.build.End(ended, x.c.s.l.Body, func(n int) []byte { return make([]byte, n) }); err != nil {
		return err
	}
	x.phase = whole
	return nil
}

// begin makes the request what a session may see.
func (x *exchange) begin() {
	x.c.s.count.requests.Add(1)
	if x.req.Early {
		x.c.s.count.early.Add(1)
	}
	x.req.Proto, x.req.Scheme, x.req.Interim = msg.HTTP3, msg.HTTPS, x.interim
	if x.req.Length != 0 {
		x.body = newBody(x)
		x.req.Body = x.body
	}
	x.prioritise()
}

// runSlow serves a request that did not come in one piece.
func (x *exchange) runSlow() {
	err := x.receive(x.c.s.l.HeadTimeout)
	if errors.Is(err, errWait) {
		err = errSlowHead
	}
	if err != nil {
		x.refuse(err)
		return
	}
	x.begin()
	x.runServe()
}

// runServe serves a request that has to wait.
func (x *exchange) runServe() {
	x.watch()
	x.sess.Serve(&x.req, &x.res)
	x.respond()
	x.unwatch()
	x.finish()
}

// runRespond writes an answer that takes longer.
func (x *exchange) runRespond() {
	x.watch()
	x.respond()
	x.unwatch()
	x.finish()
}

// watch tells the session when the visitor gives the request up, until unwatch.
func (x *exchange) watch() {
	x.stop = context.AfterFunc(x.st.Context(), func() {
		if !x.left.Swap(true) && x.leaver != nil {
			x.leaver.Left()
		}
	})
}

// unwatch is called before the stream is closed, and again. A session that is
// being told, or was, is not used again.
func (x *exchange) unwatch() {
	if x.stop != nil && !x.stop() {
		x.left.Store(true)
	}
	x.stop = nil
}

// finish ends the request, after its answer.
func (x *exchange) finish() {
	if x.body != nil {
		x.body.die()
	}
	if !x.eof {
		// What the visitor still sends is not wanted (RFC 9114 §4.1).
		x.st.CancelRead(codeNone.stream())
	}
	x.res.Close()
	x.sess.Done(&x.req, &x.res, x.sent, x.err)
}

// refuse ends a request that reached no session's Serve.
func (x *exchange) refuse(err error) {
	if f, ok := errors.AsType[*failure](err); ok {
		x.c.end(f)
		return
	}
	if errors.Is(err, errGiven) {
		x.reset(codeRequestCancelled)
		x.c.given()
		return
	}
	r, ok := errors.AsType[*reject](err)
	if bad, isRefusal := errors.AsType[*head.Refusal](err); isRefusal && !ok {
		r = &reject{codeMessage, bad.Status, Malformed, bad.Reason}
		if bad.Status == 400 {
			r.status = 0
		}
	}
	x.c.s.count.end(r.reason)
	if r.status == 0 {
		x.reset(r.code)
	} else {
		x.plain(r.status)
		x.st.CancelRead(codeNone.stream())
	}
	if r != errRejected {
		x.sess.Refused(max(r.status, 400), err)
	}
	if r.reason == Malformed {
		x.c.given()
	}
}

// reset ends the stream both ways.
func (x *exchange) reset(c code) {
	x.st.CancelRead(c.stream())
	x.st.CancelWrite(c.stream())
}

// visitorFault says whose fault a failed read or write is: the visitor's.
func visitorFault(op string, err error) *fault.Error {
	f := &fault.Error{Op: op, Side: fault.Visitor, Kind: fault.Closed, Err: err}
	if r, ok := errors.AsType[*reject](err); ok {
		f.Kind = fault.Malformed
		if r.status == 413 || r.status == 431 {
			f.Kind = fault.TooLarge
		}
	} else if _, ok := errors.AsType[*failure](err); ok {
		f.Kind = fault.Malformed
	} else if errors.Is(err, os.ErrDeadlineExceeded) {
		f.Kind = fault.Timeout
	}
	return f
}
