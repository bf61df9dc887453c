// Package h3 speaks HTTP/3 (RFC 9114) to visitors, with QPACK without a
// dynamic table (RFC 9204), extended CONNECT (RFC 9220), priorities (RFC 9218)
// and requests in early data marked (RFC 8470). quic-go carries the streams.
//
// It promises what wire/h1 does: what is malformed is refused and never
// repaired, everything that is waited for has a time-out, everything that is
// stored a bound. One goroutine of a connection takes its requests, one after
// the other, and answers those that need no waiting itself; only others get a
// goroutine of their own.
package h3

import (
	"context"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/selvage-edge/selvage/internal/clock"
	"github.com/selvage-edge/selvage/internal/conns"
	"github.com/selvage-edge/selvage/wire/msg"
)

// NextProto is the protocol's name in ALPN (RFC 9114 §3.1).
const NextProto = "h3"

// Server answers HTTP/3 on connections that others accept. Safe for
// concurrent use.
type Server struct {
	h        msg.Handler
	l        Limits
	clock    *clock.Clock
	pools    pools
	count    counters
	greeting []byte // what a control stream begins with
	conns    conns.Set[*conn]
}

// NewServer makes a server that asks h for sessions.
func NewServer(h msg.Handler, l Limits) *Server {
	l = l.withDefaults()
	s := &Server{h: h, l: l, clock: clock.New(dateLine)}
	s.conns.Every, s.conns.Look = watchEvery, s.watch
	s.pools.init()
	s.greeting = s.appendGreeting(nil)
	return s
}

// Config returns what the server needs of a QUIC connection; a caller may
// change what is not about streams and windows.
func (s *Server) Config() *quic.Config {
	return &quic.Config{
		MaxIncomingStreams:             int64(s.l.Streams),
		MaxIncomingUniStreams:          8, // three critical ones, and some that are greased
		InitialStreamReceiveWindow:     uint64(min(s.l.Window, 64<<10)),
		MaxStreamReceiveWindow:         uint64(s.l.Window),
		InitialConnectionReceiveWindow: uint64(min(s.l.Windows, 256<<10)),
		MaxConnectionReceiveWindow:     uint64(s.l.Windows),
		MaxIdleTimeout:                 s.l.IdleTimeout,
		KeepAlivePeriod:                s.l.IdleTimeout / 3, // an answer may take long; who asks nothing is ended all the same
		HandshakeIdleTimeout:           5 * time.Second,
	}
}

// ServeConn answers requests on qc until the connection ends. The handshake
// may be under way: requests that come before its end are marked Early.
//
// For each request it calls Session.Step or Session.Serve, writes the answer,
// calls Response.Close and then Session.Done. A session that is a msg.Leaver is
// told when its visitor gives the request up. An answer of Status 0 with
// EndConn set ends the connection without a byte; EndConn beside a status asks
// the visitor to go on with another connection.
func (s *Server) ServeConn(qc *quic.Conn, mc *msg.Conn) {
	c := newConn(s, qc, mc)
	s.count.connections.Add(1)
	s.conns.Add(c)
	defer s.conns.Remove(c)
	c.serve()
}

// Stats returns the counts so far.
func (s *Server) Stats() Stats {
	st := Stats{
		Connections: s.count.connections.Load(), Requests: s.count.requests.Load(),
		Inline: s.count.inline.Load(), Early: s.count.early.Load(),
	}
	for r := range st.Ended {
		st.Ended[r] = s.count.ended[r].Load()
	}
	st.Open = int64(s.conns.Len())
	return st
}

// Drain tells all visitors to go (GOAWAY), finishes the requests in flight and
// ends each connection. It returns when none is left; at ctx's end it cuts the
// rest and returns ctx's error. Connections that are given to ServeConn later
// are drained at once.
func (s *Server) Drain(ctx context.Context) error {
	s.conns.Drain((*conn).retire)
	return s.conns.Wait(ctx, func(c *conn) { c.end(errDrained) })
}

// watchEvery is how often connections are looked at for idleness.
const watchEvery = time.Second

// watch runs once in watchEvery while there are connections.
func (s *Server) watch() {
	now := s.clock.Now()
	s.conns.Each(func(c *conn) { c.look(now) })
}
