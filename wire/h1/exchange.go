package h1

import (
	"context"
	"errors"
	"io"
	"os"
	"sync/atomic"
	"time"

	"github.com/selvage-edge/selvage/fault"
	"github.com/selvage-edge/selvage/wire/msg"
)

// exchange is one request and its answer on a client's connection, and the
// answer's Body. A goroutine of its own sends the request's body.
type exchange struct {
	c       *Client
	ctx     context.Context // of Do: one exchange is its scope
	stopCtx func() bool
	req     *msg.Request
	// how long the origin may take: for a head, between arrivals of the body
	headTime, bodyTime time.Duration

	reused bool
	begun  bool // a byte of an answer has arrived

	dec     decoder
	trailer msg.Fields
	keep    bool // the origin allows another request
	whole   bool // the answer was read to its end
	failed  error

	src     io.Reader
	sent    chan struct{} // closed when the sender has ended; nil without a body
	sendErr error         // of the sender, read after sent is closed
	srcErr  error         // that part of it which is the body's own
	stop    atomic.Bool   // tells the sender to end
	reading atomic.Bool   // the sender is in src.Read
	sentAt  atomic.Int64  // clock time of its latest progress
}

// fail ends the exchange and the connection and says why.
func (ex *exchange) fail(err error) error {
	ex.c.closed.Store(true)
	ex.halt()
	ex.c.dl.Cut()
	hardClose(ex.c.nc)
	ex.join()
	if ex.ctx.Err() == nil && ex.srcErr != nil {
		if f, ok := errors.AsType[*fault.Error](ex.srcErr); ok {
			return f
		}
		return &fault.Error{Op: "h1.body", Side: fault.Visitor, Kind: fault.Closed, Err: ex.srcErr}
	}
	f := classify("h1.do", err, ex.begun)
	if cause := ex.ctx.Err(); cause != nil {
		f.Side, f.Kind, f.Err = fault.Visitor, fault.Closed, cause
		if errors.Is(cause, context.DeadlineExceeded) {
			f.Side, f.Kind = fault.Origin, fault.Timeout
		}
		return f
	}
	f.Retry = ex.reused && !ex.begun && (f.Kind == fault.Closed || f.Kind == fault.Refused)
	return f
}

// join waits for the sender and lets go of ctx and the client.
func (ex *exchange) join() {
	if ex.sent != nil {
		<-ex.sent
	}
	if ex.stopCtx != nil {
		ex.stopCtx()
	}
	if ex.c.ex == ex {
		ex.c.ex = nil
	}
}

// readHead waits for the final answer's head.
func (ex *exchange) readHead(res *msg.Response) error {
	c := ex.c
	for range c.l.Interim + 1 {
		head, err := ex.awaitHead()
		if err != nil {
			return err
		}
		h, bad := parseResponse(head, res)
		if bad != nil {
			return bad
		}
		if res.Status == 101 {
			return ex.switched(res)
		}
		if res.Status >= 200 {
			return ex.open(h, res)
		}
		if c.l.OnInterim != nil {
			strip(&res.Fields, false)
			c.l.OnInterim(res.Status, &res.Fields)
		}
		res.Reset()
	}
	return errInterimMany
}

// awaitHead waits while the origin may still be busy with the request: from
// the latest part that was sent it has headTime.
func (ex *exchange) awaitHead() ([]byte, error) {
	c := ex.c
	from := max(int64(c.dl.Clock.Now()), ex.sentAt.Load())
	sc := scan{start: 1}
	for {
		n, bad := sc.end(c.rd.buffered(), &c.bounds)
		if bad != nil {
			return nil, bad
		}
		if n > 0 {
			p := c.rd.buffered()[:n:n]
			c.rd.r += n
			return p, nil
		}
		left := int64(ex.headTime) - (int64(c.dl.Clock.Now()) - max(from, ex.sentAt.Load()))
		if ex.reading.Load() {
			left = int64(ex.headTime) // the visitor's turn, who is timed elsewhere
		}
		if left <= 0 {
			return nil, os.ErrDeadlineExceeded
		}
		c.rd.wait = max(1, min(ex.headTime, time.Duration(left)))
		err := c.rd.fill()
		switch {
		case err == nil:
			ex.begun = true
		case errors.Is(err, os.ErrDeadlineExceeded) && !c.dl.Held() && ex.moved(from):
			from = ex.sentAt.Load()
		default:
			return nil, early(err)
		}
	}
}

