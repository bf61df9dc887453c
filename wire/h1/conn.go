package h1

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/selvage-edge/selvage/fault"
	"github.com/selvage-edge/selvage/internal/clock"
	"github.com/selvage-edge/selvage/wire/msg"
)

// Where a connection stands, for Drain.
const (
	fresh   int32 = iota // no request yet
	busy                 // a request, or a part of one, is here
	idle                 // between requests
	leaving              // told to end before the next request
)

// conn is a visitor's connection, owned by the goroutine in serve.
type conn struct {
	s     *Server
	nc    net.Conn
	tcp   *net.TCPConn // nc, when it can do writev
	mc    *msg.Conn
	sess  msg.Session              // nil before the first request, and while idle for long
	step  msg.Stepper              // sess, if it is one
	left  atomic.Pointer[farewell] // likewise, for the watch
	dl    clock.Deadlines
	rd    reader
	wrote time.Duration // on the clock, when the last write began; 0 = it had to wait
	idle  *idleReader   // nil where there is no descriptor
	out   *tcpWriter    // likewise
	state atomic.Int32
	turn  atomic.Uint32 // for the watch: odd while a request is served, other whenever it moves
	seen  watched

	req     msg.Request
	res     msg.Response
	head    requestHead
	ready   bool  // req has been read, by quick
	stepped bool  // and res answers it
	body    *body // of the request in service, nil when it has none
	interim func(int, *msg.Fields) error
	vec     [2][]byte
	bufs    net.Buffers

	parks  bool   // may wait in the server's park
	quiet  bool   // is to do so now
	parked parked // its place there
	ended  func() // told of the connection's end; nil = nobody

	ending bool // the last answer was given; what remains is to linger
	abrupt bool // the end of nc must not look like the end of an answer
	broken bool // no more can be said on nc: a write failed or an answer was cut

	wmu     sync.Mutex // guards interim answers against the final one
	started bool       // the final answer's head is being written
}

func newConn(s *Server, nc net.Conn, mc *msg.Conn) *conn {
	c := &conn{s: s, nc: nc, mc: mc}
	c.tcp, _ = nc.(*net.TCPConn)
	c.dl.Conn, c.dl.Clock = nc, s.clock
	c.rd = reader{nc: nc, dl: &c.dl, pools: s.pools}
	c.idle = newIdleReader(c.tcp, c)
	c.out = newTCPWriter(c.tcp, c)
	c.interim = c.sendInterim
	return c
}

// drain is called by Drain, from outside.
func (c *conn) drain() {
	if c.state.CompareAndSwap(idle, leaving) {
		c.dl.Hold()
		return
	}
	c.dl.Bound(drainGrace, func() bool { return c.state.Load() == fresh })
}

// cut is called by Drain, from outside.
func (c *conn) cut() {
	c.dl.Cut()
	hardClose(c.nc)
}

// hardClose closes without the farewell of TLS, for which it would wait.
func hardClose(nc net.Conn) {
	_ = rawConn(nc).Close() // whatever it says, the connection is done with
}

// rawConn is what nc runs over.
func rawConn(nc net.Conn) net.Conn {
	if t, ok := nc.(interface{ NetConn() net.Conn }); ok {
		return t.NetConn()
	}
	return nc
}

// outcome says why serve has returned.
type outcome uint8

const (
	over    outcome = iota
	resting         // quiet: it can wait elsewhere
)

func (c *conn) serve() outcome {
	for c.next() {
	}
	if c.quiet {
		c.quiet = false
		return resting
	}
	return over
}

// close ends the connection and gives back what it holds.
func (c *conn) close() {
	if c.abrupt {
		hardClose(c.nc)
	}
	_ = c.nc.Close() // as in hardClose
	if c.sess != nil {
		c.sess.Close()
	}
	c.rd.close()
}

// open makes sure that there is a session.
func (c *conn) open() {
	if c.sess == nil {
		c.sess = c.s.h.Open(c.mc)
		c.step, _ = c.sess.(msg.Stepper)
		if l, ok := c.sess.(msg.Leaver); ok {
			c.left.Store(&farewell{l})
		}
	}
}

type farewell struct{ msg.Leaver }

// slim gives back what a connection does not need while nothing is asked on it.
func (c *conn) slim() {
	if c.sess != nil {
		c.sess.Close()
		c.sess, c.step = nil, nil
		c.left.Store(nil)
	}
	c.req, c.res = msg.Request{}, msg.Response{}
}

