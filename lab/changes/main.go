// Command changes measures how many changes a second the control plane takes
// from 64 writers through its API, durable and numbered, on SQLite and on
// PostgreSQL with two control planes, and what it costs when the one that leads
// is killed: nothing that was acknowledged may be missing. `make bench-changes`
// runs it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/selvage-edge/selvage/control/store/storetest"
	"github.com/selvage-edge/selvage/internal/figure"
)

const (
	writers = 64
	// wanted is how many changes a second PostgreSQL has to take.
	wanted = 300
)

type options struct {
	binary, out string
	rounds      int
	round       time.Duration
}

func main() {
	var o options
	flag.StringVar(&o.binary, "selvage", "bin/selvage", "the program")
	flag.StringVar(&o.out, "out", "bench/out/changes.json", "where the figures go")
	flag.IntVar(&o.rounds, "pairs", 7, "rounds")
	flag.DurationVar(&o.round, "for", 3*time.Second, "length of a round")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "changes:", err)
		os.Exit(1)
	}
}

// site is control planes of one database.
type site struct {
	name   string
	planes []*plane
	zones  []string // one for each writer
	made   int      // records acknowledged
}

func run(ctx context.Context, o options) (err error) {
	dir, err := os.MkdirTemp("", "selvage-changes-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	postgres, err := storetest.Start(ctx) // it syncs, as an operator's does
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, postgres.Stop()) }()
	place, err := postgres.Database(ctx)
	if err != nil {
		return err
	}
	lite := &site{name: "SQLite"}
	shared := &site{name: "PostgreSQL, two control planes"}
	defer func() {
		for _, p := range slices.Concat(lite.planes, shared.planes) {
			err = errors.Join(err, p.stop())
		}
	}()
	if err := lite.start(ctx, o.binary, filepath.Join(dir, "lite"), ""); err != nil {
		return err
	}
	for _, name := range []string{"one", "two"} {
		if err := shared.start(ctx, o.binary, filepath.Join(dir, name), place); err != nil {
			return err
		}
	}
	figures, err := measure(ctx, o, lite, shared)
	if err != nil {
		return err
	}
	more, err := shared.killLeader(ctx)
	figures = append(figures, more...)
	for _, f := range figures {
		fmt.Println(f)
	}
	return errors.Join(err, figure.Write(o.out, figures), figure.Missed(figures))
}

// measure loads the sites in turns.
func measure(ctx context.Context, o options, sites ...*site) ([]figure.Figure, error) {
	each := make([]struct{ pause, p50, p99 []float64 }, len(sites))
	for round := range o.rounds {
		for i, s := range sites {
			l := s.load(ctx, o.round)
			if l.err != nil {
				return nil, fmt.Errorf("%s: %w", s.name, l.err)
			}
			slices.Sort(l.took)
			rate := float64(len(l.took)) / l.lasted.Seconds()
			fmt.Printf("  %d %s: %.0f changes/s, p50 %.1f ms, p99 %.1f ms\n", round+1, s.name, rate, figure.Quantile(l.took, .5), figure.Quantile(l.took, .99))
			each[i].pause = append(each[i].pause, 1000/rate)
			each[i].p50 = append(each[i].p50, figure.Quantile(l.took, .5))
			each[i].p99 = append(each[i].p99, figure.Quantile(l.took, .99))
		}
	}
	var all []figure.Figure
	for i, s := range sites {
		bar := 0.0
		if i > 0 {
			bar = 1000.0 / wanted
		}
		name := fmt.Sprintf("%s, %d writers: ", s.name, writers)
		all = append(all,
			figure.Alone(name+"time per change", "ms", each[i].pause, bar),
			figure.Alone(name+"p50 of a call", "ms", each[i].p50, 0),
			figure.Alone(name+"p99 of a call", "ms", each[i].p99, 0))
	}
	return all, nil
}

// loaded is what a round of writing came to.
type loaded struct {
	took   []float64 // ms of each acknowledged change
	lasted time.Duration
	longest,
	failed int // the longest time without an acknowledgement in ms; calls that failed
	err error
}

// load has each writer add records to its zone, one after the other.
func (s *site) load(ctx context.Context, d time.Duration) loaded {
	var mu sync.Mutex
	var l loaded
	begun := time.Now()
	last := begun
	var work sync.WaitGroup
	for w := range writers {
		work.Go(func() {
			for n := 0; time.Since(begun) < d && ctx.Err() == nil; n++ {
				at := time.Now()
				err := s.planes[w%len(s.planes)].record(ctx, s.zones[w], fmt.Sprintf("r%d-%d", begun.UnixNano(), n))
				mu.Lock()
				if err != nil {
					l.failed++
					l.err = err
				} else {
					l.took = append(l.took, float64(time.Since(at).Microseconds())/1000)
					l.longest = max(l.longest, int(time.Since(last).Milliseconds()))
					last = time.Now()
				}
				mu.Unlock()
				if err != nil {
					return
				}
			}
		})
	}
	work.Wait()
	l.lasted = time.Since(begun)
	s.made += len(l.took)
	return l
}

// killLeader kills the control plane that leads while the other one's writers go
// on, and counts what is there in the end.
func (s *site) killLeader(ctx context.Context) ([]figure.Figure, error) {
	leader, other := s.planes[0], s.planes[1] // the first to start leads until it dies
	if err := leader.kill(); err != nil {
		return nil, err
	}
	s.planes = []*plane{other}
	l := s.load(ctx, 10*time.Second)
	if l.err != nil {
		return nil, fmt.Errorf("after the leader was killed: %w", l.err)
	}
	there := 0
	for _, id := range s.zones {
		n, err := other.records(ctx, id)
		if err != nil {
			return nil, err
		}
		there += n
	}
	return []figure.Figure{
		figure.Alone("longest time without an acknowledged change after the leader was killed", "ms", []float64{float64(l.longest)}, 5000),
		figure.Count("changes acknowledged and not there after the leader was killed", "changes", max(0, s.made-there), 0),
	}, nil
}
