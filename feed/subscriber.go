package feed

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

// SubscriberConfig is what a Subscriber is made of. Zero numbers mean the default in
// brackets.
type SubscriberConfig struct {
	Parents  []string // addresses: the first that can be had is used
	Dial     DialFunc // nil: TCP
	Identity *Identity
	Copy     *Copy
	// Announce is what the parent is told of this node; nil for nothing, as by
	// a relay or a tool.
	Announce *Announcement
	// OnEntry hears of each entry after it is stored, one at a time. Its error
	// is reported to the parent as a rejection of the entry; the feed goes on.
	OnEntry func(*Entry) error
	// OnBatch hears that all entries which came together have been handed on:
	// what OnEntry put off is done now, once for all of them. Their numbers are
	// acknowledged after it. reject reports an entry as OnEntry's error does.
	OnBatch func(reject func(seq uint64, why error))
	// OnSnapshot hears that the copy's state was replaced as a whole: all must
	// be read anew, and any signal may have been missed.
	OnSnapshot func(seq uint64) error
	// Standing are the rejections that still hold; each new parent is told of
	// them. Nil for none.
	Standing func() []Rejection
	// Signals is what waits for the parent; nil for none.
	Signals *Up
	// OnFrame hears frames down of kinds KindCertificateStaged and
	// KindCertificate; nil passes them over. The payload is valid until it
	// returns; its error ends the connection.
	OnFrame func(ctx context.Context, kind byte, payload []byte) error
	// Relay serves the copy to others; what it hears of them goes up to the
	// parent. Nil where nobody is served.
	Relay *Server
	Log   *slog.Logger

	Silence    time.Duration // of a parent before another is tried [2.5 s]
	Stale      time.Duration // of the root, while a parent speaks, before another is tried [6 s]
	Connect    time.Duration // for a handshake and an answer to the hello [5 s]
	Spread     time.Duration // within which those who lost a parent come to the next [500 ms]
	Return     time.Duration // between looks whether an earlier parent is back, about [1 min]
	BackoffMin time.Duration // between attempts [50 ms]
	BackoffMax time.Duration // [5 s]
}

// Subscriber keeps a Copy at the head of a parent's log.
type Subscriber struct {
	cfg      SubscriberConfig
	log      *slog.Logger
	counters subscriberCounters
	outbox   chan []byte // frames that Up gives

	// Owned by Run.
	unpack   *unpacker
	incoming *incoming     // a snapshot that is not whole yet; survives its connection
	next     int           // the parent to try
	stale    time.Duration // how long the root may be silent before a parent is left
	patience time.Duration // with a relay that asks to wait

	mu     sync.Mutex
	status Status   // guarded by mu
	up     Upstream // guarded by mu
}

// Status is where a subscriber stands.
type Status struct {
	Connected     bool
	Parent        string    // connected to; "" while it is not
	Since         time.Time // connected since
	Head          uint64    // newest number that a parent told of
	Applied       uint64    // newest number stored and handed on
	Level         time.Time // when Applied was last heard to be Head; at first when the Subscriber was made
	LastHeartbeat time.Time // when a parent was last heard; zero: never
	Resume        Resume    // how the last connection continued
}

// NewSubscriber makes a Subscriber; Run runs it.
func NewSubscriber(cfg SubscriberConfig) *Subscriber {
	cfg.Silence = cmp.Or(cfg.Silence, 2500*time.Millisecond)
	cfg.Stale = cmp.Or(cfg.Stale, 6*time.Second)
	cfg.Connect = cmp.Or(cfg.Connect, 5*time.Second)
	cfg.Spread = cmp.Or(cfg.Spread, 500*time.Millisecond)
	cfg.Return = cmp.Or(cfg.Return, time.Minute)
	cfg.BackoffMin = cmp.Or(cfg.BackoffMin, 50*time.Millisecond)
	cfg.BackoffMax = cmp.Or(cfg.BackoffMax, 5*time.Second)
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	if cfg.OnEntry == nil {
		cfg.OnEntry = func(*Entry) error { return nil }
	}
	if cfg.OnBatch == nil {
		cfg.OnBatch = func(func(uint64, error)) {}
	}
	if cfg.OnSnapshot == nil {
		cfg.OnSnapshot = func(uint64) error { return nil }
	}
	s := &Subscriber{cfg: cfg, log: cfg.Log, outbox: make(chan []byte, queueUp), unpack: newUnpacker(), stale: cfg.Stale, patience: cfg.Silence}
	s.status.Applied, s.status.Level = cfg.Copy.Cursor().Seq, time.Now()
	return s
}

// heardLately is some heartbeats, which come each second.
const heardLately = 3 * time.Second

// Status may be called at any time.
func (s *Subscriber) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status
}

func (s *Subscriber) update(f func(*Status)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(&s.status)
}

// Lag is for how long the copy has not been known to stand at the newest number;
// 0 while it does. Without a parent, or one that is heard, nothing is known.
func (st Status) Lag(now time.Time) time.Duration {
	if st.Connected && st.Applied >= st.Head && now.Sub(st.LastHeartbeat) < heardLately {
		return 0
	}
	return now.Sub(st.Level)
}

// Upstream is where this node stands with its parent, for ServerConfig.Upstream.
func (s *Subscriber) Upstream() Upstream {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.up
}

