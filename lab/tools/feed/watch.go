package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/selvage-edge/selvage/internal/figure"
)

// taken is one measurement of one system.
type taken struct {
	heard
	cpu    time.Duration // of the server's process while changes were written and told
	anon   int64         // the most anonymous memory that it had meanwhile
	relays time.Duration // CPU of the relays
	egress float64       // bytes that the root sent to subscribers, 0 where not asked
}

// watch measures who hears of changes when, and what that costs the server, of
// all systems in turn.
func watch(ctx context.Context, o options) ([]figure.Figure, error) {
	systems := strings.Split(o.systems, ",")
	got := map[string][]taken{}
	for round := range o.pairs {
		for i := range systems {
			name := systems[(round+i)%len(systems)] // nobody is always first
			t, err := watchOnce(ctx, o, name, 0)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			fmt.Printf("  %-8s p50 %5.1f ms, p99 %6.1f ms, slowest subscriber's p99 %6.1f ms, server %5.2f s of CPU, %4.0f MiB\n",
				name, ms(t.P50), ms(t.P99), ms(t.Slowest), t.cpu.Seconds(), float64(t.anon)/(1<<20))
			got[name] = append(got[name], t)
		}
	}
	return compare(systems, got, o), nil
}

func ms(d time.Duration) float64 { return d.Seconds() * 1000 }

// column is one measurement of each round.
func column(all []taken, of func(taken) float64) (c []float64) {
	for _, t := range all {
		c = append(c, of(t))
	}
	return c
}

func compare(systems []string, got map[string][]taken, o options) (figures []figure.Figure) {
	p50, p99 := func(t taken) float64 { return ms(t.P50) }, func(t taken) float64 { return ms(t.P99) }
	slowest, cpu := func(t taken) float64 { return ms(t.Slowest) }, func(t taken) float64 { return t.cpu.Seconds() }
	anon := func(t taken) float64 { return float64(t.anon) / (1 << 20) }
	ours := got["selvage"]
	if ours == nil {
		return nil
	}
	what := fmt.Sprintf("%d changes/s of %d bytes to %d subscribers: ", o.rate, o.value, o.subs)
	figures = append(figures,
		figure.Alone(what+"p99", "ms", column(ours, p99), 100),
		figure.Alone(what+"anonymous memory of the server", "MiB", column(ours, anon), 96))
	for _, peer := range systems {
		theirs := got[peer]
		if peer == "selvage" || theirs == nil {
			continue
		}
		bar := 0.0
		if peer == "nats" {
			bar = 0.4
		}
		for _, f := range []struct {
			name, unit string
			of         func(taken) float64
			bar        float64
		}{
			{"server CPU", "s", cpu, bar}, {"p50", "ms", p50, 0}, {"p99", "ms", p99, 0},
			{"p99 of the slowest subscriber", "ms", slowest, 0}, {"anonymous memory of the server", "MiB", anon, 0},
		} {
			figures = append(figures, figure.Beside(what+f.name, f.unit, peer, column(ours, f.of), column(theirs, f.of), f.bar))
		}
	}
	return figures
}

// relayed measures the same with relays between: what is left to the root.
func relayed(ctx context.Context, o options) ([]figure.Figure, error) {
	var flat, tree []taken
	for range o.pairs {
		for _, relays := range []int{0, o.relays} {
			t, err := watchOnce(ctx, o, "selvage", relays)
			if err != nil {
				return nil, err
			}
			fmt.Printf("  %2d relays: root sent %.2f MB/s with %.2f s of CPU, relays %.2f s of CPU, p99 %.1f ms\n",
				relays, t.egress/o.length.Seconds()/1e6, t.cpu.Seconds(), t.relays.Seconds(), ms(t.P99))
			if relays == 0 {
				flat = append(flat, t)
			} else {
				tree = append(tree, t)
			}
		}
	}
	without := fmt.Sprintf("without relays (%d relays: ", o.relays)
	return []figure.Figure{
		figure.Beside(without+"root sends)", "MB/s", "flat", column(tree, func(t taken) float64 { return t.egress / o.length.Seconds() / 1e6 }),
			column(flat, func(t taken) float64 { return t.egress / o.length.Seconds() / 1e6 }), 0),
		figure.Beside(without+"root CPU)", "s", "flat", column(tree, func(t taken) float64 { return t.cpu.Seconds() }),
			column(flat, func(t taken) float64 { return t.cpu.Seconds() }), 0),
		figure.Beside(without+"p99)", "ms", "flat", column(tree, func(t taken) float64 { return ms(t.P99) }),
			column(flat, func(t taken) float64 { return ms(t.P99) }), 0),
	}, nil
}

