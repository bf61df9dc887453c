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
	Logger                  *slog.Logger

	Gather       time.Duration // least time between two batches [20 ms]; the first after a pause goes at once
	Heartbeat    time.Duration // [1 s]
	WriteTimeout time.Duration // without any progress [10 s]
	BatchBytes   int           // of entries in one frame, about [1 MiB]
	RingBytes    int           // of recent batches that all subscribers share [16 MiB]
	MaxConns     int           // [4096]; more are closed at once
	MaxSnapshots int           // running at a time [8]; more wait
}

// NodeInfo is a connected subscriber.
type NodeInfo struct {
	Node  string    `json:"node"`
	Colo  string    `json:"colo"`
	Addr  string    `json:"addr"`
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
	snapshots chan struct{} // one token for each snapshot that may run
	counters  serverCounters

	mu       sync.Mutex
	sessions map[string]*session // by node; guarded by mu
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
	cfg.Logger = cmp.Or(cfg.Logger, slog.New(slog.DiscardHandler))
	s := &Server{
		cfg:       cfg,
		log:       cfg.Logger,
		snapshots: make(chan struct{}, cfg.MaxSnapshots),
		sessions:  make(map[string]*session),
	}
	s.tail = newTail(cfg, &s.counters)
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

// Peers lists the connected subscribers by node.
func (s *Server) Peers() []NodeInfo {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]NodeInfo, 0, len(s.sessions))
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

const handshakeTimeout = 10 * time.Second

func (s *Server) handle(ctx context.Context, raw net.Conn) {
	defer func() { _ = raw.Close() }()
	conn := tls.Server(raw, s.tlsConfig())
	handshake, cancel := context.WithTimeout(ctx, handshakeTimeout)
	err := conn.HandshakeContext(handshake)
	cancel()
	if err != nil {
		s.counters.refused.Add(1)
		s.log.Info("feed handshake failed", "addr", addrOf(raw), "error", err)
		return
	}
	switch conn.ConnectionState().NegotiatedProtocol {
	case ALPNFeed:
		err = s.subscribe(ctx, conn)
	case ALPNJoin:
		err = s.enroll(ctx, conn)
	default:
		err = fmt.Errorf("no protocol was agreed")
	}
	if err != nil && ctx.Err() == nil && !errors.Is(err, io.EOF) {
		s.log.Info("feed connection ended", "addr", addrOf(raw), "error", err)
	}
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
	feed := s.cfg.Identity.ServerTLS(ALPNFeed)
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
	if s.cfg.Connected != nil {
		s.cfg.Connected(x.snapshotInfo())
	}
}

func (s *Server) unregister(x *session) {
	s.mu.Lock()
	if s.sessions[x.peer.Node] == x {
		delete(s.sessions, x.peer.Node)
	}
	s.mu.Unlock()
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
