// Package h2 speaks HTTP/2 (RFC 9113) to visitors.
//
// It promises that what is malformed is refused and never repaired, that
// everything a visitor can make us hold or do is bounded and counted, and that
// answers leave in the order of RFC 9218. One goroutine reads a connection;
// requests that need no waiting are answered by it, all of one read in one
// write, without allocating. Others are served by goroutines of their own, as
// many as the visitor may have requests. A visitor that does not read is not
// read from.
package h2

import (
	"context"
	"net"
	"sync"
	"time"

	"github.com/selvage-edge/selvage/internal/clock"
	"github.com/selvage-edge/selvage/internal/conns"
	"github.com/selvage-edge/selvage/wire/msg"
)

// Server answers HTTP/2 on connections that others accept. Safe for concurrent use.
type Server struct {
	h     msg.Handler
	l     Limits
	clock *clock.Clock
	pools pools
	count counters
	conns conns.Set[*conn]
}

// NewServer makes a server that asks h for a session for each request in flight.
func NewServer(h msg.Handler, l Limits) *Server {
	return &Server{h: h, l: l.withDefaults(), clock: clock.New(dateLine), pools: newPools()}
}

// ServeConn answers requests on nc until the connection ends, then closes it.
// A *tls.Conn has had its handshake and agreed on "h2"; on any other the
// visitor begins with HTTP/2 by prior knowledge (RFC 9113 §3.3). It returns
// when nothing uses the connection's sessions any more.
//
// For each request it calls Step of a session that is a msg.Stepper, or Serve,
// writes the answer, calls Response.Close and then Session.Done. A session that
// is a msg.Leaver is told when the visitor has gone, or does not want the answer
// any more, while Serve runs or the answer is sent. An answer of Status 0 with
// EndConn set ends the connection without a byte.
func (s *Server) ServeConn(nc net.Conn, mc *msg.Conn) {
	c := newConn(s, nc, mc)
	s.count.connections.Add(1)
	s.conns.Add(c)
	defer s.conns.Remove(c)
	c.serve()
}

// drainGrace is how long a visitor that is told to leave may still send
// requests, unless it says that it has heard.
const drainGrace = time.Second

// Drain tells all visitors to leave (GOAWAY, RFC 9113 §6.8), serves what was
// asked for until then, and ends each connection when nothing is in flight. It
// returns when none is left; at ctx's end it cuts the rest and returns ctx's
// error. Connections that are given to ServeConn later are told at once.
func (s *Server) Drain(ctx context.Context) error {
	s.conns.Drain(func(c *conn) { c.dl.Hold() })
	return s.conns.Wait(ctx, (*conn).cut)
}

// Stats returns what was counted so far.
func (s *Server) Stats() Stats {
	st := Stats{Connections: s.count.connections.Load(), Requests: s.count.requests.Load()}
	for r := range st.Ended {
		st.Ended[r] = s.count.ended[r].Load()
	}
	st.Open = int64(s.conns.Len())
	return st
}

// Sizes of pooled memory in bytes.
const (
	smallRead = 4 << 10  // most reads; a larger frame gets bigRead
	bigRead   = 32 << 10 // holds the largest frame that is accepted
	blockSize = 16 << 10 // of a request's body
	// sendMark is how many bytes wait to be written at most, an answer more
	// or less; over it nothing is read.
	sendMark = 64 << 10
	outKeep  = sendMark + 32<<10 // a larger buffer is not kept
)

type block struct{ b [blockSize]byte }

type pools struct {
	small, big, block, out, stream *sync.Pool
}

func newPools() pools {
	bytes := func(n int) *sync.Pool { return &sync.Pool{New: func() any { b := make([]byte, n); return &b }} }
	return pools{
		small: bytes(smallRead), big: bytes(bigRead), out: bytes(sendMark / 4),
		block:  &sync.Pool{New: func() any { return new(block) }},
		stream: &sync.Pool{New: func() any { return newStream() }},
	}
}