// moved reports whether the sender has done something since from, or waits
// for the visitor.
func (ex *exchange) moved(from int64) bool { return ex.reading.Load() || ex.sentAt.Load() > from }

// open sets res up for the body.
func (ex *exchange) open(h responseHead, res *msg.Response) error {
	c := ex.c
	c.rd.lend()
	ex.keep = h.keep
	head := bodiless(ex.req.Method, res.Status)
	ex.dec = decoder{rd: &c.rd, lim: &c.bounds, trailer: &ex.trailer}
	if head {
		ex.dec.state = ended
	} else {
		ex.dec.start(h.framing, true)
		res.Length = h.length // msg.LengthUnknown without one
	}
	if ex.dec.state == inRest || res.Status == 204 && (h.chunked || h.length > 0) {
		ex.keep = false
	}
	strip(&res.Fields, ex.req.Method == msg.HEAD || res.Status == 304)
	if res.Status >= 300 {
		ex.halt() // it will not want the rest
	}
	if ex.dec.state == ended {
		ex.whole = true
		ex.settle()
		return nil
	}
	if ex.dec.chunked {
		res.Trailer = &ex.trailer
	}
	res.Body = ex
	return nil
}

// Read reads the answer's body. Its errors are io.EOF and *fault.Error.
func (ex *exchange) Read(p []byte) (int, error) {
	if ex.failed != nil {
		return 0, ex.failed
	}
	ex.c.rd.wait = ex.bodyTime
	n, err := ex.dec.Read(p)
	if err == nil {
		return n, nil
	}
	if ex.failed = err; err != io.EOF {
		ex.failed = ex.fail(err)
		return n, ex.failed
	}
	ex.whole = true
	ex.halt()
	return n, err
}

// Buffered returns how many bytes a Read gets at least without waiting.
func (ex *exchange) Buffered() int {
	if ex.dec.state == inData || ex.dec.state == inRest {
		return len(ex.c.rd.buffered())
	}
	return 0
}

// Close ends the exchange. A body that was not read to its end takes the
// connection with it.
func (ex *exchange) Close() error {
	if ex.c.ex != ex {
		return nil
	}
	if !ex.whole && ex.dec.state != ended {
		_ = ex.c.Close() // never fails
	}
	ex.whole = ex.whole || ex.dec.state == ended
	ex.settle()
	return nil
}

// settle waits for the sender and decides whether the connection can go on.
func (ex *exchange) settle() {
	c := ex.c
	ex.halt()
	ex.join()
	if ex.sendErr == nil {
		c.dl.OpenWrite() // all had left before halt could matter
	}
	c.keep = ex.whole && ex.keep && ex.sendErr == nil && len(c.rd.buffered()) == 0 && !c.dl.Held()
	if !c.keep {
		_ = c.Close() // never fails
	}
}

// switched makes the connection the answer's Tunnel.
func (ex *exchange) switched(res *msg.Response) error {
	if len(ex.req.Upgrade) == 0 {
		return errSwitch
	}
	c := ex.c
	c.rd.lend()
	upgrade := res.Fields.Get(msg.Upgrade)
	strip(&res.Fields, false)
	if upgrade != nil {
		res.Fields.AddID(msg.Upgrade, upgrade)
	}
	ex.join()
	if err := c.dl.Clear(); err != nil {
		return err
	}
	res.Tunnel = clientTunnel{c}
	return nil
}

// clientTunnel is an origin's side of an upgraded connection, without
// time-outs of its own: who copies has them.
type clientTunnel struct{ c *Client }

func (t clientTunnel) Read(p []byte) (int, error) {
	if have := t.c.rd.buffered(); len(have) > 0 {
		n := copy(p, have)
		t.c.rd.r += n
		return n, nil
	}
	return t.c.nc.Read(p)
}

func (t clientTunnel) Write(p []byte) (int, error) { return t.c.nc.Write(p) }
func (t clientTunnel) CloseWrite() error           { return closeWrite(t.c.nc) }
func (t clientTunnel) Close() error                { return t.c.Close() }
