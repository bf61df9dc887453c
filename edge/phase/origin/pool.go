package origin

import (
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/selvage-edge/selvage/fault"
	"github.com/selvage-edge/selvage/wire/msg"
)

// key says for what a connection can be used. The zone is part of it: what
// one tenant does to a shared origin's connections does not touch another.
type key struct {
	zone string
	host string
	port uint16
	mode mode
	sni  string // "" for plain
	two  bool   // HTTP/2 may be spoken
}

// pool holds the connections to one origin. The newest idle one is used
// first, so that a burst's surplus ages and is closed.
type pool struct {
	key    key
	engine *Engine
	tls    *tls.Config // nil for plain

	avoidUntil atomic.Int64 // Unix nanoseconds

	oneUntil atomic.Int64 // HTTP/1.1 is spoken, whatever two says; Unix nanoseconds

	mu       sync.Mutex
	open     int        // connections and dials under way; guarded by mu
	idle     []*conn    // oldest first; guarded by mu
	sessions []*session // HTTP/2 connections that take requests; guarded by mu
	dialing  int        // dials for whoever stands in line; guarded by mu
	speaks   protocol   // what the latest dial agreed on; guarded by mu
	waiters  []*waiter  // oldest first; guarded by mu
	shutting bool       // nothing is kept any more; guarded by mu
	// streaming are those whose answer a visitor is taking; guarded by mu
	streaming map[*conn]struct{}
}

// protocol is what is known of an origin.
type protocol uint8

const (
	speaksUnknown protocol = iota
	speaksOne
	speaksTwo
)

// waiter is a request in line. It is given a connection, or nil: the right to
// open one, or why there is none.
type waiter struct{ got chan turn }

type turn struct {
	c   *conn
	err error
}

// conn is a connection, or a seat on one that many share, and the exchange that
// is under way on it. It is owned by the request that took it, or by the pool
// while idle.
type conn struct {
	pool    *pool
	session *session // that the seat is on; nil = a connection of its own
	nc      net.Conn // TCP; nil on a seat
	client  Client
	addr    netip.AddrPort
	fresh   bool // nothing was sent on it yet
	reused  bool
	since   time.Time // idle since

	// Of the exchange.
	req     msg.Request
	body    sender
	visitor func(int, *msg.Fields) error // takes 1xx answers; nil = nobody
	release func()                       // the client's own, of the answer
	hold    hold

	cutter interface{ Cut() } // of the answer, on a seat

	finished func()                       // finish, made once
	early    func(int, *msg.Fields) error // interim, likewise
}

// pool finds or makes the pool for k.
func (e *Engine) pool(k key) (*pool, error) {
	e.mu.RLock()
	p, closed := e.pools[k], e.closed
	e.mu.RUnlock()
	if p != nil && !closed {
		return p, nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, &fault.Error{Op: "origin.pool", Side: fault.Edge, Kind: fault.Draining, Err: errClosed}
	}
	if p = e.pools[k]; p == nil {
		p = &pool{key: k, engine: e, tls: e.tlsConfig(k), streaming: make(map[*conn]struct{})}
		e.pools[k] = p
	}
	return p, nil
}

func (p *pool) avoided(now time.Time) bool { return p.avoidUntil.Load() > now.UnixNano() }
func (p *pool) avoid(until time.Time)      { p.avoidUntil.Store(until.UnixNano()) }

// take returns a connection to p's origin: a seat or an idle one, unless fresh,
// else a new one, else the next that comes free.
func (e *Engine) take(ctx context.Context, p *pool, fresh bool) (*conn, error) {
	if fresh {
		p.drop(time.Now()) // what lay beside a stale connection is no better
	}
	for {
		c, w, err := p.enter()
		if err != nil {
			return nil, err
		}
		if w != nil {
			p.grow()
			if c, err = p.wait(ctx, w); err != nil {
				return nil, err
			}
		}
		if c == nil {
			return p.dial(ctx)
		}
		if c.session != nil {
			if c.reused {
				e.metrics.reuses.Inc()
			}
			return c, nil
		}
		if !c.fresh && !c.client.Alive() {
			p.release(c, false)
			continue
		}
		if c.reused = !c.fresh; c.reused {
			e.metrics.reuses.Inc()
		}
		c.fresh = false
		return c, nil
	}
}

