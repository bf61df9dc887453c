package feed

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"
)

// ServerConfig is what a Server is made of. Zero numbers mean the default in
// brackets.
type ServerConfig struct {
	Log      Log
	Identity *Identity
	// Copy is where a relay reads values that partial replicas ask for; nil
	// refuses them.
	Copy *Copy
	// Known judges a node before it may subscribe or renew: nil admits it; a
	// Refusal is told to it. Nil admits every certificate of our CA.
	Known func(ctx context.Context, nodeID string) error
	// Enroll issues certificates; nil refuses to.
	Enroll func(ctx context.Context, req JoinRequest) (JoinReply, error)
	// OnAck hears that a node reached seq, or could not use the entry seq
	// although it stored it (rejected says why). Calls for one connection come
	// in order; it must not block for long.
	OnAck func(node NodeInfo, seq uint64, rejected string)
	// OnAnnounce hears what a node says of itself, checked, once after each time
	// it connects; like OnAck it must not block for long.
	OnAnnounce func(node NodeInfo, a Announcement)
	// Connected and Disconnected hear of subscribers.
	Connected, Disconnected func(node NodeInfo)
	// Readers take in signals, one for each class that somebody reads here.
	Readers map[Class]Reader
	// Pass is where a relay hands signals on; nil at the root.
	Pass *Up
	// OnFrame hears the frames up of kind KindCertificateWanted; nil refuses
	// them. The payload is valid until it returns, which must be soon; its error
	// ends the connection.
	OnFrame func(kind byte, from NodeInfo, payload []byte) error
	// Upstream is where a relay stands with its own parent; nil for the root,
	// whose log is the truth.
	Upstream func() Upstream
	Logger   *slog.Logger
	// Now is the clock that a root's heartbeats carry as it was when the server
	// was made: they do not go back when it is set. Nil means time.Now.
	Now func() time.Time

	Gather        time.Duration // least time between two batches [20 ms]; the first after a pause goes at once
	Heartbeat     time.Duration // [1 s]
	WriteTimeout  time.Duration // without any progress [10 s]
	BatchBytes    int           // of entries in one frame, about [1 MiB]
	RingBytes     int           // of recent batches that all subscribers share [16 MiB]
	MaxConns      int           // [4096]; more are closed at once
	MaxSnapshots  int           // running at a time [8]; more wait
	MaxHandshakes int           // running at a time [32]; more wait
}

// NodeInfo is a connected subscriber, of this server or of a relay below it.
type NodeInfo struct {
	Node  string    `json:"node"`
	Colo  string    `json:"colo"`
	Addr  string    `json:"addr"`          // "" of one below a relay
	Via   string    `json:"via,omitempty"` // the relay that it is connected to; "" here
	Since time.Time `json:"since"`
	// Acked is the highest number that the node has applied; the cursor that
	// it came with at first.
	Acked uint64 `json:"acked"`
}

// Server publishes a Log to subscribers and enrols nodes, both on one listener.
type Server struct {
	cfg       ServerConfig
	log       *slog.Logger
	tail      *tail
	packer    *packer
	snapshots chan struct{} // one token for each snapshot that may run
	shakes    chan struct{} // one token for each handshake that may run
	fetches   chan struct{} // one token for each answer of values
	below     below
	counters  serverCounters
	began     time.Time // by cfg.Now
	since     time.Time // the same moment
	signals   signalCounters

	mu       sync.Mutex
	sessions map[string]*session // by node; guarded by mu
	fetchers map[string]int      // connections that ask for values, by node; guarded by mu
}

// NewServer makes a Server; Serve runs it.
func NewServer(cfg ServerConfig) *Server {
	cfg.Gather = cmp.Or(cfg.Gather, 20*time.Millisecond)
	cfg.Heartbeat = cmp.Or(cfg.Heartbeat, time.Second)
	cfg.WriteTimeout = cmp.Or(cfg.WriteTimeout, 10*time.Second)
	cfg.BatchBytes = cmp.Or(cfg.BatchBytes, 1<<20)
	cfg.RingBytes = cmp.Or(cfg.RingBytes, 16<<20)
	cfg.MaxConns = cmp.Or(cfg.MaxConns, 4096)
	cfg.MaxSnapshots = cmp.Or(cfg.MaxSnapshots, 8)
	cfg.MaxHandshakes = cmp.Or(cfg.MaxHandshakes, 32)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	cfg.Logger = cmp.Or(cfg.Logger, slog.New(slog.DiscardHandler))
	s := &Server{
		cfg:       cfg,
		log:       cfg.Logger,
		packer:    newPacker(),
		snapshots: make(chan struct{}, cfg.MaxSnapshots),
		shakes:    make(chan struct{}, cfg.MaxHandshakes),
		fetches:   make(chan struct{}, maxFetches),
		sessions:  make(map[string]*session),
		began:     cfg.Now(), since: time.Now(),
		fetchers: make(map[string]int),
	}
	s.below.nodes = make(map[string]*belowNode)
	s.tail = newTail(cfg, s.packer, &s.counters)
	return s
}

