// Command kill runs a control plane, relays and edges, each a process of its own,
// while changes are written, kills each of them in turn with SIGKILL, starts it
// again, and measures after what time it stands at the head again and after what
// time all do. In the end nothing that was acknowledged may be missing anywhere,
// and all copies must be the same. It leaves with an error when one is not.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/selvage-edge/selvage/internal/figure"
)

type options struct {
	binary string
	relays int
	edges  int
	rate   int
	zones  int
	bar    time.Duration
	dir    string
	out    string
}

func main() {
	var o options
	flag.StringVar(&o.binary, "selvage", "bin/selvage", "program under test")
	flag.IntVar(&o.relays, "relays", 3, "relays, edges of which others take the feed")
	flag.IntVar(&o.edges, "edges", 24, "edges below them")
	flag.IntVar(&o.rate, "rate", 50, "changes a second")
	flag.IntVar(&o.zones, "zones", 20, "zones that are changed")
	flag.DurationVar(&o.bar, "bar", 5*time.Second, "the longest that who was killed may take to stand at the head again")
	flag.StringVar(&o.dir, "dir", "", "folder on the disk for state; empty for a temporary one")
	flag.StringVar(&o.out, "out", "bench/out/kill.json", "file for the figures")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	figures, err := run(ctx, o)
	stop()
	for _, f := range figures {
		fmt.Println(f)
	}
	if err == nil {
		err = errors.Join(figure.Write(o.out, figures), figure.Missed(figures))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "kill:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) (figures []figure.Figure, err error) {
	dir, err := os.MkdirTemp(o.dir, "selvage-kill-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	n, err := startNetwork(ctx, o, dir)
	if err != nil {
		return nil, errors.Join(err, n.end())
	}
	l, err := startLoad(ctx, n, o)
	if err != nil {
		return nil, errors.Join(err, n.end())
	}
	took := map[string][]float64{}
	for _, p := range n.all {
		again, every, err := n.killOne(ctx, p)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("%s was killed: %w", p.name, err), l.end(), n.end())
		}
		fmt.Printf("  %-12s stands at the head %5.2f s after it was killed, all do after %5.2f s\n", p.name, again.Seconds(), every.Seconds())
		took[p.kind] = append(took[p.kind], again.Seconds())
		took["all"] = append(took["all"], every.Seconds())
	}
	if err := l.end(); err != nil {
		return nil, errors.Join(err, n.end())
	}
	if _, err := n.settled(ctx, nil, time.Minute); err != nil {
		return nil, errors.Join(err, n.end())
	}
	if err := n.end(); err != nil {
		return nil, err
	}
	missing, different, err := n.compare(l)
	if err != nil {
		return nil, err
	}
	for _, kind := range []string{"control", "relay", "edge"} {
		figures = append(figures, figure.Most("after SIGKILL, until the "+kind+" stands at the head again, worst", "s", took[kind], 1, o.bar.Seconds()))
	}
	return append(figures,
		figure.Most("after SIGKILL, until all nodes stand at the head, worst", "s", took["all"], 1, 2*o.bar.Seconds()),
		figure.Count(fmt.Sprintf("of %d acknowledged changes, missing in the copy of some node", len(l.acked)), "changes", missing, 0),
		figure.Count(fmt.Sprintf("of %d nodes, copies that are not the log's state", len(n.nodes())), "copies", different, 0),
	), nil
}

// copyDir is where a node keeps its copy.
func copyDir(state string) string { return filepath.Join(state, "copy") }
