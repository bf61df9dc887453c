package h3

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/selvage-edge/selvage/internal/clock"
	"github.com/selvage-edge/selvage/wire/msg"
)

// conn is a visitor's connection. Requests are taken by the goroutine in serve.
type conn struct {
	s  *Server
	qc *quic.Conn
	mc *msg.Conn

	ctx     context.Context // ends with qc
	work    sync.WaitGroup  // goroutines of requests and of the visitor's own streams
	proven  bool            // the handshake is over; owned by serve
	active  atomic.Int64    // requests in the hands of others than serve
	touched atomic.Int64    // when a request last came or went, on the clock
	next    atomic.Int64    // the next request that will come
	away    atomic.Bool     // GOAWAY has been said
	ahead   atomic.Bool     // early is not empty, or signals is set

	mu      sync.Mutex // guards what follows
	closed  bool       // work is being waited for
	control *quic.SendStream
	free    []*exchange                 // not in use, with their sessions
	waiting map[quic.StreamID]*exchange // requests that others than serve work on
	early   map[quic.StreamID]priority  // priorities of requests to come
	signals bool                        // the visitor speaks RFC 9218
	resets  clock.Meter
	unknown clock.Meter
	updates clock.Meter
	kinds   [4]bool       // critical streams the visitor has opened
	limit   quic.StreamID // the first request that is refused, behind GOAWAY; noLimit before
	goAway  uint64        // the visitor's, of pushes
	maxPush uint64        // likewise
}

const noLimit quic.StreamID = 1<<62 - 4

func newConn(s *Server, qc *quic.Conn, mc *msg.Conn) *conn {
	c := &conn{s: s, qc: qc, mc: mc, ctx: qc.Context(), limit: noLimit, goAway: 1<<62 - 1}
	c.touch()
	return c
}

func (c *conn) touch() { c.touched.Store(int64(c.s.clock.Now())) }

// end ends the connection.
func (c *conn) end(f *failure) {
	c.s.count.end(f.reason)
	_ = c.qc.CloseWithError(quic.ApplicationErrorCode(f.code), f.text) // never fails
}

func (c *conn) serve() {
	defer c.close()
	if f := c.greet(); f != nil {
		c.end(f)
		return
	}
	c.work.Go(c.acceptUni)
	if c.s.conns.Draining() {
		c.retire()
	}
	for {
		st, err := c.qc.AcceptStream(c.ctx)
		if err != nil {
			return // the connection has ended
		}
		c.take(st)
	}
}

// close runs when the connection has ended.
func (c *conn) close() {
	_ = c.qc.CloseWithError(quic.ApplicationErrorCode(codeNone), "") // has ended, as a rule
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.work.Wait()
	for _, x := range c.free {
		x.close()
	}
}

// greet opens the control stream and says our settings.
func (c *conn) greet() *failure {
	st, err := c.qc.OpenUniStream()
	if err != nil {
		return errNoControl
	}
	if _, err := st.Write(c.s.greeting); err != nil {
		return errClosed
	}
	c.mu.Lock()
	c.control = st
	c.mu.Unlock()
	return nil
}

// appendGreeting appends what a control stream begins with: its type and SETTINGS.
func (s *Server) appendGreeting(p []byte) []byte {
	var q []byte
	for _, v := range [...]uint64{settingTableCapacity, 0, settingBlockedStreams, 0, settingSectionSize, uint64(s.l.Head), settingConnect, 1} {
		q = appendVarint(q, v)
	}
	p = append(p, streamControl, frameSettings)
	return append(appendVarint(p, uint64(len(q))), q...)
}

// isProven says whether the handshake is over: what came before may be a replay.
func (c *conn) isProven() bool {
	if c.proven {
		return true
	}
	select {
	case <-c.qc.HandshakeComplete():
		c.proven = true
	default:
	}
	return c.proven
}

// take serves one request as far as that needs no waiting.
func (c *conn) take(st *quic.Stream) {
	c.touch()
	c.next.Store(int64(st.StreamID()) + 4)
	x := c.get()
	x.start(st, !c.isProven())
	if !c.admit(x) {
		x.refuse(errRejected)
		c.put(x)
		return
	}
	if err := x.receive(inlineWait); err != nil {
		if errors.Is(err, errWait) {
			c.hand(x, x.runSlow)
			return
		}
		x.refuse(err)
		c.put(x)
		return
	}
	x.begin()
	if x.step == nil || !x.step.Step(&x.req, &x.res) {
		c.hand(x, x.runServe)
		return
	}
	if !x.respondNow() {
		c.hand(x, x.runRespond)
		return
	}
	c.s.count.inline.Add(1)
	x.finish()
	c.put(x)
}

