package origin

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/selvage-edge/selvage/fault"
	"github.com/selvage-edge/selvage/wire/h2/client"
)

// An origin that speaks HTTP/2 gets few connections, MaxSessions at most, and
// on each as many requests at a time as it allows, MaxStreams at most. Such a
// request has a seat: a conn that shares its connection. The connection with
// the lowest number of free seats is filled first, so that what a burst needed
// ages and is closed. Whoever asks while none is open waits for one dial.

// session is an HTTP/2 connection.
type session struct {
	pool   *pool
	client *client.Conn
	addr   netip.AddrPort

	busy  int       // seats taken; guarded by the pool's mu
	used  bool      // a seat was given before; guarded by the pool's mu
	since time.Time // when busy last became 0; guarded by the pool's mu
	out   bool      // not among the pool's sessions any more; guarded by the pool's mu
	spare []*conn   // seats to be used again; guarded by the pool's mu
}

func (p *pool) newSession(nc net.Conn, addr netip.AddrPort) *session {
	e := p.engine
	limits := client.Limits{Streams: e.config.MaxStreams, Memory: e.memory}
	return &session{pool: p, client: client.New(nc, limits), addr: addr, since: time.Now()}
}

// seatClient is a session as one request sees it.
type seatClient struct{ *client.Conn }

// Reusable and Alive are the session's to tell.
func (seatClient) Reusable() bool { return false }
func (seatClient) Alive() bool    { return false }

// sit gives a seat; the caller holds the pool's mu and knows that one is free.
func (s *session) sit() *conn {
	s.busy++
	var c *conn
	if n := len(s.spare); n > 0 {
		c = s.spare[n-1]
		s.spare = s.spare[:n-1]
	} else {
		c = &conn{pool: s.pool, session: s, client: seatClient{s.client}, addr: s.addr}
		c.finished, c.early = c.finish, c.tell
	}
	c.reused = s.used
	s.used = true
	return c
}

// seat finds a free seat, nil when there is none; the caller holds mu.
func (p *pool) seat() *conn {
	var best *session
	least := 0
	for _, s := range p.sessions {
		if free := s.client.Capacity() - s.busy; free > 0 && (best == nil || free < least) {
			best, least = s, free
		}
	}
	if best == nil {
		return nil
	}
	return best.sit()
}

// pass gives free seats to those in line; the caller holds mu.
func (p *pool) pass() {
	for len(p.waiters) > 0 {
		c := p.seat()
		if c == nil {
			return
		}
		p.next(turn{c: c})
	}
}

// leave takes a seat back.
func (p *pool) leave(c *conn) {
	c.req.Reset()
	c.body, c.cutter = sender{}, nil
	p.mu.Lock()
	if s := c.session; len(s.spare) < p.engine.config.MaxStreams {
		s.spare = append(s.spare, c)
	}
	p.mu.Unlock()
	p.stand(c.session)
}

// stand frees a seat of s for the next in line.
func (p *pool) stand(s *session) {
	now := time.Now()
	p.mu.Lock()
	s.busy--
	var over []*session
	if s.busy == 0 {
		s.since = now
		if s.out {
			over = append(over, s)
		}
	}
	over = append(over, p.retire(time.Time{})...)
	p.pass()
	more := p.wants()
	p.mu.Unlock()
	p.end(over)
	if more {
		p.grow()
	}
}

// retire takes out the sessions that take no more requests, and of those that
// have none, the ones that were idle before a moment, or all where nothing is
// kept. It returns those without a request, which are the caller's to end; the
// others end with their last. The caller holds mu.
func (p *pool) retire(before time.Time) (over []*session) {
	p.sessions = slices.DeleteFunc(p.sessions, func(s *session) bool {
		surplus := s.busy == 0 && (p.shutting || !s.since.After(before))
		if s.client.Capacity() > 0 && !surplus {
			return false
		}
		s.out = true
		if s.busy == 0 {
			over = append(over, s)
		}
		return true
	})
	return over
}

