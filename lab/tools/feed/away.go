package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/selvage-edge/selvage/internal/figure"
)

// family is a control plane and those below it, each a process.
type family struct {
	dir  string
	root *process
	at   selvageHello
	all  []*process
}

func newFamily(ctx context.Context, dir string) (*family, error) {
	f := &family{dir: dir}
	root, err := f.start(ctx, "selvage", map[string]any{"Dir": filepath.Join(dir, "control")}, &f.at)
	f.root = root
	return f, err
}

func (f *family) start(ctx context.Context, name string, first, into any) (*process, error) {
	p, err := start(ctx, name, first, into)
	if err == nil {
		f.all = append(f.all, p)
	}
	return p, err
}

// copy starts an edge's side of the feed, whose folders have a name.
func (f *family) copy(ctx context.Context, name string, relay bool, parents ...string) (p *process, feed string, err error) {
	var hello copyHello
	p, err = f.start(ctx, "copy", copyOrder{
		At: f.at, Nodes: filepath.Join(f.dir, name), Dir: filepath.Join(f.dir, name+"-copy"), Parents: parents, Relay: relay,
	}, &hello)
	return p, hello.Feed, err
}

// stop ends one process, the last ones of a family first.
func (f *family) stop(p *process) error {
	for i, other := range f.all {
		if other == p {
			f.all = append(f.all[:i:i], f.all[i+1:]...)
			return p.end()
		}
	}
	return nil
}

func (f *family) close() (err error) {
	for len(f.all) > 0 {
		err = errors.Join(err, f.stop(f.all[len(f.all)-1]))
	}
	return err
}

// grown is what the control plane says of an order to write.
type grown struct {
	head
	Bytes int64   // of the zones
	Sent  float64 // to subscribers, frames as the metric counts them
}

// follows waits for a copy to stand where the log does.
func (f *family) follows(p *process, read string) (r reached, err error) {
	var at grown // joining moved it
	if err := f.root.do(struct{}{}, &at); err != nil {
		return r, err
	}
	if err = p.do(map[string]any{"Seq": at.Seq, "Read": read}, &r); err == nil && r.Hash != at.Hash {
		err = fmt.Errorf("a copy at %d has hash %s, the log %s", at.Seq, r.Hash, at.Hash)
	}
	return r, err
}

// missed measures how long an edge takes that was away for many changes: from
// the start of its process, its copy read and checked, to the last change stored,
// synced and acknowledged.
func missed(ctx context.Context, o options) (figures []figure.Figure, err error) {
	for _, from := range []string{"the control plane", "a relay"} {
		var seconds []float64
		for i := range o.pairs {
			took, err := missedOnce(ctx, o, filepath.Join(o.dir, fmt.Sprintf("missed-%d", i)), from == "a relay")
			if err != nil {
				return nil, err
			}
			fmt.Printf("  from %s: %.2f s\n", from, took)
			seconds = append(seconds, took)
		}
		figures = append(figures, figure.Alone(fmt.Sprintf("an edge away for %d changes of %d bytes stands at the head, from %s", o.missed, o.value, from), "s", seconds, 5))
	}
	return figures, nil
}

func missedOnce(ctx context.Context, o options, dir string, viaRelay bool) (seconds float64, err error) {
	if viaRelay {
		dir += "-relay"
	}
	f, err := newFamily(ctx, dir)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	var at grown
	if err := f.root.do(map[string]any{"Changes": 5000, "Value": o.value}, &at); err != nil {
		return 0, err
	}
	parent, relay := f.at.Feed, (*process)(nil)
	if viaRelay {
		if relay, parent, err = f.copy(ctx, "relay", true, f.at.Feed); err != nil {
			return 0, err
		}
	}
	edge, _, err := f.copy(ctx, "edge", false, parent)
	if err != nil {
		return 0, err
	}
	if _, err := f.follows(edge, ""); err != nil {
		return 0, err
	}
	if err := f.stop(edge); err != nil {
		return 0, err
	}
	if err := f.root.do(map[string]any{"Changes": o.missed, "Value": o.value}, &at); err != nil {
		return 0, err
	}
	if relay != nil {
		if _, err := f.follows(relay, ""); err != nil {
			return 0, err
		}
	}
	before, err := f.root.cost()
	if err != nil {
		return 0, err
	}
	if edge, _, err = f.copy(ctx, "edge", false, parent); err != nil {
		return 0, err
	}
	r, err := f.follows(edge, prefix+"last")
	if err != nil {
		return 0, err
	}
	after, err := f.root.cost()
	if err != nil {
		return 0, err
	}
	took, err := edge.cost()
	if err == nil && r.Entries < uint64(o.missed) {
		err = fmt.Errorf("%d entries came one by one, want %d", r.Entries, o.missed)
	}
	fmt.Printf("  control %.2f s of CPU, edge %.2f s of CPU, %.2f s to read its copy first\n",
		(after.cpu - before.cpu).Seconds(), took.cpu.Seconds(), r.Opened.Seconds())
	return r.Took.Seconds(), err
}

// fresh measures how fast a new edge takes in the state of many zones: bytes of
// keys and values by the time from the start of its process.
func fresh(ctx context.Context, o options) (figures []figure.Figure, err error) {
	f, err := newFamily(ctx, filepath.Join(o.dir, "fresh"))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	var at grown
	if err := f.root.do(map[string]any{"Zones": o.zones}, &at); err != nil {
		return nil, err
	}
	relay, below, err := f.copy(ctx, "relay", true, f.at.Feed)
	if err != nil {
		return nil, err
	}
	if _, err := f.follows(relay, ""); err != nil {
		return nil, err
	}
	for _, from := range []struct{ name, parent string }{{"a relay", below}, {"the control plane", f.at.Feed}} {
		var pace []float64
		for i := range min(o.pairs, 3) {
			edge, _, err := f.copy(ctx, fmt.Sprintf("edge-%s-%d", from.name[2:3], i), false, from.parent)
			if err != nil {
				return nil, err
			}
			var r reached
			// Joining moved the head; the state is that of the order or newer.
			if err := edge.do(map[string]any{"Seq": at.Seq, "Read": "none"}, &r); err != nil {
				return nil, err
			}
			took, err := edge.cost()
			if err != nil {
				return nil, err
			}
			mb := float64(at.Bytes) / 1e6
			fmt.Printf("  from %s: %.0f MB in %.2f s, edge %.2f s of CPU, %d reads meanwhile, the slowest %.1f ms\n",
				from.name, mb, r.Took.Seconds(), took.cpu.Seconds(), r.Reads, r.Slowest.Seconds()*1000)
			// As time per megabyte, of which the bar is the most.
			pace = append(pace, r.Took.Seconds()*1000/mb)
			if err := f.stop(edge); err != nil {
				return nil, err
			}
		}
		figures = append(figures, figure.Alone(fmt.Sprintf("a new edge takes in %d zones from %s (20 ms/MB = 50 MB/s)", o.zones, from.name), "ms/MB", pace, 20))
	}
	return figures, nil
}