// admit notes a request; it is false behind a GOAWAY.
func (c *conn) admit(x *exchange) bool {
	if !c.away.Load() {
		return true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return x.id < c.limit
}

// hand gives a request to a goroutine of its own; their number is bounded by
// the streams that the visitor may have open.
func (c *conn) hand(x *exchange, run func()) {
	c.active.Add(1)
	c.mu.Lock()
	if c.waiting == nil {
		c.waiting = make(map[quic.StreamID]*exchange)
	}
	c.waiting[x.id] = x
	if pr, ok := c.early[x.id]; ok {
		x.st.SetPriority(int8(pr.Urgency), pr.Incremental)
	}
	c.mu.Unlock()
	c.work.Go(func() {
		run()
		c.mu.Lock()
		delete(c.waiting, x.id)
		c.mu.Unlock()
		c.put(x)
		c.touch()
		c.active.Add(-1)
	})
}

func (c *conn) get() *exchange {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := len(c.free); n > 0 {
		x := c.free[n-1]
		c.free = c.free[:n-1]
		return x
	}
	return newExchange(c)
}

// put takes back an exchange whose request is done. One whose session was told
// that the visitor left is not used again.
func (c *conn) put(x *exchange) {
	keep := x.reusable()
	if !keep {
		x.close()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.early, x.id)
	if keep {
		c.free = append(c.free, x)
	}
}

// given counts requests that the visitor gave up or broke.
func (c *conn) given() {
	c.mu.Lock()
	over := c.resets.Over(c.s.clock.Now(), c.s.l.Resets, c.s.l.FloodTime)
	c.mu.Unlock()
	if over {
		c.end(errResetFlood)
	}
}

const (
	// drainGrace is for requests that are on the way while the visitor has not
	// yet heard of the GOAWAY (RFC 9114 §5.2).
	drainGrace = 250 * time.Millisecond
	// drainLinger is for the last answers to be acknowledged. Visitors that
	// know GOAWAY end the connection themselves before.
	drainLinger = time.Second
)

// retire says GOAWAY, and sees to it that the connection ends after the
// requests in flight.
func (c *conn) retire() {
	if c.away.Swap(true) {
		return
	}
	c.sayGoAway(noLimit)
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.work.Go(c.leave)
	}
}

func (c *conn) sayGoAway(id quic.StreamID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.control == nil {
		return
	}
	p := appendVarint(nil, uint64(id))
	p = append(append(make([]byte, 0, 16), frameGoAway, byte(len(p))), p...)
	_, _ = c.control.Write(p) // fails when the connection has ended, which is all it is for
}

// leave refuses what comes from now on, and waits for what came before.
func (c *conn) leave() {
	select {
	case <-time.After(drainGrace):
	case <-c.ctx.Done():
		return
	}
	c.mu.Lock()
	limit := quic.StreamID(c.next.Load())
	c.limit = limit
	c.mu.Unlock()
	c.sayGoAway(limit)
	poll := time.NewTicker(drainPoll)
	defer poll.Stop()
	for c.active.Load() > 0 {
		select {
		case <-poll.C:
		case <-c.ctx.Done():
			return
		}
	}
	// What was sent long ago has arrived.
	quiet := c.s.clock.Now() - time.Duration(c.touched.Load())
	select {
	case <-time.After(drainLinger - min(quiet, drainLinger)):
		c.end(errDrained)
	case <-c.ctx.Done():
	}
}

// drainPoll is how often a connection that leaves looks whether it is done.
const drainPoll = 10 * time.Millisecond

// spareTime is for how long a connection without a request keeps what it has
// for many at a time.
const spareTime = time.Second

// look ends the connection when it has been idle for too long.
func (c *conn) look(now time.Duration) {
	if c.active.Load() > 0 {
		return
	}
	idle := now - time.Duration(c.touched.Load())
	if idle > spareTime {
		c.trim()
	}
	if idle > c.s.l.IdleTimeout {
		c.end(errIdle)
	}
}

// trim gives up the exchanges that are not in use, but one.
func (c *conn) trim() {
	c.mu.Lock()
	var spare []*exchange
	if len(c.free) > 1 {
		spare = slices.Clone(c.free[1:])
		clear(c.free[1:])
		c.free = c.free[:1]
	}
	c.mu.Unlock()
	for _, x := range spare {
		x.close()
	}
}
