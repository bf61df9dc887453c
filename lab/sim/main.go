// Command sim runs twelve edges, each a process of its own, before one counting
// origin and measures what the tiers and purges promise: how often the origin is
// asked, and after what time a purge holds everywhere. It leaves with an error
// when a bar is missed.
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
	binary  string
	edges   int
	load    time.Duration // of the works that go on for a time
	purges  int
	objects int
	rate    int // requests per second of all edges
	with    string
	out     string
}

func main() {
	var o options
	flag.StringVar(&o.binary, "selvage", "bin/selvage", "program under test")
	flag.IntVar(&o.edges, "edges", 12, "edges, each a data center")
	flag.DurationVar(&o.load, "for", time.Minute, "how long the load with an edge TTL of 5 s goes on")
	flag.IntVar(&o.purges, "purges", 200, "purges that are measured")
	flag.IntVar(&o.objects, "objects", 10_000, "objects that are purged under load")
	flag.IntVar(&o.rate, "rate", 2000, "requests per second")
	flag.StringVar(&o.with, "with", "", "files with figures of other runs, separated by commas")
	flag.StringVar(&o.out, "out", "bench/out/sim.json", "file for the figures")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "sim:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	figures, err := others(o.with)
	if err != nil {
		return err
	}
	src, err := startOrigin(ctx)
	if err != nil {
		return err
	}
	defer src.close()
	n, err := startNetwork(ctx, o, src.addr)
	if err != nil {
		return err
	}
	defer n.stop()
	for _, work := range []struct {
		name string
		do   func(context.Context, options, *network, *origin) ([]figure.Figure, error)
	}{
		{"edges that are cold at the same time", cold},
		{"an edge TTL of 5 s under load", lifetimes},
		{"purges and their acknowledgements", purges},
		{"a purge of everything under load", everything},
	} {
		fmt.Println("measure", work.name)
		more, err := work.do(ctx, o, n, src)
		if err != nil {
			return err
		}
		for _, f := range more {
			fmt.Println(f)
		}
		figures = append(figures, more...)
	}
	return errors.Join(figure.Write(o.out, figures), figure.Missed(figures))
}

// others reads what was measured in one process.
func others(files string) (figures []figure.Figure, err error) {
	for name := range strings.SplitSeq(files, ",") {
		if name == "" {
			continue
		}
		more, err := figure.Read(name)
		if err != nil {
			return nil, err
		}
		for _, f := range more {
			fmt.Println(f)
		}
		figures = append(figures, more...)
	}
	return figures, nil
}
