package main

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/selvage-edge/selvage/feed"
)

// relayGather is the one of every edge that relays.
const relayGather = 5 * time.Millisecond

// relaysOrder asks for relays, all in one process. Their copies are in memory:
// sixteen disks are not this machine's to have.
type relaysOrder struct {
	At    selvageHello
	Nodes string // folder of their identities
	N     int
}

type relays struct {
	stop  context.CancelFunc
	ended []chan error
	copy  []*feed.Copy
	addrs []string
}

func newRelays(ctx context.Context, first json.RawMessage) (role, error) {
	var o relaysOrder
	if err := json.Unmarshal(first, &o); err != nil {
		return nil, err
	}
	ids, err := identities(ctx, o.At, o.Nodes, o.N, true)
	if err != nil {
		return nil, err
	}
	r := &relays{}
	ctx, r.stop = context.WithCancel(ctx)
	for _, id := range ids {
		if err := r.add(ctx, o.At.Feed, id); err != nil {
			return nil, errors.Join(err, r.close())
		}
	}
	for _, c := range r.copy {
		for c.Cursor().Seq == 0 {
			time.Sleep(10 * time.Millisecond)
		}
	}
	return r, nil
}

func (r *relays) add(ctx context.Context, parent string, id *feed.Identity) error {
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	c, err := feed.OpenCopy("copy", feed.CopyOptions{FS: vfs.NewMem(), NoSync: true, Log: log, Retain: feed.Retention{Bytes: 64 << 20}})
	if err != nil {
		return err
	}
	r.copy = append(r.copy, c)
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	var sub *feed.Subscriber
	server := feed.NewServer(feed.ServerConfig{
		Log: feed.NewRelayLog(c), Identity: id, Gather: relayGather, Logger: log,
		Upstream: func() feed.Upstream { return sub.Upstream() },
	})
	sub = feed.NewSubscriber(feed.SubscriberConfig{Parents: []string{parent}, Identity: id, Copy: c, Log: log, Relay: server})
	for _, run := range []func() error{func() error { return server.Serve(ctx, ln) }, func() error { return sub.Run(ctx) }} {
		ended := make(chan error, 1)
		r.ended = append(r.ended, ended)
		go func() { ended <- run() }()
	}
	r.addrs = append(r.addrs, ln.Addr().String())
	return nil
}

func (r *relays) ready() any { return r.addrs }

func (r *relays) do(context.Context, json.RawMessage) (any, error) {
	return nil, errors.New("relays take no orders")
}

func (r *relays) close() (err error) {
	r.stop()
	for _, ended := range r.ended {
		err = errors.Join(err, <-ended)
	}
	for _, c := range r.copy {
		err = errors.Join(err, c.Close())
	}
	return err
}
