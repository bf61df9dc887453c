package dns

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/selvage-edge/selvage/edge/hot"
)

// Defaults of Config.
const (
	DefaultUDPSize     = 1232 // bytes; what passes everywhere unfragmented (DNS flag day 2020)
	DefaultTCPConns    = 1024
	DefaultIdleTimeout = 10 * time.Second
)

// Config says what a Server may use. Zero values mean the defaults.
type Config struct {
	Logger *slog.Logger
	// UDPSize is the longest answer over UDP in bytes, 512 to 1232.
	UDPSize int
	// TCPConns is how many TCP connections may be open; one more is closed at
	// once.
	TCPConns int
	// IdleTimeout bounds the wait for a whole query on a TCP connection, and
	// the wait for a client to take its answers.
	IdleTimeout time.Duration
	// Generic switches the batched system calls off, where there are any.
	Generic bool
	// Bytes is what plans may have of memory; over it those leave that were not
	// asked for lately.
	Bytes int64
	// Names tells which zones may be found by Load, when their plans are not
	// in memory: it is asked for each, waits and may fail. It returns nil where
	// there is no zone of that name. Nil: what is not in memory is nowhere.
	Names *hot.Names
	Ctx   context.Context // of all Loads
	Load  func(ctx context.Context, zoneName string) (*Plan, error)
}

// Server answers queries from the plans it was given. Its methods may be called
// from any goroutine. It is a prometheus.Collector.
type Server struct {
	log      *slog.Logger
	udpSize  int
	tcpConns int
	idle     time.Duration
	generic  bool
	zones    zones
	load     func(ctx context.Context, zoneName string) (*Plan, error)
	desc     descriptions
	buffers  sync.Pool // of *tcpBuffer

	draining     atomic.Bool
	openConns    atomic.Int64
	refusedConns atomic.Uint64
	unanswered   atomic.Uint64   // a zone could not be had in time
	coldContext  context.Context // of those who wait for a zone; ends when Drain's patience does
	cutCold      context.CancelFunc
	running      sync.WaitGroup // Serve calls and connections

	mu       sync.Mutex
	sockets  map[deadliner]struct{} // guarded by mu: what Drain has to wake
	counters []*counters            // guarded by mu: of all workers there ever were at once
	free     []*counters            // guarded by mu: those not in use
}

// deadliner is a socket or connection that a drain wakes and may cut.
type deadliner interface {
	SetReadDeadline(time.Time) error
	Close() error
}

// New returns a server that knows no zone and listens nowhere yet.
func New(c Config) *Server {
	s := &Server{
		log: c.Logger, udpSize: DefaultUDPSize, tcpConns: c.TCPConns, idle: c.IdleTimeout, generic: c.Generic,
		desc: newDescriptions(), sockets: make(map[deadliner]struct{}), buffers: sync.Pool{New: func() any { return new(tcpBuffer) }},
	}
	s.zones = zones{plans: hot.NewTable[Plan](cmp.Or(c.Bytes, DefaultBytes)), names: c.Names}
	if s.cutCold = func() {}; c.Load != nil {
		s.load = c.Load
		s.coldContext, s.cutCold = context.WithCancel(c.Ctx)
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if c.UDPSize != 0 {
		s.udpSize = min(max(c.UDPSize, plainUDP), DefaultUDPSize)
	}
	if s.tcpConns <= 0 {
		s.tcpConns = DefaultTCPConns
	}
	if s.idle <= 0 {
		s.idle = DefaultIdleTimeout
	}
	return s
}

// Set makes the server answer for a zone from p, replacing what it had; a nil
// plan is the same as Remove. The name must be the one p was compiled for.
func (s *Server) Set(zoneName string, p *Plan) {
	wire, err := packName(zoneName)
	if err != nil || (p != nil && wire != string(p.zone)) {
		s.log.Error("dns zone not set: its name is not its plan's", "zone", zoneName)
		return
	}
	var apex name
	apex.set(wire)
	s.zones.set(&apex, p)
}

// Hot reports whether a zone's plan is in memory.
func (s *Server) Hot(zoneName string) bool {
	wire, err := packName(zoneName)
	if err != nil {
		return false
	}
	var apex name
	apex.set(wire)
	return s.zones.plans.Find(apex.hashes[0], apex.suffix(0)) != nil
}

// Each passes the plans in memory of one moment.
func (s *Server) Each(f func(p *Plan)) {
	s.zones.plans.Each(func(_ string, p *Plan) { f(p) })
}

// Usage is how many plans are in memory, their bytes, and how many have left for
// want of room.
func (s *Server) Usage() (count int, bytes int64, evicted uint64) { return s.zones.plans.Usage() }

// Remove makes the server refuse queries for a zone. An unknown name is no
// error.
func (s *Server) Remove(zoneName string) { s.Set(zoneName, nil) }

// Drain stops the server: no new queries are read, those read are answered,
// sockets and listeners are closed. It returns when all Serve calls have
// ended, or with ctx's error after cutting what was still open then.
func (s *Server) Drain(ctx context.Context) error {
	s.draining.Store(true)
	s.mu.Lock()
	for sock := range s.sockets {
		s.wake(sock)
	}
	s.mu.Unlock()
	done := make(chan struct{})
	go func() { // owned by this call: it ends when the sockets are closed, below at the latest
		s.running.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	s.cutCold()
	for sock := range s.sockets {
		// What is cut has nobody left to hear of a failing close.
		_ = sock.Close()
	}
	s.mu.Unlock()
	<-done
	return fmt.Errorf("dns drain: %w", ctx.Err())
}

// wake makes whoever waits for input on a socket look at s.draining.
func (s *Server) wake(sock deadliner) {
	if err := sock.SetReadDeadline(time.Unix(1, 0)); err != nil {
		_ = sock.Close() // closed already, or unable to wake: closing wakes too
	}
}

// enter registers a socket with Drain; false means that the server is draining.
// Each enter that succeeds needs a leave.
func (s *Server) enter(sock deadliner) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining.Load() {
		return false
	}
	s.running.Add(1)
	s.sockets[sock] = struct{}{}
	return true
}

func (s *Server) leave(sock deadliner) {
	s.mu.Lock()
	delete(s.sockets, sock)
	s.mu.Unlock()
	_ = sock.Close() // nothing is buffered in it that a failing close could lose
	s.running.Done()
}

// borrow returns counters for one Serve call, those of an ended one first: the
// sums never go back.
func (s *Server) borrow() *counters {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.free); n > 0 {
		c := s.free[n-1]
		s.free = s.free[:n-1]
		return c
	}
	c := new(counters)
	s.counters = append(s.counters, c)
	return c
}

func (s *Server) giveBack(c *counters) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free = append(s.free, c)
}

func (s *Server) workers() []*counters {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counters[:len(s.counters):len(s.counters)]
}

// ServeUDP answers queries from a socket until it fails or the server drains,
// then closes it. It may be called for several sockets that share a port
// (SO_REUSEPORT), one per core: each is served by the goroutine that calls.
func (s *Server) ServeUDP(conn *net.UDPConn) error {
	if !s.enter(conn) {
		return conn.Close()
	}
	defer s.leave(conn)
	c := s.borrow()
	defer s.giveBack(c)
	d := s.openDesk(conn)
	defer d.close()
	serve := s.serveBatches
	if s.generic || !batched {
		serve = s.serveSingles
	}
	if err := serve(conn, c, d); err != nil && !s.draining.Load() {
		return fmt.Errorf("dns serve udp %s: %w", conn.LocalAddr(), err)
	}
	return nil
}
