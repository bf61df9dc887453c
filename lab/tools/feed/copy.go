package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/selvage-edge/selvage/feed"
)

// copyOrder makes an edge's side of the feed: its copy on disk, synced, and the
// subscriber that keeps it, without what it does with zones. It serves others
// where it is to be a relay.
type copyOrder struct {
	At      selvageHello
	Nodes   string // folder of its identity
	Dir     string // of its copy
	Parents []string
	Relay   bool
}

type copyHello struct{ Feed string }

type copied struct {
	copy   *feed.Copy
	seen   atomic.Uint64 // entries handed on
	stop   context.CancelFunc
	ended  chan error
	server chan error // nil where it is no relay
	hello  copyHello
	sub    *feed.Subscriber
	begun  time.Time
	opened time.Duration
}

func newCopy(ctx context.Context, first json.RawMessage) (role, error) {
	var o copyOrder
	if err := json.Unmarshal(first, &o); err != nil {
		return nil, err
	}
	ids, err := identities(ctx, o.At, o.Nodes, 1, o.Relay)
	if err != nil {
		return nil, err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	opts := feed.CopyOptions{Log: log}
	if o.Relay {
		opts.Retain = feed.Retention{Entries: 250_000}
	}
	c := &copied{begun: time.Now(), ended: make(chan error, 1)}
	if c.copy, err = feed.OpenCopy(o.Dir, opts); err != nil {
		return nil, err
	}
	c.opened = time.Since(c.begun)
	ctx, c.stop = context.WithCancel(ctx)
	cfg := feed.SubscriberConfig{Parents: o.Parents, Identity: ids[0], Copy: c.copy, Log: log,
		OnEntry: func(*feed.Entry) error { c.seen.Add(1); return nil }}
	if o.Relay {
		if err := c.serve(ctx, ids[0], &cfg); err != nil {
			return nil, err
		}
	}
	c.sub = feed.NewSubscriber(cfg)
	go func() { c.ended <- c.sub.Run(ctx) }()
	return c, nil
}

func (c *copied) serve(ctx context.Context, id *feed.Identity, cfg *feed.SubscriberConfig) error {
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	cfg.Relay = feed.NewServer(feed.ServerConfig{
		Log: feed.NewRelayLog(c.copy), Identity: id, Gather: relayGather, Logger: cfg.Log,
		Upstream: func() feed.Upstream { return c.sub.Upstream() },
	})
	c.hello.Feed, c.server = ln.Addr().String(), make(chan error, 1)
	go func() { c.server <- cfg.Relay.Serve(ctx, ln) }()
	return nil
}

func (c *copied) ready() any { return c.hello }

// reached is what the wait for a number of the log ended with.
type reached struct {
	Hash    string
	Took    time.Duration // since the process began
	Opened  time.Duration // of that, reading the copy
	Entries uint64        // that came one by one, not in a snapshot
	Reads   uint64        // of the state before, while it waited
	Slowest time.Duration // of those
}

// do waits until the copy stands at a number. Meanwhile it reads what it has.
func (c *copied) do(ctx context.Context, order json.RawMessage) (any, error) {
	var o struct {
		Seq  uint64
		Read string // a key that is read all the while
	}
	if err := json.Unmarshal(order, &o); err != nil {
		return nil, err
	}
	var r reached
	for {
		at := c.copy.Cursor()
		if at.Seq >= o.Seq && c.sub.Status().Applied >= o.Seq {
			r.Hash, r.Took, r.Opened, r.Entries = hex.EncodeToString(at.Hash[:]), time.Since(c.begun), c.opened, c.seen.Load()
			return r, nil
		}
		if o.Read != "" {
			start := time.Now()
			if _, _, _, err := c.copy.Get(o.Read); err != nil {
				return nil, fmt.Errorf("read while it catches up: %w", err)
			}
			r.Reads++
			r.Slowest = max(r.Slowest, time.Since(start))
		}
		select {
		case err := <-c.ended:
			c.ended <- err
			return nil, errors.Join(err, errors.New("the subscriber ended"))
		case <-time.After(time.Millisecond):
		}
	}
}

func (c *copied) close() error {
	c.stop()
	err := <-c.ended
	if c.server != nil {
		err = errors.Join(err, <-c.server)
	}
	return errors.Join(err, c.copy.Close())
}