// enter gives a seat, the newest idle connection, a place in the line, or none
// of them: the right to open a connection.
func (p *pool) enter() (*conn, *waiter, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c := p.seat(); c != nil {
		return c, nil, nil
	}
	if n := len(p.idle); n > 0 {
		c := p.idle[n-1]
		p.idle[n-1] = nil
		p.idle = p.idle[:n-1]
		return c, nil, nil
	}
	// Where HTTP/2 is to be expected, one dial is for all who ask meanwhile.
	if p.open < p.engine.config.MaxConns && (!p.key.two || p.speaks == speaksOne) {
		p.open++
		return nil, nil, nil
	}
	if len(p.waiters) >= p.engine.config.MaxQueue {
		return nil, nil, failure("origin.queue", fault.Limit, errQueueFull)
	}
	w := &waiter{got: make(chan turn, 1)}
	p.waiters = append(p.waiters, w)
	return nil, w, nil
}

// wait stands in line until a turn comes, the time is up or ctx ends.
func (p *pool) wait(ctx context.Context, w *waiter) (*conn, error) {
	timer := time.NewTimer(p.engine.config.QueueTime)
	defer timer.Stop()
	look := time.NewTicker(max(p.engine.config.HoldTime/2, time.Millisecond))
	defer look.Stop()
	p.giveUp(time.Now())
	var err error
	for err == nil {
		select {
		case t := <-w.got:
			return t.c, t.err
		case now := <-look.C:
			p.giveUp(now)
		case <-timer.C:
			if p.cold() {
				timer.Reset(p.engine.config.QueueTime) // the dial has time-outs of its own
				continue
			}
			err = failure("origin.queue", fault.Limit, errQueueTime)
		case <-ctx.Done():
			err = &fault.Error{Op: "origin.queue", Side: fault.Visitor, Kind: fault.Closed, Err: ctx.Err()}
		}
	}
	p.mu.Lock()
	i := slices.Index(p.waiters, w)
	if i >= 0 {
		p.waiters = slices.Delete(p.waiters, i, i+1)
	}
	p.mu.Unlock()
	if i >= 0 {
		return nil, err
	}
	t := <-w.got // the turn came meanwhile; it is already there
	return t.c, t.err
}

// dial opens a connection; the caller has the right to. It gives the right
// back when it fails.
func (p *pool) dial(ctx context.Context) (*conn, error) {
	c, s, err := p.connect(ctx)
	if err != nil {
		p.free()
		return nil, err
	}
	if s == nil {
		return c, nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.speaks = speaksTwo
	p.sessions = append(p.sessions, s)
	c = s.sit()
	p.pass()
	return c, nil
}

// connect opens a connection of the one kind or the other.
func (p *pool) connect(ctx context.Context) (*conn, *session, error) {
	e := p.engine
	nc, err := e.config.Dial(ctx, p.key.host, p.key.port)
	if err != nil {
		return nil, nil, dialFailure(ctx, err)
	}
	raw, agreed := nc, ""
	if p.tls == nil && p.key.two {
		agreed = "h2" // by prior knowledge: there is nobody to ask
	}
	if p.tls != nil {
		if nc, agreed, err = e.handshake(ctx, nc, p.tls); err != nil {
			return nil, nil, err
		}
	}
	e.metrics.connects.Inc()
	if agreed == "h2" {
		return nil, p.newSession(nc, addrOf(raw)), nil
	}
	c := &conn{pool: p, nc: raw, addr: addrOf(raw)}
	c.finished, c.early = c.finish, c.tell
	c.client = e.config.NewClient(nc, c.interim)
	return c, nil, nil
}

// release takes a connection back: to the first in line, to the idle ones, or
// to be closed. A seat is taken back by its session.
func (p *pool) release(c *conn, usable bool) {
	if c.session != nil {
		p.leave(c)
		return
	}
	c.reused = false
	if usable {
		p.mu.Lock()
		switch {
		case p.shutting:
		case len(p.waiters) > 0:
			p.next(turn{c: c})
			p.mu.Unlock()
			return
		case len(p.idle) < p.engine.config.MaxIdle:
			c.since = time.Now()
			p.idle = append(p.idle, c)
			p.mu.Unlock()
			return
		}
		p.mu.Unlock()
	}
	c.close()
	p.free()
}

// free gives back the right to one connection.
func (p *pool) free() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.waiters) > 0 {
		p.next(turn{})
		return
	}
	p.open--
}

