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
	Parents  []string // addresses, tried in order
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
	Log        *slog.Logger

	Silence    time.Duration // of a parent before another is tried [3 s]
	BackoffMin time.Duration // between attempts [50 ms]
	BackoffMax time.Duration // [5 s]
}

// Subscriber keeps a Copy at the head of a parent's log.
type Subscriber struct {
	cfg      SubscriberConfig
	log      *slog.Logger
	counters subscriberCounters

	mu     sync.Mutex
	status Status // guarded by mu
}

// Status is where a subscriber stands.
type Status struct {
	Connected     bool
	Parent        string    // connected to; "" while it is not
	Since         time.Time // connected since
	Head          uint64    // newest number that a parent told of
	Applied       uint64    // newest number stored and handed on
	LastHeartbeat time.Time // when a parent was last heard; zero: never
	Resume        Resume    // how the last connection continued
}

// NewSubscriber makes a Subscriber; Run runs it.
func NewSubscriber(cfg SubscriberConfig) *Subscriber {
	cfg.Silence = cmp.Or(cfg.Silence, 3*time.Second)
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
	s := &Subscriber{cfg: cfg, log: cfg.Log}
	s.status.Applied = cfg.Copy.Cursor().Seq
	return s
}

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
	backoff := s.cfg.BackoffMin
	for i := 0; ; i++ {
		parent := s.cfg.Parents[i%len(s.cfg.Parents)]
		progress, err := s.connect(ctx, parent)
		s.update(func(st *Status) { st.Connected, st.Parent, st.Since = false, "", time.Time{} })
		if ctx.Err() != nil {
			return nil
		}
		s.counters.reconnects.Add(1)
		s.log.Warn("feed connection lost", "parent", parent, "seq", s.cfg.Copy.Cursor().Seq, "error", err)
		if errors.Is(err, ErrBroken) {
			return fmt.Errorf("feed from %s: %w", parent, err)
		}
		if errors.Is(err, ErrCorrupt) {
			if err := s.cfg.Copy.Recover(err); err != nil {
				return err
			}
		}
		if progress {
			backoff = s.cfg.BackoffMin
		}
		wait(ctx, backoff/2+rand.N(backoff/2+1))
		backoff = min(backoff*2, s.cfg.BackoffMax)
	}
}

// connect runs one connection to its end and reports whether it was of use.
func (s *Subscriber) connect(ctx context.Context, parent string) (progress bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
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
	var work sync.WaitGroup
	defer work.Wait()
	defer cancel()
	work.Go(func() {
		l.up(ctx)
		_ = raw.Close() // a parent that takes no acknowledgements is no parent
	})
	work.Go(func() { s.renew(ctx, parent) })
	err = l.receive(ctx)
	return l.progress, err
}

func (s *Subscriber) dial(ctx context.Context, parent string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Silence)
	defer cancel()
	raw, err := s.cfg.Dial.dial(ctx, parent)
	if err != nil {
		return nil, fmt.Errorf("dial: %w", err)
	}
	return raw, nil
}

const renewCheck = 10 * time.Minute

// renew replaces the node's certificate when two thirds of its life are over.
func (s *Subscriber) renew(ctx context.Context, parent string) {
	for ctx.Err() == nil {
		if time.Now().After(s.cfg.Identity.RenewAt()) {
			if err := s.cfg.Identity.Renew(ctx, s.cfg.Dial, parent); err != nil && ctx.Err() == nil {
				s.log.Warn("node certificate was not renewed", "expires", s.cfg.Identity.Certificate().NotAfter, "error", err)
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
