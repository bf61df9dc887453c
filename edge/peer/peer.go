// Package peer is the authenticated way from edge to edge: HTTP/2 over
// mutual TLS 1.3 on a listener of its own, each request with an envelope that
// says on whose behalf it comes. It promises that nothing reaches its Serve
// function which a node that is known at this moment has not sent on this very
// connection: there is neither resumption nor early data, so nothing is
// repeated, and a node that is revoked is refused from its next request on.
// Whoever calls a node is told if another answers at its address. What visitors
// send to public listeners never gets here.
package peer

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/selvage-edge/selvage/internal/accept"
	"github.com/selvage-edge/selvage/wire/h2"
	"github.com/selvage-edge/selvage/wire/msg"
)

// ALPN is the protocol's name in the TLS handshake.
const ALPN = "selvage-peer/2"

// ProbePath answers 204 to GET and HEAD without an envelope: the way is open
// and both ends are who they should be.
const ProbePath = "/.selvage/probe"

// reportPath takes what nodes tell each other: see ServerConfig.Hear.
const reportPath = "/.selvage/report"

// maxHead bounds the heads of requests and answers between edges, in bytes.
const maxHead = 64 << 10

// MaxReport is how many bytes a report and its answer may have.
const MaxReport = 64 << 10

// ServerConfig is what a Server is told once. Zero fields have the default
// that their comment names.
type ServerConfig struct {
	// TLS holds the node's certificate and the CA that peers must be of.
	// Needed, with ClientCAs.
	TLS *tls.Config
	// Identify reads a node's id from its certificate. Needed.
	Identify func(tls.ConnectionState) (string, error)
	// Known says whether a node is one still; it is asked for each request.
	// Needed.
	Known func(node string) bool
	// Serve answers a request of a peer. Needed. It follows the rules of
	// msg.Session.Serve; ctx ends when the peer goes away.
	Serve func(ctx context.Context, env Envelope, req *msg.Request, res *msg.Response)
	// Hear answers a report of a peer; nil = none is taken.
	Hear func(node string, report []byte) ([]byte, error)
	// Ctx is the parent of requests' contexts. Needed.
	Ctx context.Context

	MaxConns      int           // connections at a time; default 1024, more are closed at once
	HandshakeTime time.Duration // default 10 s
	Limits        h2.Limits     // default wire/h2's, but for what nodes may send more of than visitors
}

// Server answers peers. Safe for concurrent use.
type Server struct {
	config   ServerConfig
	tls      *tls.Config
	h2       *h2.Server
	slots    chan struct{}
	served   prometheus.Counter
	refused  *prometheus.CounterVec
	mu       sync.Mutex
	shaking  map[net.Conn]struct{} // in their handshake; guarded by mu
	draining bool                  // guarded by mu
	work     sync.WaitGroup
}

// NewServer refuses a configuration that would let in others than peers.
func NewServer(c ServerConfig) (*Server, error) {
	if c.TLS == nil || c.TLS.ClientCAs == nil || c.TLS.GetConfigForClient != nil {
		return nil, errors.New("peer: a TLS configuration with the peers' CA is needed")
	}
	if c.Serve == nil || c.Identify == nil || c.Known == nil || c.Ctx == nil {
		return nil, errors.New("peer: functions Serve, Identify and Known and a context are needed")
	}
	c.Limits = trusting(c.Limits)
	if c.MaxConns <= 0 {
		c.MaxConns = 1024
	}
	if c.HandshakeTime <= 0 {
		c.HandshakeTime = 10 * time.Second
	}
	t := c.TLS.Clone()
	t.MinVersion = tls.VersionTLS13
	t.ClientAuth = tls.RequireAndVerifyClientCert
	t.NextProtos = []string{ALPN}
	t.SessionTicketsDisabled = true
	s := &Server{
		config: c, tls: t, slots: make(chan struct{}, c.MaxConns), shaking: make(map[net.Conn]struct{}),
		served:  prometheus.NewCounter(prometheus.CounterOpts{Name: "selvage_peer_requests_total", Help: "Requests of other edges that were answered."}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "selvage_peer_refused_total", Help: "Connections and requests of other edges that were refused, by reason."}, []string{"reason"}),
	}
	s.h2 = h2.NewServer(s, c.Limits)
	return s, nil
}

// trusting raises limits that are meant for visitors: a node passes on what
// many of them ask for, with an envelope, and gives up what they give up.
func trusting(l h2.Limits) h2.Limits {
	l.Head = cmp.Or(l.Head, maxHead)
	l.Fields = cmp.Or(l.Fields, maxFields)
	l.Resets = cmp.Or(l.Resets, manyFrames)
	l.Updates = cmp.Or(l.Updates, manyFrames)
	l.Windowing = cmp.Or(l.Windowing, manyFrames)
	return l
}

const (
	maxFields  = 256     // lines of a head
	manyFrames = 1 << 20 // in half a minute
)

// Serve accepts connections until l is closed, which is no error.
func (s *Server) Serve(l net.Listener) error {
	for {
		nc, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if accept.Passes(err) {
			<-time.After(accept.Pause)
			continue
		}
		if err != nil {
			return err
		}
		select {
		case s.slots <- struct{}{}:
		default:
			s.refused.WithLabelValues("too many connections").Inc()
			_ = nc.Close()
			continue
		}
		if !s.enter(nc) {
			<-s.slots
			_ = nc.Close()
			continue
		}
		go func() { // Drain waits for it: enter has counted it
			defer s.work.Done()
			defer func() { <-s.slots }()
			s.serveConn(nc)
		}()
	}
}