// Serve accepts connections until ctx ends, then tells the subscribers, closes
// ln and returns when nothing runs any more: nil, or why accepting failed.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var work sync.WaitGroup
	defer work.Wait()
	work.Go(func() { s.tail.run(ctx) })
	stop := context.AfterFunc(ctx, func() { _ = ln.Close() })
	defer stop()
	slots := make(chan struct{}, s.cfg.MaxConns)
	pause := 5 * time.Millisecond
	for {
		raw, err := ln.Accept()
		if ctx.Err() != nil {
			if err == nil {
				_ = raw.Close()
			}
			return nil
		}
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				cancel(err)
				return fmt.Errorf("feed: accept: %w", err)
			}
			s.log.Warn("feed accept failed", "error", err)
			wait(ctx, pause)
			pause = min(pause*2, time.Second)
			continue
		}
		pause = 5 * time.Millisecond
		select {
		case slots <- struct{}{}:
		default:
			s.counters.refused.Add(1)
			_ = raw.Close()
			continue
		}
		work.Go(func() {
			defer func() { <-slots }()
			s.handle(ctx, raw)
		})
	}
}

// Peers lists the connected subscribers by node, with those that relays below
// report.
func (s *Server) Peers() []NodeInfo {
	list := s.below.list()
	s.mu.Lock()
	defer s.mu.Unlock()
	list = slices.DeleteFunc(list, func(n NodeInfo) bool { return s.sessions[n.Node] != nil })
	for _, x := range s.sessions {
		list = append(list, x.snapshotInfo())
	}
	slices.SortFunc(list, func(a, b NodeInfo) int { return cmp.Compare(a.Node, b.Node) })
	return list
}

// Drop ends a node's connection, telling it why; Known decides whether it may
// come back.
func (s *Server) Drop(nodeID string, reason Reason) {
	s.mu.Lock()
	x := s.sessions[nodeID]
	s.mu.Unlock()
	if x != nil {
		x.cancel(&Refusal{Reason: reason})
	}
}

// dropAll sends all subscribers away, without speaking of themselves.
func (s *Server) dropAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, x := range s.sessions {
		x.cancel(&Refusal{Reason: ReasonDraining})
	}
}

const handshakeTimeout = 10 * time.Second

func (s *Server) handle(ctx context.Context, raw net.Conn) {
	defer func() { _ = raw.Close() }()
	conn, err := s.handshake(ctx, raw)
	if err != nil {
		s.counters.refused.Add(1)
		s.log.Info("feed handshake failed", "addr", addrOf(raw), "error", err)
		return
	}
	switch conn.ConnectionState().NegotiatedProtocol {
	case ALPNFeed:
		err = s.subscribe(ctx, conn)
	case alpnFeed1:
		err = s.turnAway(conn)
	case ALPNJoin:
		err = s.enroll(ctx, conn)
	case ALPNFetch:
		err = s.serveFetches(ctx, conn)
	default:
		err = fmt.Errorf("no protocol was agreed")
	}
	if err != nil && ctx.Err() == nil && !errors.Is(err, io.EOF) {
		s.log.Info("feed connection ended", "addr", addrOf(raw), "error", err)
	}
}

// handshake waits its turn, so that a fleet that comes at once is served in an
// order that this machine keeps up with.
func (s *Server) handshake(ctx context.Context, raw net.Conn) (*tls.Conn, error) {
	select {
	case s.shakes <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	defer func() { <-s.shakes }()
	conn := tls.Server(raw, s.tlsConfig())
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	return conn, conn.HandshakeContext(ctx)
}

// turnAway tells a node of protocol version 1 why it is not served.
func (s *Server) turnAway(conn *tls.Conn) error {
	s.counters.refused.Add(1)
	if err := conn.SetDeadline(time.Now().Add(helloTimeout)); err != nil {
		return err
	}
	if _, _, err := readFrame(conn, nil, maxHelloFrame); err != nil {
		return err
	}
	return tell(conn, Refuse(ReasonVersion, "version 1, here is %d", protoVersion))
}

func addrOf(c net.Conn) string {
	if a := c.RemoteAddr(); a != nil {
		return a.String()
	}
	return ""
}

// tlsConfig asks subscribers for a certificate, and those who join for none:
// they have only the token. A node that renews shows its own.
func (s *Server) tlsConfig() *tls.Config {
	feed := s.cfg.Identity.ServerTLS(ALPNFeed, alpnFeed1, ALPNFetch)
	join := s.cfg.Identity.ServerTLS(ALPNJoin)
	join.ClientAuth = tls.VerifyClientCertIfGiven
	join.VerifyConnection = nil
	feed.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		if slices.Contains(h.SupportedProtos, ALPNJoin) {
			return join, nil
		}
		return nil, nil
	}
	return feed
}

func (s *Server) known(ctx context.Context, node string) error {
	if s.cfg.Known == nil {
		return nil
	}
	return s.cfg.Known(ctx, node)
}

// register makes x the node's one session; an older one is told and ends.
func (s *Server) register(x *session) {
	s.mu.Lock()
	old := s.sessions[x.peer.Node]
	s.sessions[x.peer.Node] = x
	s.mu.Unlock()
	if old != nil {
		old.cancel(&Refusal{Reason: ReasonReplaced})
	}
	s.below.direct(x.snapshotInfo(), s.cfg.Upstream != nil)
	if s.cfg.Connected != nil {
		s.cfg.Connected(x.snapshotInfo())
	}
}

func (s *Server) unregister(x *session) {
	s.mu.Lock()
	last := s.sessions[x.peer.Node] == x
	if last {
		delete(s.sessions, x.peer.Node)
	}
	s.mu.Unlock()
	if last {
		s.below.left(x.peer.Node)
		for _, n := range s.below.cut(x.peer.Node, s.cfg.Upstream != nil) {
			s.hook(s.cfg.Disconnected, n)
		}
	}
	if s.cfg.Disconnected != nil {
		s.cfg.Disconnected(x.snapshotInfo())
	}
}

// wait sleeps for d or until ctx ends.
func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
