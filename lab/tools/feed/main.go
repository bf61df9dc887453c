// Command feed measures the feed of configuration: a control plane and 330
// subscribers beside NATS and etcd that do the same work in the same run, the
// same behind 16 relays, an edge that was away for 100,000 changes, and a new one
// with a million zones. It is a module of its own, so that the program itself
// depends on neither of the peers. It leaves with an error when a bar is missed.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/selvage-edge/selvage/internal/figure"
)

type options struct {
	work    string
	systems string
	pairs   int
	length  time.Duration
	rate    int
	value   int
	subs    int
	relays  int
	missed  int
	zones   int
	dir     string
	out     string

	role    string // of a child process
	profile string
}

func main() {
	var o options
	flag.StringVar(&o.work, "work", "watch,relays,missed,fresh", "what is measured, separated by commas")
	flag.StringVar(&o.systems, "systems", "selvage,nats,etcd", "who is measured by watch")
	flag.IntVar(&o.pairs, "pairs", 7, "rounds of watch, each with all systems in turn")
	flag.DurationVar(&o.length, "for", 30*time.Second, "length of one measurement of watch and relays")
	flag.IntVar(&o.rate, "rate", 300, "changes a second")
	flag.IntVar(&o.value, "value", 1000, "bytes of a change's value")
	flag.IntVar(&o.subs, "subscribers", 330, "subscribers")
	flag.IntVar(&o.relays, "relays", 16, "relays of the work relays")
	flag.IntVar(&o.missed, "changes", 100_000, "changes that an edge of the work missed was away for")
	flag.IntVar(&o.zones, "zones", 1_000_000, "zones of the work fresh")
	flag.StringVar(&o.dir, "dir", "", "folder on the disk that is measured; empty for a temporary one")
	flag.StringVar(&o.out, "out", "bench/out/feed.json", "file for the figures")
	flag.StringVar(&o.profile, "profile", "", "folder for CPU profiles of all processes")
	flag.StringVar(&o.role, "role", "", "used by the program itself")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "feed:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) (err error) {
	if o.role != "" {
		return child(ctx, o.role, o.profile)
	}

	if o.dir, err = os.MkdirTemp(o.dir, "selvage-feed-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(o.dir)) }()
	works := map[string]func(context.Context, options) ([]figure.Figure, error){
		"watch": watch, "relays": relayed, "missed": missed, "fresh": fresh,
	}
	var figures []figure.Figure
	for name := range strings.SplitSeq(o.work, ",") {
		work := works[name]
		if work == nil {
			return fmt.Errorf("no work is called %q", name)
		}
		fmt.Println("measure", name)
		more, err := work(ctx, o)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		for _, f := range more {
			fmt.Println(f)
		}
		figures = append(figures, more...)
	}
	return errors.Join(figure.Write(o.out, figures), figure.Missed(figures))
}