// next serves one request and reports whether another may follow.
func (c *conn) next() bool {
	if err := c.take(); err != nil {
		c.refuse(err)
		return false
	}
	if !c.stepped {
		c.sess.Serve(&c.req, &c.res)
	}
	c.stepped = false
	if keep := c.finish(); !keep {
		if !c.broken {
			c.linger()
		}
		return false
	}
	return true
}

// take waits for a request.
func (c *conn) take() error {
	head, err := c.readHead()
	if err != nil {
		return err
	}
	if c.ready {
		c.ready = false
		return nil
	}
	c.open()
	h, bad := parseRequest(head, &c.req, c.s.l.Body)
	if bad != nil {
		return bad
	}
	c.begin(h)
	c.turn.Add(1)
	return nil
}

// finish sends the answer and makes ready for the next request; false when none
// may follow.
func (c *conn) finish() (keep bool) {
	sent, keep, err := c.respond(c.head.keep)
	c.res.Close()
	c.turn.Add(1)
	c.sess.Done(&c.req, &c.res, sent, err)
	if keep = c.endBody(keep); !keep {
		return false
	}
	c.res.Reset()
	c.req.Reset()
	c.rd.release()
	return true
}

// quick looks at what has arrived and answers it when that takes no waiting.
// Otherwise it leaves the rest to next: what it has read of a request, and how
// far it has come with it, is in c.
func (c *conn) quick() (answered bool) {
	if c.wake() != nil || c.rd.buffered()[0] == '\r' {
		return false
	}
	c.open()
	sc := scan{start: 1}
	n, bad := sc.end(c.rd.buffered(), &c.s.bounds)
	if n == 0 || bad != nil || c.step == nil {
		return false
	}
	h, bad := parseRequest(c.rd.buffered()[:n:n], &c.req, c.s.l.Body)
	if bad != nil || c.req.Length != 0 || c.req.Upgrade != nil {
		c.req.Reset()
		return false
	}
	c.rd.r += n
	c.rd.lend()
	c.begin(h)
	c.turn.Add(1)
	c.ready = true
	if c.stepped = c.step.Step(&c.req, &c.res); !c.stepped || c.res.Body != nil || c.res.Tunnel != nil {
		return false
	}
	c.ready, c.stepped = false, false
	return true
}

// settle sends what quick has answered and waits for the next request; false
// when none is to come.
func (c *conn) settle() bool {
	if !c.finish() {
		c.ending = true
		return false
	}
	if c.rest() != nil {
		return false
	}
	timeout := min(c.s.l.IdleTimeout, c.s.settle)
	if c.wrote == 0 {
		return c.dl.ArmRead(timeout) == nil
	}
	return c.dl.ArmReadAt(c.wrote, timeout) == nil // a moment ago: one reading of the clock less
}

// readHead waits for a whole head. What it returns is lent out.
func (c *conn) readHead() ([]byte, error) {
	if c.rd.r == c.rd.w {
		if err := c.await(); err != nil {
			return nil, err
		}
	}
	if c.ready {
		return nil, nil
	}
	if err := c.skipEmptyLine(); err != nil {
		return nil, err
	}
	sc := scan{start: 1}
	n, bad := sc.end(c.rd.buffered(), &c.s.bounds)
	if bad != nil {
		return nil, bad
	}
	if n > 0 {
		p := c.rd.buffered()[:n:n]
		c.rd.r += n
		c.rd.lend()
		return p, nil
	}
	return c.slowHead(&sc)
}

// slowHead is for a head that has not come in one piece: the rest of it has
// until HeadTimeout. A request line that is wrong is not waited behind.
func (c *conn) slowHead(sc *scan) ([]byte, error) {
	until := c.s.clock.Now() + c.s.l.HeadTimeout
	judged := false
	for {
		if !judged && sc.lines > 0 {
			judged = true
			var trial msg.Request
			p := c.rd.buffered()
			if _, err := parseRequestLine(p[:lineEnd(p)], &trial); err != nil {
				return nil, err
			}
		}
		if c.rd.wait = until - c.s.clock.Now(); c.rd.wait <= 0 {
			return nil, os.ErrDeadlineExceeded
		}
		if err := c.rd.fill(); err != nil {
			return nil, early(err)
		}
		n, bad := sc.end(c.rd.buffered(), &c.s.bounds)
		if bad != nil {
			return nil, bad
		}
		if n > 0 {
			p := c.rd.buffered()[:n:n]
			c.rd.r += n
			c.rd.lend()
			return p, nil
		}
	}
}

// lineEnd returns where the first line's CR is; p holds a whole line.
func lineEnd(p []byte) int {
	for i := range p {
		if p[i] == '\n' {
			return i - 1
		}
	}
	return 0
}