// next hands the turn to the first in line; the caller holds mu.
func (p *pool) next(t turn) {
	w := p.waiters[0]
	p.waiters[0] = nil
	p.waiters = p.waiters[1:]
	w.got <- t // has room for the one turn a waiter gets
}

// drop closes the connections that were idle before a moment and reports
// whether the pool is out of use.
func (p *pool) drop(before time.Time) (unused bool) {
	p.mu.Lock()
	n := 0
	for n < len(p.idle) && !p.idle[n].since.After(before) {
		n++
	}
	old := slices.Clone(p.idle[:n])
	p.idle = slices.Delete(p.idle, 0, n)
	over := p.retire(before)
	unused = p.open == 0 && len(p.waiters) == 0
	p.mu.Unlock()
	for _, c := range old {
		c.close()
		p.free()
	}
	p.end(over)
	return unused
}

// shut closes what is idle and keeps nothing that comes back.
func (p *pool) shut() {
	p.mu.Lock()
	p.shutting = true
	p.mu.Unlock()
	p.drop(time.Now())
}

// sweep closes what has been idle too long and forgets unused pools, until
// Close.
func (e *Engine) sweep() {
	tick := time.NewTicker(max(e.config.IdleTime/4, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-e.stop:
			return
		case now := <-tick.C:
			e.sweepOnce(now)
		}
	}
}

func (e *Engine) sweepOnce(now time.Time) {
	for _, p := range e.list() {
		if !p.drop(now.Add(-e.config.IdleTime)) || p.avoided(now) {
			continue
		}
		e.mu.Lock()
		p.mu.Lock()
		if p.open == 0 && len(p.waiters) == 0 {
			p.shutting = true // for a request that has just found it
			delete(e.pools, p.key)
		}
		p.mu.Unlock()
		e.mu.Unlock()
	}
}

func (e *Engine) list() []*pool {
	e.mu.RLock()
	defer e.mu.RUnlock()
	list := make([]*pool, 0, len(e.pools))
	for _, p := range e.pools {
		list = append(list, p)
	}
	return list
}

// finish gives c back when the answer has been read or given up.
func (c *conn) finish() {
	if c.release != nil {
		c.release()
		c.release = nil
	}
	if c.pool.streamed(c) {
		if c.session == nil {
			c.close() // its place is somebody else's already
		}
		return
	}
	c.pool.release(c, c.client.Reusable() && !c.unusual())
}

// unusual reports a request of which many servers do not expect the body:
// one that leaves it unread would take it for the next request, and answer a
// stranger with it (RFC 9110 §9.3.1).
func (c *conn) unusual() bool { return c.req.Length != 0 && c.req.Method.Safe() }

// interim passes a 1xx answer on; a visitor who cannot take it misses nothing.
// 100 stays here: what a visitor expects is answered by our own protocol, and
// the origin was not asked.
func (c *conn) interim(status int, fields *msg.Fields) {
	if c.visitor == nil || status == 100 {
		return
	}
	cleanAnswer(fields, false, false)
	_ = c.visitor(status, fields)
}

// tell is interim as a request has it.
func (c *conn) tell(status int, fields *msg.Fields) error {
	c.interim(status, fields)
	return nil
}

// cut ends an answer that is being read by somebody else.
func (c *conn) cut() {
	if c.cutter != nil {
		c.cutter.Cut()
		return
	}
	_ = c.nc.Close() // what it says is for nobody
}

func (c *conn) close() {
	// The raw connection goes first: nobody waits for a TLS goodbye.
	_ = c.nc.Close()
	_ = c.client.Close()
}

func addrOf(nc net.Conn) netip.AddrPort {
	if a, ok := nc.RemoteAddr().(*net.TCPAddr); ok {
		at := a.AddrPort()
		return netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
	}
	return netip.AddrPort{}
}