// Drain lets answers in flight finish and ends the rest; at ctx's end it cuts
// what is left. The listener is the caller's to close, before.
func (s *Server) Drain(ctx context.Context) error {
	s.mu.Lock()
	s.draining = true
	for nc := range s.shaking {
		_ = nc.Close()
	}
	s.mu.Unlock()
	err := s.h2.Drain(ctx)
	s.work.Wait()
	return err
}

// enter notes a connection whose goroutine is about to start; false when no
// more are served.
func (s *Server) enter(nc net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining {
		return false
	}
	s.shaking[nc] = struct{}{}
	s.work.Add(1)
	return true
}

func (s *Server) serveConn(nc net.Conn) {
	tc := tls.Server(nc, s.tls)
	err := s.handshake(tc)
	s.mu.Lock()
	delete(s.shaking, nc)
	s.mu.Unlock()
	if err != nil {
		s.refused.WithLabelValues("handshake").Inc()
		_ = nc.Close()
		return
	}
	state := tc.ConnectionState()
	s.h2.ServeConn(tc, &msg.Conn{Remote: addrPort(nc.RemoteAddr()), Local: addrPort(nc.LocalAddr()), TLS: &state})
}

func (s *Server) handshake(tc *tls.Conn) error {
	if err := tc.SetDeadline(time.Now().Add(s.config.HandshakeTime)); err != nil {
		return err
	}
	if err := tc.Handshake(); err != nil {
		return err
	}
	if tc.ConnectionState().NegotiatedProtocol != ALPN {
		return errors.New("peer: another protocol was asked for")
	}
	return tc.SetDeadline(time.Time{})
}

// Open implements msg.Handler.
func (s *Server) Open(c *msg.Conn) msg.Session {
	p := &session{server: s}
	p.ctx, p.cancel = context.WithCancel(s.config.Ctx)
	if c.TLS != nil {
		if id, err := s.config.Identify(*c.TLS); err == nil {
			p.node = id
		}
	}
	return p
}

// session answers one peer's connection.
type session struct {
	server *Server
	node   string          // id of the peer; "" = none
	ctx    context.Context // of what the peer asks for
	cancel context.CancelFunc
}

// Left implements msg.Leaver.
func (p *session) Left() { p.cancel() }

// Serve implements msg.Session.
func (p *session) Serve(req *msg.Request, res *msg.Response) {
	if p.node == "" || !p.server.config.Known(p.node) {
		p.refuse(res, errNoPeer)
		return
	}
	env, err := open(req)
	switch {
	case err == nil:
		p.server.served.Inc()
		req.Scheme = env.Scheme
		p.server.config.Serve(p.ctx, env, req, res)
	case errors.Is(err, errNoEnvelope) && probe(req):
		res.Status = 204
	case errors.Is(err, errNoEnvelope) && p.server.config.Hear != nil && req.Method == msg.POST && string(req.Path) == reportPath:
		p.hear(req, res)
	default:
		p.refuse(res, err)
	}
}

// hear answers a report.
func (p *session) hear(req *msg.Request, res *msg.Response) {
	if req.Length <= 0 || req.Length > MaxReport {
		p.refuse(res, errReport)
		return
	}
	text := make([]byte, req.Length)
	_, err := io.ReadFull(req.Body, text)
	if err == nil {
		res.Bytes, err = p.server.config.Hear(p.node, text)
	}
	if err != nil {
		p.refuse(res, errReport)
		return
	}
	res.Status, res.Length = 200, int64(len(res.Bytes))
}

func probe(req *msg.Request) bool {
	return (req.Method == msg.GET || req.Method == msg.HEAD) && string(req.Path) == ProbePath
}

func (p *session) refuse(res *msg.Response, why error) {
	p.server.refused.WithLabelValues(why.Error()).Inc()
	res.Status = 403
	res.Fields.AddID(msg.ContentType, []byte("text/plain; charset=utf-8"))
	res.Fields.AddID(msg.CacheControl, []byte("no-store"))
	res.Bytes = []byte(why.Error() + "\n")
	res.Length = int64(len(res.Bytes))
	res.EndConn = true
}

// Done implements msg.Session.
func (p *session) Done(*msg.Request, *msg.Response, int64, error) {}

// Refused implements msg.Session.
func (p *session) Refused(int, error) { p.server.refused.WithLabelValues("malformed request").Inc() }

// Close implements msg.Session.
func (p *session) Close() { p.cancel() }

// Describe implements prometheus.Collector.
func (s *Server) Describe(ch chan<- *prometheus.Desc) {
	s.served.Describe(ch)
	s.refused.Describe(ch)
}

// Collect implements prometheus.Collector.
func (s *Server) Collect(ch chan<- prometheus.Metric) {
	s.served.Collect(ch)
	s.refused.Collect(ch)
}

func addrPort(a net.Addr) netip.AddrPort {
	if t, ok := a.(*net.TCPAddr); ok {
		return t.AddrPort()
	}
	return netip.AddrPort{}
}