// Run keeps the subscription until ctx ends (nil), or until the copy can no
// longer be written (ErrBroken, or why a damaged one could not be replaced).
// Everything else is retried.
func (s *Subscriber) Run(ctx context.Context) error {
	if len(s.cfg.Parents) == 0 {
		return errors.New("feed: no parent to subscribe to")
	}
	if a := s.cfg.Announce; a != nil {
		if err := a.Check(); err != nil {
			return fmt.Errorf("feed: %w", err)
		}
	}
	defer s.dropIncoming()
	backoff := s.cfg.BackoffMin
	for {
		at := s.next
		parent := s.cfg.Parents[at]
		s.next = (at + 1) % len(s.cfg.Parents)
		progress, err := s.connect(ctx, at)
		s.update(func(st *Status) { st.Connected, st.Parent, st.Since = false, "", time.Time{} })
		if ctx.Err() != nil {
			return nil
		}
		s.counters.reconnects.Add(1)
		if errors.Is(err, errReturn) {
			s.log.Info("feed goes back to an earlier parent", "parent", parent, "to", s.cfg.Parents[s.next])
			continue
		}
		s.log.Warn("feed connection lost", "parent", parent, "seq", s.cfg.Copy.Cursor().Seq, "error", err)
		if s.cfg.Relay != nil && Refused(err, ReasonRevoked) {
			s.cfg.Relay.dropAll() // those below are to look elsewhere
		}
		if errors.Is(err, ErrBroken) {
			return fmt.Errorf("feed from %s: %w", parent, err)
		}
		if errors.Is(err, ErrCorrupt) {
			s.dropIncoming()
			if err := s.cfg.Copy.Recover(err); err != nil {
				return err
			}
		}
		if progress {
			// Many lost this parent with us: they are not to come to the next
			// in the same moment.
			backoff = s.cfg.BackoffMin
			wait(ctx, rand.N(s.cfg.Spread))
			continue
		}
		wait(ctx, backoff/2+rand.N(backoff/2+1))
		backoff = min(backoff*2, s.cfg.BackoffMax)
	}
}

// dropIncoming gives up a snapshot that is not whole.
func (s *Subscriber) dropIncoming() {
	if s.incoming != nil {
		s.incoming.w.Abort()
		s.incoming = nil
	}
}

// connect runs one connection to its end and reports whether it was of use.
func (s *Subscriber) connect(ctx context.Context, at int) (progress bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	parent := s.cfg.Parents[at]
	raw, err := s.dial(ctx, parent)
	if err != nil {
		return false, err
	}
	l := newLink(s, raw, parent)
	defer func() { _ = raw.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = raw.Close() })
	defer stop()
	if err := l.greet(ctx); err != nil {
		return false, err
	}
	defer s.mind(l)
	var work sync.WaitGroup
	defer work.Wait()
	defer cancel(nil)
	work.Go(func() {
		l.up(ctx)
		_ = raw.Close() // a parent that takes no acknowledgements is no parent
	})
	work.Go(func() { s.renew(ctx) })
	back := make(chan int, 1)
	work.Go(func() { s.lookBack(ctx, at, back, cancel) })
	err = l.receive(ctx)
	select {
	case s.next = <-back:
		err = errReturn
	default:
	}
	return l.progress, err
}

// mind keeps of a connection that ended what the next one can use.
func (s *Subscriber) mind(l *link) {
	s.mu.Lock()
	s.up.Connected = false
	s.mu.Unlock()
	if in := s.incoming; in != nil && (l.wrong || in.last == "") {
		s.dropIncoming()
	}
}

// errReturn ends a connection because an earlier parent is back.
var errReturn = errors.New("an earlier parent is back")

// lookBack looks from time to time whether a parent before the one in use can
// be had again: after a fault the fleet is not to stay where it fled to.
func (s *Subscriber) lookBack(ctx context.Context, at int, back chan<- int, cancel context.CancelCauseFunc) {
	for at > 0 {
		wait(ctx, s.cfg.Return/2+rand.N(s.cfg.Return))
		for i := range at {
			if ctx.Err() != nil {
				return
			}
			if s.answers(ctx, s.cfg.Parents[i]) {
				back <- i
				cancel(errReturn)
				return
			}
		}
	}
}

// answers reports whether a parent agrees on TLS with us.
func (s *Subscriber) answers(ctx context.Context, parent string) bool {
	raw, err := s.dial(ctx, parent)
	if err != nil {
		return false
	}
	l := newLink(s, raw, parent)
	defer func() { _ = l.conn.Close() }()
	return l.handshake(ctx) == nil
}

func (s *Subscriber) dial(ctx context.Context, parent string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Connect)
	defer cancel()
	raw, err := s.cfg.Dial.dial(ctx, parent)
	if err != nil {
		return nil, fmt.Errorf("dial: %w", err)
	}
	return raw, nil
}

const renewCheck = 10 * time.Minute

// renew replaces the node's certificate when two thirds of its life are over.
// Only the control plane does that, so each parent is asked.
func (s *Subscriber) renew(ctx context.Context) {
	for ctx.Err() == nil {
		if time.Now().After(s.cfg.Identity.RenewAt()) {
			var failed []error
			for _, parent := range s.cfg.Parents {
				err := s.cfg.Identity.Renew(ctx, s.cfg.Dial, parent)
				if err == nil {
					failed = nil
					break
				}
				failed = append(failed, err)
			}
			if len(failed) > 0 && ctx.Err() == nil {
				s.log.Warn("node certificate was not renewed", "expires", s.cfg.Identity.Certificate().NotAfter, "error", errors.Join(failed...))
			}
		}
		wait(ctx, renewCheck)
	}
}

// aliveReader moves the deadline with every byte: a large frame on a slow line
// is life, silence is not.
type aliveReader struct {
	c       net.Conn
	silence time.Duration
}

func (r aliveReader) Read(p []byte) (int, error) {
	// On a connection that was closed this fails, and what TLS has read
	// already is still to be had.
	_ = r.c.SetReadDeadline(time.Now().Add(r.silence))
	return r.c.Read(p)
}

var _ io.Reader = aliveReader{}
