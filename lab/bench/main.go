// Command bench compares what a cached answer costs the server: Selvage's edge
// against nginx proxy_cache, taking turns on CPU 0 while wrk runs on CPU 1.
// Both serve the same objects of one origin and write an access log to a file.
// What counts is the server's own CPU time, user and system, per request.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"
)

type options struct {
	binary  string
	pairs   int
	seconds int
	conns   int
	out     string
	only    string
}

// workload is one object that both serve, and the bar for it.
type workload struct {
	name string
	path string
	size int
	bar  float64 // highest ratio ours/theirs that is accepted; 0 = none is set
}

func workloads() []workload {
	return []workload{
		{"cached answer of 1 KiB, server CPU per request", "/1k", 1 << 10, 1.0},
		{"cached answer of 32 KiB, server CPU per request", "/32k", 32 << 10, 0},
	}
}

// server is one of the two programs under load.
type server struct {
	name string
	addr string
	pids func() ([]int, error) // whose CPU time counts
}

func main() {
	var o options
	flag.StringVar(&o.binary, "selvage", "bin/selvage", "program to measure")
	flag.IntVar(&o.pairs, "pairs", 7, "how often the two take turns, from 1 to 100; seven and more judge the bar")
	flag.IntVar(&o.seconds, "seconds", 5, "length of one load, from 1 to 60")
	flag.IntVar(&o.conns, "connections", 32, "wrk's connections")
	flag.StringVar(&o.out, "out", "bench/out/hit.json", "file for the figures")
	flag.StringVar(&o.only, "only", "", "path of the only object to measure, such as /1k")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) (err error) {
	if o.pairs < 1 || o.pairs > 100 || o.seconds < 1 || o.seconds > 60 {
		return errors.New("-pairs is from 1 to 100, -seconds from 1 to 60")
	}
	dir, err := os.MkdirTemp("", "selvage-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	source, err := startOrigin(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, source.Close()) }()
	ours, stopOurs, err := startSelvage(ctx, o.binary, dir, source.Addr)
	if err != nil {
		return err
	}
	defer stopOurs()
	theirs, stopTheirs, err := startNginx(ctx, dir, source.Addr)
	if err != nil {
		return err
	}
	defer stopTheirs()

	var figures []figure
	for _, w := range workloads() {
		if o.only != "" && o.only != w.path {
			continue
		}
		f, err := compare(ctx, o, w, ours, theirs)
		if err != nil {
			return err
		}
		fmt.Println(f)
		figures = append(figures, f)
	}
	return report(o.out, figures)
}

// compare lets the two take turns; who begins alternates, so that neither
// always has the warmer machine.
func compare(ctx context.Context, o options, w workload, ours, theirs *server) (figure, error) {
	for _, s := range []*server{ours, theirs} {
		if err := warm(ctx, s, w); err != nil {
			return figure{}, err
		}
	}
	var pairs []pair
	for i := 0; len(pairs) < o.pairs; i++ {
		p, err := turn(ctx, o, w, i, ours, theirs)
		if err != nil {
			return figure{}, err
		}
		note := ""
		if p.stolen > maxStolen && i < o.pairs*retries {
			note = fmt.Sprintf(", put aside: the host took %.0f %% of the time", p.stolen*100)
		} else {
			pairs = append(pairs, p)
		}
		fmt.Printf("%s pair %d of %d: %s %.2f µs, %s %.2f µs, ratio %.3f%s\n", w.path, len(pairs), o.pairs, ours.name, p.ours, theirs.name, p.theirs, p.ratio(), note)
	}
	return summarise(w, theirs.name, pairs), nil
}

// turn measures both once; i is the number of the turn.
func turn(ctx context.Context, o options, w workload, i int, ours, theirs *server) (pair, error) {
	var p pair
	turns := []struct {
		s    *server
		cost *float64
	}{{ours, &p.ours}, {theirs, &p.theirs}}
	if i%2 == 1 {
		turns[0], turns[1] = turns[1], turns[0]
	}
	before, err := stolen()
	if err != nil {
		return p, err
	}
	began := time.Now()
	for _, turn := range turns {
		if *turn.cost, err = measure(ctx, turn.s, w, o.conns, time.Duration(o.seconds)*time.Second); err != nil {
			return p, err
		}
	}
	after, err := stolen()
	p.stolen = float64(after-before) / float64(time.Since(began)*time.Duration(runtime.NumCPU()))
	return p, err
}
