// Command soak loads a running Selvage for a long time with a mixture of requests
// over HTTP/1.1, HTTP/2 and HTTP/3, and with purges, while the way to its origin
// suffers every fault that toxiproxy knows. It holds the edges to three promises: no
// visitor ever gets a wrong byte that looks right; memory, goroutines and
// descriptors do not grow; no edge ends or prints that it panicked.
//
// Each body is a function of its path, so that whoever reads it can tell.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

type options struct {
	binary  string
	length  time.Duration
	clients int
	rate    float64 // requests per second of all visitors, 0 = as many as are answered
	out     string
}

func main() {
	var o options
	flag.StringVar(&o.binary, "selvage", "bin/selvage", "program under test")
	flag.DurationVar(&o.length, "for", time.Hour, "how long to load it")
	flag.IntVar(&o.clients, "clients", 128, "visitors at a time")
	flag.Float64Var(&o.rate, "rate", 0, "requests per second, 0 = as many as are answered")
	flag.StringVar(&o.out, "out", "bench/out/soak.json", "file for the figures")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
	}
}

const host = "soak.test"

// dev is what dev.json says.
type dev struct {
	API, Token string
	Edges      []struct {
		HTTP, HTTPS, Metrics string
		PID                  int
	}
	log string // file with what all processes print
}

func run(ctx context.Context, o options) (err error) {
	dir, err := os.MkdirTemp("", "selvage-soak-")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			fmt.Println("state and logs are left in", dir)
			return
		}
		err = os.RemoveAll(dir)
	}()
	src, err := startOrigin(ctx)
	if err != nil {
		return err
	}
	defer src.close()
	d, stop, err := startSelvage(ctx, o, dir, src.faulty)
	if err != nil {
		return err
	}
	defer stop()

	loading, done := context.WithTimeout(ctx, o.length)
	defer done()
	w := &watch{dev: d}
	var t tally
	var work sync.WaitGroup
	work.Go(func() { src.suffer(loading) })
	for i := range o.clients {
		work.Go(func() { visit(loading, o, d, i, &t) })
	}
	work.Go(func() { purge(loading, d, &t) })
	if err := w.run(loading, &t); err != nil {
		done()
		work.Wait()
		return err
	}
	work.Wait()
	src.heal()
	if err := w.settle(ctx); err != nil {
		return err
	}
	return report(o, w, &t)
}

// startSelvage runs dev with two edges, small tiers and the origin behind the
// faults.
func startSelvage(ctx context.Context, o options, dir, origin string) (*dev, func(), error) {
	state := filepath.Join(dir, "state")
	log, err := os.Create(filepath.Join(dir, "selvage.out"))
	if err != nil {
		return nil, nil, err
	}
	cmd := exec.CommandContext(ctx, o.binary, "dev", "--state", state, "--no-demo", "--edges", "2", "--cache-bytes", "32MiB", "--cache-disk-bytes", "256MiB",
		"--api", "127.0.0.1:0", "--http", "127.0.0.1:0", "--https", "127.0.0.1:0", "--dns", "127.0.0.1:0")
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 40 * time.Second
	if err := cmd.Start(); err != nil {
		return nil, nil, errors.Join(err, log.Close())
	}
	stop := func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended already
		_ = cmd.Wait()                          // how it ended is in its output
		_ = log.Close()
	}
	d := &dev{log: log.Name()}
	for until := time.Now().Add(30 * time.Second); ; {
		text, err := os.ReadFile(filepath.Join(state, "dev.json"))
		if err == nil {
			if err = json.Unmarshal(text, d); err == nil {
				break
			}
		}
		if time.Now().After(until) {
			stop()
			out, _ := os.ReadFile(log.Name()) // what is missing shows in the message
			return nil, nil, fmt.Errorf("start selvage: %w\n%s", err, out)
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
		}
	}
	if out, err := exec.CommandContext(ctx, o.binary, "zone", "add", host, "--origin", "http://"+origin, "--state", state).CombinedOutput(); err != nil {
		stop()
		return nil, nil, fmt.Errorf("zone add: %w: %s", err, out)
	}
	return d, stop, nil
}
