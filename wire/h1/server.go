// Package h1 speaks HTTP/1.1 (RFC 9112) to visitors and to origins.
//
// It promises that what is malformed is refused and never repaired: no byte
// of a request whose framing, host or fields are in doubt reaches a handler,
// and no answer with doubtful framing reaches a visitor. Lines end in CRLF
// and nothing else. Everything that is waited for has a time-out, everything
// that is stored a bound. A kept connection serves a request whose answer is
// in memory without allocating.
package h1

import (
	"context"
	"net"
	"sync"
	"time"

	"github.com/selvage-edge/selvage/internal/clock"
	"github.com/selvage-edge/selvage/internal/conns"
	"github.com/selvage-edge/selvage/wire/msg"
)

// Server answers HTTP/1.0 and HTTP/1.1 on connections that others accept.
// Safe for concurrent use.
type Server struct {
	h      msg.Handler
	l      Limits
	bounds bounds
	clock  *clock.Clock
	pools  *pools

	conns conns.Set[*conn]
	ended counters

	mu     sync.Mutex // guards what follows
	park   *park      // of Adopt's connections; nil before the first
	noPark bool       // there can be none

	settle time.Duration // settleTime, but in tests
	late   []*conn       // owned by watch
}

// NewServer makes a server that asks h for a session on each connection.
func NewServer(h msg.Handler, l Limits) *Server {
	l = l.withDefaults()
	s := &Server{
		h: h, l: l,
		bounds: bounds{line: l.Line, head: l.Head, fields: l.Fields},
		clock:  clock.New(dateLine),
		pools:  newPools(l.Head),
		settle: settleTime,
	}
	s.conns.Every, s.conns.Look = watchEvery, s.watch
	return s
}

// ServeConn answers requests on nc, one at a time and in order, until the
// connection ends, then closes it. A *tls.Conn has had its handshake.
//
// For each request it calls Session.Serve, writes the answer, calls
// Response.Close and then Session.Done; only then are the request's bytes
// used for the next one. A session that is a msg.Leaver is told when the visitor
// has gone meanwhile: within two seconds of a reset, twelve of an end. An answer of Status 0 with EndConn set ends the
// connection without a byte.
func (s *Server) ServeConn(nc net.Conn, mc *msg.Conn) {
	c := newConn(s, nc, mc)
	s.conns.Add(c)
	s.run(c)
}

// Adopt is ServeConn for a TCP connection that may outlive the call: one that is
// quiet for a while waits without a goroutine, and those that serve it later are
// the server's. ended is called once, when it is over; Drain waits for that.
func (s *Server) Adopt(nc net.Conn, mc *msg.Conn, ended func()) {
	c := newConn(s, nc, mc)
	c.ended = ended
	c.parks = c.tcp != nil && c.idle != nil
	s.conns.Add(c)
	s.run(c)
}

// run serves a connection until it ends or is parked.
func (s *Server) run(c *conn) {
	if c.serve() == resting && s.rest(c) {
		return
	}
	s.end(c)
}

// rest parks a connection; false when it has to end.
func (s *Server) rest(c *conn) bool {
	s.mu.Lock()
	if s.park == nil && !s.noPark && !s.conns.Draining() {
		var err error
		if s.park, err = newPark(s); err != nil {
			s.park, s.noPark = nil, true
		}
	}
	p := s.park
	s.mu.Unlock()
	return p != nil && p.add(c, s.l.IdleTimeout-s.settle)
}

// end closes a connection that nobody serves.
func (s *Server) end(c *conn) {
	c.close()
	s.conns.Remove(c)
	if c.ended != nil {
		c.ended()
	}
}

// drainGrace is for a connection on which no request has come yet: it was
// accepted a moment ago and its first request may be on the way.
const drainGrace = time.Second

// Drain ends idle connections now; answers in flight are finished, say
// "Connection: close" and end theirs. It returns when none is left; at ctx's
// end it cuts the rest and returns ctx's error. Connections that are given to
// ServeConn later are answered once.
func (s *Server) Drain(ctx context.Context) error {
	s.conns.Drain((*conn).drain)
	s.mu.Lock()
	p := s.park
	s.mu.Unlock()
	if p != nil {
		p.close()
	}
	return s.conns.Wait(ctx, (*conn).cut)
}
