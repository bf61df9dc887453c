// Command signals measures the road up: 330 nodes with 100 signals a second each,
// over TCP and TLS on this machine, to the root's reader, straight and through 16
// relays. `make bench-signals` runs it. Nodes and root share one process, so the
// CPU time is that of all of them.
package main

import (
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/selvage-edge/selvage/feed"
	"github.com/selvage-edge/selvage/internal/figure"
)

const (
	nodes  = 330
	rate   = 100 // signals a second of each node
	bytes  = 64  // of each signal
	relays = 16
	barP99 = 1000 // ms
)

func main() {
	lasts := flag.Duration("for", 15*time.Second, "length of each run")
	out := flag.String("out", "bench/out/signals.json", "where the figures go")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *lasts, *out); err != nil {
		fmt.Fprintln(os.Stderr, "signals:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, lasts time.Duration, out string) error {
	var all []figure.Figure
	for _, through := range []int{0, relays} {
		f, err := measure(ctx, lasts, through)
		if err != nil {
			return err
		}
		all = append(all, f...)
	}
	for _, f := range all {
		fmt.Println(f)
	}
	return errors.Join(figure.Write(out, all), figure.Missed(all))
}

// site is a root, its relays and its nodes.
type site struct {
	ca   *authority
	work sync.WaitGroup
	ups  []*feed.Up

	mu   sync.Mutex
	took []float64 // ms of each signal; guarded by mu
}

func (s *site) read(r feed.Report) error {
	at := time.Unix(0, int64(binary.BigEndian.Uint64(r.Payload)))
	ms := float64(time.Since(at).Microseconds()) / 1000
	s.mu.Lock()
	defer s.mu.Unlock()
	s.took = append(s.took, ms)
	return nil
}

func measure(ctx context.Context, lasts time.Duration, through int) ([]figure.Figure, error) {
	ctx, cancel := context.WithCancel(ctx)
	ca, err := newAuthority()
	if err != nil {
		cancel()
		return nil, err
	}
	s := &site{ca: ca}
	defer s.work.Wait()
	defer cancel()
	root, err := s.start(ctx, through)
	if err != nil {
		return nil, err
	}
	for len(root.Peers()) < nodes+through {
		if wait(ctx, 100*time.Millisecond) != nil {
			return nil, ctx.Err()
		}
	}
	before := cpu()
	sent := s.load(ctx, lasts)
	used := cpu() - before
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end) && s.count() < sent; {
		if wait(ctx, 100*time.Millisecond) != nil {
			return nil, ctx.Err()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	slices.Sort(s.took)
	name := "straight to the root: "
	if through > 0 {
		name = fmt.Sprintf("behind %d relays: ", through)
	}
	return []figure.Figure{
		figure.Most(name+"p50", "ms", s.took, .5, barP99),
		figure.Most(name+"p99", "ms", s.took, .99, barP99),
		figure.Count(name+"signals that did not arrive", "signals", sent-len(s.took), 0),
		figure.Alone(name+"CPU of root, relays and nodes for a second of 33,000 signals", "s", []float64{used.Seconds() / lasts.Seconds()}, 0),
	}, nil
}

func (s *site) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.took)
}

// load has all nodes speak at their rate, in steps of 10 ms, and returns how many
// signals they gave.
func (s *site) load(ctx context.Context, lasts time.Duration) (sent int) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	begun := time.Now()
	for wait := lasts; wait > 0 && ctx.Err() == nil; wait = lasts - time.Since(begun) {
		<-tick.C
		due := int(time.Since(begun).Seconds() * rate * nodes)
		for ; sent < due; sent++ {
			p := make([]byte, bytes)
			binary.BigEndian.PutUint64(p, uint64(time.Now().UnixNano()))
			s.ups[sent%nodes].Offer(feed.ClassThreat, p)
		}
	}
	return sent
}

// start runs a root, relays and nodes until ctx ends.
func (s *site) start(ctx context.Context, through int) (*feed.Server, error) {
	id, err := s.ca.identity("", false)
	if err != nil {
		return nil, err
	}
	copied, err := memory(true)
	if err != nil {
		return nil, err
	}
	root := feed.NewServer(feed.ServerConfig{
		Log: feed.NewRelayLog(copied), Identity: id, Readers: map[feed.Class]feed.Reader{feed.ClassThreat: s.read},
	})
	at, err := s.serve(ctx, root)
	if err != nil {
		return nil, err
	}
	parents := []string{at}
	for i := range through {
		if i == 0 {
			parents = nil
		}
		addr, err := s.node(ctx, i, at, true)
		if err != nil {
			return nil, err
		}
		parents = append(parents, addr)
	}
	for i := range nodes {
		if _, err := s.node(ctx, through+i, parents[i%len(parents)], false); err != nil {
			return nil, err
		}
	}
	return root, nil
}

// node runs a node, one that relays where that is asked, and returns where it
// serves.
func (s *site) node(ctx context.Context, n int, parent string, relay bool) (addr string, err error) {
	id, err := s.ca.identity(fmt.Sprintf("%032x", n+1), relay)
	if err != nil {
		return "", err
	}
	copied, err := memory(relay)
	if err != nil {
		return "", err
	}
	up := feed.NewUp(nil)
	cfg := feed.SubscriberConfig{Parents: []string{parent}, Identity: id, Copy: copied, Signals: up}
	var sub *feed.Subscriber
	if relay {
		cfg.Relay = feed.NewServer(feed.ServerConfig{
			Log: feed.NewRelayLog(copied), Identity: id, Pass: up, Upstream: func() feed.Upstream { return sub.Upstream() },
		})
	} else {
		s.ups = append(s.ups, up)
	}
	sub = feed.NewSubscriber(cfg)
	if relay {
		if addr, err = s.serve(ctx, cfg.Relay); err != nil {
			return "", err
		}
	}
	s.work.Go(func() {
		if err := errors.Join(sub.Run(ctx), copied.Close()); err != nil {
			fmt.Fprintln(os.Stderr, "signals: a node:", err)
		}
	})
	return addr, nil
}

func (s *site) serve(ctx context.Context, server *feed.Server) (string, error) {
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	s.work.Go(func() {
		if err := server.Serve(ctx, ln); err != nil {
			fmt.Fprintln(os.Stderr, "signals: a server:", err)
		}
	})
	return ln.Addr().String(), nil
}

func memory(keep bool) (*feed.Copy, error) {
	o := feed.CopyOptions{FS: vfs.NewMem(), NoSync: true, CacheBytes: 1 << 16}
	if keep {
		o.Retain = feed.Retention{Entries: 10}
	}
	return feed.OpenCopy("copy", o)
}

// cpu is what this process has used.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