// await waits for the first byte of a request. Its only error is errQuiet:
// the connection ended, or is to end, and nobody expects an answer.
func (c *conn) await() error {
	if err := c.rest(); err != nil {
		return err
	}
	if c.idle == nil {
		c.rd.wait = c.s.l.IdleTimeout
		if c.rd.fill() != nil {
			return errQuiet
		}
		return c.wake()
	}
	if c.idle.fill() != nil {
		if c.ending && !c.broken {
			c.linger()
		}
		return errQuiet
	}
	return c.wake()
}

// rest is called when the next request is waited for.
func (c *conn) rest() error {
	c.rd.shrink()
	if c.state.Load() == fresh {
		if c.s.conns.Draining() {
			c.dl.Bound(drainGrace, nil)
		}
	} else if c.state.Store(idle); c.s.conns.Draining() {
		return errQuiet // Drain has passed by, or waits for CompareAndSwap to fail
	}
	return nil
}

// wake is called when a part of a request has come.
func (c *conn) wake() error {
	if c.state.Load() == busy || c.state.CompareAndSwap(idle, busy) {
		return nil
	}
	if !c.dl.Unbound(func() bool { return c.state.CompareAndSwap(fresh, busy) }) {
		return errQuiet // Drain was first
	}
	return nil
}

var errQuiet = errors.New("h1: no request")

// skipEmptyLine passes over one CRLF before a request line (RFC 9112 §2.2).
func (c *conn) skipEmptyLine() error {
	if p := c.rd.buffered(); p[0] != '\r' {
		return nil
	}
	c.rd.wait = c.s.l.HeadTimeout
	for len(c.rd.buffered()) < 3 {
		if p := c.rd.buffered(); len(p) == 2 && p[1] != '\n' {
			return errRequestLine
		}
		if err := c.rd.fill(); err != nil {
			return errQuiet
		}
	}
	if c.rd.buffered()[1] != '\n' {
		return errRequestLine
	}
	c.rd.r += 2
	return nil
}

// begin completes c.req.
func (c *conn) begin(h requestHead) {
	c.head, c.started = h, false
	if c.mc.TLS != nil {
		c.req.Scheme = msg.HTTPS
	}
	if c.req.Proto == msg.HTTP11 {
		c.req.Interim = c.interim
	}
	if c.req.Length == 0 {
		return
	}
	c.body = newBody(c, h.expect)
	c.req.Body = c.body
}

// refuse answers what cannot be served, tells the session and ends.
func (c *conn) refuse(err error) {
	var status int
	bad, isBad := errors.AsType[*refusal](err)
	switch {
	case isBad:
		status = bad.status
	case errors.Is(err, os.ErrDeadlineExceeded):
		status = 408
		c.slow(SlowHead, err)
	case errors.Is(err, io.ErrUnexpectedEOF):
		status = 400
	default:
		return
	}
	p := c.appendPlain(make([]byte, 0, 256), status)
	_, werr := c.write(p)
	c.open()
	c.sess.Refused(status, err)
	if werr == nil {
		c.linger()
	}
}

const (
	lingerTime  = 2 * time.Second
	lingerBytes = 256 << 10
)

// linger says that no more comes and reads away what the visitor still sends,
// so that a reset does not overtake the answer (RFC 9112 §9.6).
func (c *conn) linger() {
	half, ok := c.nc.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	b := c.s.pools.stream.Get().(*block)
	defer c.s.pools.stream.Put(b)
	until := c.s.clock.Now() + lingerTime
	for seen := 0; seen < lingerBytes; {
		c.rd.wait = until - c.s.clock.Now()
		if c.rd.wait <= 0 {
			return
		}
		n, err := c.rd.read(b.b)
		if err != nil {
			return
		}
		seen += n
	}
}

// endBody settles the request's body after the answer: what is left of it is
// read away within bounds, else the connection ends.
func (c *conn) endBody(keep bool) bool {
	b := c.body
	if b == nil {
		return keep
	}
	c.body = nil
	return b.finish(keep) && keep
}

// visitorFault says whose fault a failed read or write is: the visitor's.
func visitorFault(op string, err error) *fault.Error {
	f := &fault.Error{Op: op, Side: fault.Visitor, Kind: fault.Closed, Err: err}
	if bad, ok := errors.AsType[*refusal](err); ok {
		f.Kind = fault.Malformed
		if bad.status == 413 || bad.status == 431 {
			f.Kind = fault.TooLarge
		}
	} else if errors.Is(err, os.ErrDeadlineExceeded) {
		f.Kind = fault.Timeout
	}
	return f
}