// end closes sessions that are out and have no request.
func (p *pool) end(over []*session) {
	for _, s := range over {
		_ = s.client.Close() // never fails
		p.free()
	}
}

// cold reports that everybody in line waits for the first connection.
func (p *pool) cold() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dialing > 0 && len(p.sessions) == 0
}

// wants reports whether those in line are to get another connection; the caller
// holds mu.
func (p *pool) wants() bool {
	c := &p.engine.config
	return len(p.waiters) > 0 && p.key.two && p.speaks != speaksOne && p.dialing == 0 &&
		len(p.sessions) < c.MaxSessions && p.open < c.MaxConns
}

// grow opens a connection for those in line, where one is to be had. It is
// nobody's own: whoever leaves meanwhile does not take it along.
func (p *pool) grow() {
	p.mu.Lock()
	if !p.wants() {
		p.mu.Unlock()
		return
	}
	p.dialing++
	p.open++
	p.mu.Unlock()
	e := p.engine
	started := e.begin(func() {
		c, s, err := p.connect(life{e.stop})
		p.dialed(c, s, err)
	})
	if !started {
		p.dialed(nil, nil, &fault.Error{Op: "origin.dial", Side: fault.Edge, Kind: fault.Draining, Err: errClosed})
	}
}

// dialed gives what came of grow to those in line.
func (p *pool) dialed(c *conn, s *session, err error) {
	p.mu.Lock()
	p.dialing--
	switch {
	case s != nil:
		p.speaks = speaksTwo
		p.sessions = append(p.sessions, s)
		p.pass()
	case c != nil:
		p.speaks = speaksOne
		c = p.distribute(c)
	default:
		p.open--
		for len(p.sessions) == 0 && len(p.waiters) > 0 {
			p.next(turn{err: err})
		}
	}
	over := p.retire(time.Time{})
	more := err == nil && p.wants()
	p.mu.Unlock()
	if c != nil {
		c.close() // nobody is there any more
		p.free()
	}
	p.end(over)
	if more {
		p.grow()
	}
}

// distribute gives an HTTP/1.1 connection to the first in line and the right to
// open one to the others. It returns the connection where nobody is there; the
// caller holds mu.
func (p *pool) distribute(c *conn) *conn {
	if len(p.waiters) == 0 {
		return c
	}
	c.fresh = true
	p.next(turn{c: c})
	for len(p.waiters) > 0 && p.open < p.engine.config.MaxConns {
		p.open++
		p.next(turn{})
	}
	return nil
}

// life is the engine's as a context, for what is done for nobody in particular.
type life struct{ stop <-chan struct{} }

func (l life) Deadline() (time.Time, bool) { return time.Time{}, false }
func (l life) Done() <-chan struct{}       { return l.stop }
func (l life) Value(any) any               { return nil }

func (l life) Err() error {
	select {
	case <-l.stop:
		return context.Canceled
	default:
		return nil
	}
}

// begin runs fn, which Close waits for; false after Close.
func (e *Engine) begin(fn func()) bool {
	e.mu.RLock()
	defer e.mu.RUnlock()
	if e.closed {
		return false
	}
	e.work.Go(fn)
	return true
}

// settingsTime is how long a WebSocket waits for an origin that has just been
// connected to, and has not said what it takes.
const settingsTime = time.Second

// connects reports whether an open connection of this pool is known to take
// WebSocket over HTTP/2 (RFC 8441).
func (e *Engine) connects(ctx context.Context, k key) bool {
	e.mu.RLock()
	p := e.pools[k]
	e.mu.RUnlock()
	if p == nil {
		return false
	}
	p.mu.Lock()
	var s *session
	if len(p.sessions) > 0 {
		s = p.sessions[0]
	}
	p.mu.Unlock()
	if s == nil {
		return false
	}
	limited, cancel := context.WithTimeout(ctx, settingsTime)
	defer cancel()
	can, err := s.client.Upgrades(limited)
	return can && err == nil
}