// watchOnce starts a server, its subscribers, and writes: two seconds to warm up,
// then what is measured.
func watchOnce(ctx context.Context, o options, system string, relays int) (t taken, err error) {
	f := &family{dir: o.dir}
	defer func() { err = errors.Join(err, f.close()) }()
	order := crowdOrder{System: system, N: o.subs, Nodes: filepath.Join(o.dir, "nodes")}
	// Nodes join once and stay, so ours keeps its folder.
	first := map[string]any{"Dir": filepath.Join(o.dir, system)}
	if system == "selvage" {
		f.root, err = f.start(ctx, system, first, &f.at)
		order.At, order.Addrs = f.at, []string{f.at.Feed}
	} else {
		var hello peerHello
		if err := os.RemoveAll(filepath.Join(o.dir, system)); err != nil {
			return t, err
		}
		f.root, err = f.start(ctx, system, first, &hello)
		order.Addrs = []string{hello.Addr}
	}
	if err != nil {
		return t, err
	}
	var tree *process
	if relays > 0 {
		if tree, err = f.start(ctx, "relays", relaysOrder{At: f.at, Nodes: filepath.Join(o.dir, "relays"), N: relays}, &order.Addrs); err != nil {
			return t, err
		}
	}
	all, err := f.start(ctx, "subscribers", order, nil)
	if err != nil {
		return t, err
	}
	return measure(f.root, tree, all, o)
}

// measure lets the server write and reads what it cost.
func measure(root, tree, all *process, o options) (t taken, err error) {
	l := load{Rate: o.rate, For: 2 * time.Second, Value: o.value, Warm: true}
	if err := root.do(map[string]any{"Load": l}, nil); err != nil {
		return t, err
	}
	if err := all.do(map[string]any{}, nil); err != nil {
		return t, err
	}
	time.Sleep(500 * time.Millisecond) // the last of it
	before, err := sample(root, tree)
	if err != nil {
		return t, err
	}
	l.For, l.Warm = o.length, false
	var w written
	done := make(chan error, 1)
	go func() { done <- root.do(map[string]any{"Load": l}, &w) }()
	for busy := true; busy; {
		select {
		case err = <-done:
			busy = false
		case <-time.After(500 * time.Millisecond):
			c, err := root.cost()
			if err != nil {
				return t, err
			}
			t.anon = max(t.anon, c.anon)
		}
	}
	if err != nil {
		return t, err
	}
	if err := all.do(map[string]any{"Changes": w.Changes}, &t.heard); err != nil {
		return t, err
	}
	after, err := sample(root, tree)
	if err != nil {
		return t, err
	}
	t.anon = max(t.anon, after[0].anon)
	t.cpu, t.relays = after[0].cpu-before[0].cpu, after[1].cpu-before[1].cpu
	t.egress = after[0].sent - before[0].sent
	return t, nil
}

// sample reads what the root and, where there are any, the relays have taken.
func sample(root, tree *process) (costs [2]cost, err error) {
	for i, p := range slices.Compact([]*process{root, tree}) {
		if p == nil {
			continue
		}
		if costs[i], err = p.cost(); err != nil {
			return costs, err
		}
	}
	if root.name == "selvage" {
		var g grown
		if err := root.do(struct{}{}, &g); err != nil {
			return costs, err
		}
		costs[0].sent = g.Sent
	}
	return costs, nil
}
