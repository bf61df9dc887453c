package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/selvage-edge/selvage/feed"
	"github.com/selvage-edge/selvage/internal/figure"
)

// crowdOrder asks for subscribers, each with a connection of its own.
type crowdOrder struct {
	System string
	Addrs  []string // in turn
	N      int
	At     selvageHello // of selvage alone
	Nodes  string       // folder of their identities
}

// crowd is all of them, in one process.
type crowd struct {
	cancel context.CancelFunc
	ended  chan error // of those that ended by themselves
	all    []*listener
	work   sync.WaitGroup
}

// listener notes how long each change took to it.
type listener struct {
	mu    sync.Mutex
	took  []time.Duration // guarded by mu
	ready chan struct{}   // closed at the first change
	once  sync.Once
}

// heard takes in one change.
func (l *listener) heard(value []byte) error {
	now := time.Now()
	l.once.Do(func() { close(l.ready) })
	due, err := dueAt(value)
	if err != nil || due.IsZero() {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.took = append(l.took, now.Sub(due))
	return nil
}

func newSubscribers(ctx context.Context, first json.RawMessage) (role, error) {
	var o crowdOrder
	if err := json.Unmarshal(first, &o); err != nil {
		return nil, err
	}
	c := &crowd{ended: make(chan error, o.N)}
	ctx, c.cancel = context.WithCancel(ctx)
	listen := map[string]func(context.Context, crowdOrder) ([]func(context.Context, *listener) error, error){
		"selvage": selvageListeners, "nats": natsListeners, "etcd": etcdListeners,
	}[o.System]
	loops, err := listen(ctx, o)
	if err != nil {
		return nil, err
	}
	for _, loop := range loops {
		l := &listener{ready: make(chan struct{})}
		c.all = append(c.all, l)
		c.work.Go(func() {
			if err := loop(ctx, l); ctx.Err() == nil {
				c.ended <- err
			}
		})
	}
	return c, nil
}

// connected runs make for each of n, a few at a time.
func connected[T any](n int, one func(i int) (T, error)) ([]T, error) {
	all, errs := []T{}, []error{}
	var mu sync.Mutex
	var work sync.WaitGroup
	places := make(chan struct{}, 16)
	for i := range n {
		work.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			t, err := one(i)
			mu.Lock()
			defer mu.Unlock()
			all, errs = append(all, t), append(errs, err)
		})
	}
	work.Wait()
	return all, errors.Join(errs...)
}

type loop = func(context.Context, *listener) error

func selvageListeners(ctx context.Context, o crowdOrder) ([]loop, error) {
	ids, err := identities(ctx, o.At, o.Nodes, o.N, false)
	if err != nil {
		return nil, err
	}
	unpack, err := zstd.NewReader(nil, zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxMemory(maxPayload))
	if err != nil {
		return nil, err
	}
	return connected(o.N, func(i int) (loop, error) {
		f, err := follow(ctx, o.Addrs[i%len(o.Addrs)], ids[i], o.At.Head, unpack)
		if err != nil {
			return nil, err
		}
		return func(ctx context.Context, l *listener) error {
			stop := context.AfterFunc(ctx, func() { _ = f.conn.NetConn().Close() })
			defer stop()
			for {
				err := f.next(func(e *feed.Entry) error {
					for _, c := range e.Changes {
						if strings.HasPrefix(c.Key, prefix) {
							if err := l.heard(c.Value); err != nil {
								return err
							}
						}
					}
					return nil
				})
				if err != nil {
					return errors.Join(err, f.close())
				}
			}
		}, nil
	})
}

func natsListeners(ctx context.Context, o crowdOrder) ([]loop, error) {
	return connected(o.N, func(i int) (loop, error) {
		conn, err := nats.Connect(o.Addrs[i%len(o.Addrs)], nats.Timeout(30*time.Second))
		if err != nil {
			return nil, err
		}
		js, err := jetstream.New(conn)
		if err != nil {
			return nil, err
		}
		kv, err := js.KeyValue(ctx, natsBucket)
		if err != nil {
			return nil, err
		}
		w, err := kv.WatchAll(ctx, jetstream.UpdatesOnly())
		if err != nil {
			return nil, err
		}
		return func(ctx context.Context, l *listener) error {
			defer conn.Close()
			for {
				select {
				case e, ok := <-w.Updates():
					if !ok {
						return errors.New("the watch ended")
					}
					if e == nil {
						continue
					}
					if err := l.heard(e.Value()); err != nil {
						return err
					}
				case <-ctx.Done():
					return nil
				}
			}
		}, nil
	})
}

func etcdListeners(ctx context.Context, o crowdOrder) ([]loop, error) {
	return connected(o.N, func(i int) (loop, error) {
		c, err := clientv3.New(clientv3.Config{Endpoints: []string{o.Addrs[i%len(o.Addrs)]}, DialTimeout: 30 * time.Second})
		if err != nil {
			return nil, err
		}
		updates := c.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithCreatedNotify())
		select { // that it is set up
		case <-updates:
		case <-time.After(30 * time.Second):
			return nil, errors.New("the watch was not made in time")
		}
		return func(ctx context.Context, l *listener) error {
			defer func() { _ = c.Close() }() // says that it was closed
			for u := range updates {
				if err := u.Err(); err != nil {
					return err
				}
				for _, e := range u.Events {
					if err := l.heard(e.Kv.Value); err != nil {
						return err
					}
				}
			}
			return errors.New("the watch ended")
		}, nil
	})
}

func (c *crowd) ready() any { return struct{}{} }

// heard is what all of them measured.
type heard struct {
	P50, P99 time.Duration
	Slowest  time.Duration // p99 of the subscriber whose p99 is the highest
	Changes  int           // that each of them heard
}

// do waits until all have heard something, or as many changes as are asked for,
// which it then sums up and forgets.
func (c *crowd) do(ctx context.Context, order json.RawMessage) (any, error) {
	var o struct{ Changes int }
	if err := json.Unmarshal(order, &o); err != nil {
		return nil, err
	}
	late := time.After(time.Minute)
	for _, l := range c.all {
		for {
			l.mu.Lock()
			n := len(l.took)
			l.mu.Unlock()
			if o.Changes > 0 && n >= o.Changes {
				break
			}
			if o.Changes == 0 {
				select {
				case <-l.ready:
				case <-late:
					return nil, errors.New("not all subscribers hear of changes")
				}
				break
			}
			select {
			case err := <-c.ended:
				return nil, fmt.Errorf("a subscriber ended: %w", err)
			case <-late:
				return nil, fmt.Errorf("a subscriber has heard %d of %d changes a minute after the last", n, o.Changes)
			case <-time.After(5 * time.Millisecond):
			}
		}
	}
	if o.Changes == 0 {
		return heard{}, nil
	}
	return c.sum(o.Changes)
}

func (c *crowd) sum(want int) (h heard, err error) {
	var all []float64
	for _, l := range c.all {
		l.mu.Lock()
		var one []float64
		for _, d := range l.took {
			one = append(one, float64(d))
		}
		l.took = l.took[:0]
		l.mu.Unlock()
		if len(one) != want {
			return h, fmt.Errorf("a subscriber heard %d changes of %d", len(one), want)
		}
		slices.Sort(one)
		h.Slowest = max(h.Slowest, time.Duration(figure.Quantile(one, .99)))
		all = append(all, one...)
	}
	slices.Sort(all)
	h.P50, h.P99, h.Changes = time.Duration(figure.Quantile(all, .5)), time.Duration(figure.Quantile(all, .99)), want
	return h, nil
}

func (c *crowd) close() error {
	c.cancel()
	c.work.Wait()
	return nil
}
