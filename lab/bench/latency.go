package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/selvage-edge/selvage/internal/figure"
)

// Latency is looked at under a load that does not wait for the server: h2load
// sends at a rate. 70 % of what wrk gets out of the same server is the rate of
// the target, a tenth of it what visitors ask beside an attack.
const (
	busyShare   = .70
	besideShare = .10
)

// latency returns the p99 in ms at busyShare.
func latency(warm func(*field, *server) error, urls func(*field) (string, error)) func(*field, *server) (float64, error) {
	return func(f *field, s *server) (float64, error) {
		if err := warm(f, s); err != nil {
			return 0, err
		}
		rate, err := f.saturation(s, urls)
		if err != nil {
			return 0, err
		}
		file, err := urls(f)
		if err != nil {
			return 0, err
		}
		return f.p99(f.ctx, s, file, rate*busyShare)
	}
}

// saturation is how many requests a second the server answers when as many as
// possible are sent.
func (f *field) saturation(s *server, urls func(*field) (string, error)) (float64, error) {
	file, err := urls(f)
	if err != nil {
		return 0, err
	}
	n, err := f.h2loadH1(f.ctx, s, file, "")
	return float64(n) / f.o.length().Seconds(), err
}

// h2loadH1 asks for the URLs of a file in turn and returns how many answers
// came.
func (f *field) h2loadH1(ctx context.Context, s *server, file, log string, more ...string) (int, error) {
	args := []string{"-c", "1", "h2load", "--h1", "-t1", "-c" + strconv.Itoa(f.o.conns), fmt.Sprintf("-D%d", f.o.seconds), "--connect-to=" + s.http, "-i", file}
	if log != "" {
		args = append(args, "--log-file="+log)
	}
	ctx, cancel := context.WithTimeout(ctx, f.o.length()+60*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, "taskset", append(args, more...)...).CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("h2load: %w: %s", err, out)
	}
	return h2loadCount(out)
}

// p99 sends at a rate and returns the 99th percentile of the answers' times in
// ms.
func (f *field) p99(ctx context.Context, s *server, file string, rate float64) (float64, error) {
	log := filepath.Join(f.dir, "h2load.log")
	if err := os.Remove(log); err != nil && !errors.Is(err, os.ErrNotExist) {
		return 0, err
	}
	if _, err := f.h2loadH1(ctx, s, file, log, "--rps="+strconv.Itoa(max(1, int(rate)/f.o.conns))); err != nil {
		return 0, err
	}
	return p99Of(log)
}

// p99Of reads h2load's log: start, status and microseconds, by tabs.
func p99Of(file string) (float64, error) {
	f, err := os.Open(file)
	if err != nil {
		return 0, err
	}
	defer func() { _ = f.Close() }() // read to its end or to an error
	var times []float64
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		columns := strings.Split(lines.Text(), "\t")
		if len(columns) < 3 || columns[1] != "200" {
			return 0, fmt.Errorf("unexpected line in h2load's log: %.100q", lines.Text())
		}
		n, err := strconv.ParseFloat(columns[2], 64)
		if err != nil {
			return 0, err
		}
		times = append(times, n/1000)
	}
	if err := lines.Err(); err != nil {
		return 0, err
	}
	if len(times) < 100 {
		return 0, fmt.Errorf("%d answers are too few for a p99", len(times))
	}
	slices.Sort(times)
	return figure.Quantile(times, .99), nil
}

func warm1K(f *field, s *server) error { return f.warm(s, "/1k") }

// urls1K and urlsDisk write the files that h2load reads.
func urls1K(f *field) (string, error) { return f.urls("/1k") }

func urlsDisk(f *field) (string, error) {
	paths := make([]string, diskSet)
	for i := range paths {
		paths[i] = "/disk/" + strconv.Itoa(i*7%diskSet)
	}
	return f.urls(paths...)
}

func (f *field) urls(paths ...string) (string, error) {
	file := filepath.Join(f.dir, "urls")
	var b strings.Builder
	for _, p := range paths {
		b.WriteString("http://" + host + p + "\n")
	}
	return file, os.WriteFile(file, []byte(b.String()), 0o600)
}

// slow attacks the server in one of slowhttptest's modes and returns the p99 of
// other visitors as a multiple of the worse of two undisturbed runs.
func slow(mode ...string) func(*field, *server) (float64, error) {
	return func(f *field, s *server) (float64, error) {
		if err := f.warm(s, "/1k"); err != nil {
			return 0, err
		}
		if err := f.warm(s, "/1m"); err != nil { // what slow readers take
			return 0, err
		}
		rate, err := f.saturation(s, urls1K)
		if err != nil {
			return 0, err
		}
		file, err := urls1K(f)
		if err != nil {
			return 0, err
		}
		calm := 0.0
		for range 2 {
			p, err := f.p99(f.ctx, s, file, rate*besideShare)
			if err != nil {
				return 0, err
			}
			calm = max(calm, p)
		}
		attacked, err := f.attacked(s, file, rate*besideShare, mode)
		fmt.Printf("%v: p99 %.3f ms, undisturbed %.3f ms\n", mode, attacked, calm)
		return attacked / calm, err
	}
}

// attacked is p99 while slowhttptest holds a thousand connections.
func (f *field) attacked(s *server, file string, rate float64, mode []string) (float64, error) {
	ctx, stop := context.WithCancel(f.ctx)
	defer stop()
	args := append([]string{"-c", "1", "slowhttptest", "-c", "1000", "-r", "1000", "-i", "1", "-l", strconv.Itoa(f.o.seconds + 30), "-u", "http://" + s.http + "/1m"}, mode...)
	cmd := exec.CommandContext(ctx, "taskset", args...)
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	defer func() {
		stop()
		_ = cmd.Wait() // it was told to end
	}()
	select { // until its connections are there
	case <-time.After(3 * time.Second):
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	return f.p99(f.ctx, s, file, rate)
}
