// Command bench compares what Selvage's edge costs with what others cost at the
// same work: each takes its turn on CPU 0 while the load runs on CPU 1. All
// serve the same objects of one origin and write an access log. What counts is
// the server's own CPU time, user and system, per request, and for idle
// connections its resident memory.
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
	pairs   int
	seconds int
	conns   int
	out     string
	only    string
	loader  string
	target  string
}

func main() {
	var o options
	flag.StringVar(&o.binary, "selvage", "bin/selvage", "program to measure")
	flag.IntVar(&o.pairs, "pairs", 7, "how often all take turns, from 1 to 100; seven and more judge the bars")
	flag.IntVar(&o.seconds, "seconds", 3, "length of one load, from 1 to 60")
	flag.IntVar(&o.conns, "connections", 32, "connections of a load")
	flag.StringVar(&o.out, "out", "bench/out/http.json", "file for the figures")
	flag.StringVar(&o.only, "only", "", "names of the only works to measure, by comma: "+strings.Join(names(), ", "))
	flag.StringVar(&o.loader, "loader", "", "run as the load generator of this name; used by the program itself")
	flag.StringVar(&o.target, "target", "", "host:port for -loader")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	run := runAll
	if o.loader != "" {
		run = runLoader
	}
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func runAll(ctx context.Context, o options) (err error) {
	if o.pairs < 1 || o.pairs > 100 || o.seconds < 1 || o.seconds > 60 {
		return errors.New("-pairs is from 1 to 100, -seconds from 1 to 60")
	}
	works, err := chosen(o.only)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "selvage-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	f := &field{ctx: ctx, o: o, dir: dir, running: map[string]*server{}}
	defer f.close()
	if err := f.openOrigin(); err != nil {
		return err
	}
	var figures []figure.Figure
	var failed []error
	for _, w := range works {
		found, err := f.measure(w)
		if err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", w.name, err))
			fmt.Println("FAILED", w.name, err)
			continue
		}
		for _, one := range found {
			fmt.Println(one)
		}
		figures = append(figures, found...)
		if err := figure.Write(o.out, figures); err != nil {
			return err
		}
	}
	return errors.Join(append(failed, figure.Missed(figures))...)
}

// chosen returns the works that are named, all of them for "".
func chosen(only string) ([]work, error) {
	if only == "" {
		return works, nil
	}
	var list []work
	for name := range strings.SplitSeq(only, ",") {
		found := false
		for _, w := range works {
			if w.name == name {
				list, found = append(list, w), true
			}
		}
		if !found {
			return nil, fmt.Errorf("-only: no work is called %q; there are %s", name, strings.Join(names(), ", "))
		}
	}
	return list, nil
}

func names() []string {
	list := make([]string, len(works))
	for i, w := range works {
		list[i] = w.name
	}
	return list
}

// seconds is the length of one load.
func (o *options) length() time.Duration { return time.Duration(o.seconds) * time.Second }
