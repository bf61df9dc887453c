// Package health keeps how each node is, and was for an hour. It promises that
// any control process answers for the nodes of all that share its database, about
// two seconds late, that an hour's minutes survive a restart, and that what it
// holds is bounded by the number of nodes.
package health

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/selvage-edge/selvage/control/store"
	"github.com/selvage-edge/selvage/feed"
	"github.com/selvage-edge/selvage/telemetry/report"
)

const (
	// keptSeconds is how many samples of a node are kept as they came, one each
	// second; before them one of each minute, for as long as the database has it.
	keptSeconds = 120
	keptFor     = store.HealthSlots * time.Minute
	// sampleEvery is the least time between two samples that are kept; one that
	// comes earlier takes the other's place.
	sampleEvery = 500 * time.Millisecond
	// Fresh is for how long a sample says how a node is.
	Fresh = 10 * time.Second
)

// Config is what a Book is made from.
type Config struct {
	Store *store.Store
	// Control names this control process among those of the database.
	Control string
	Log     *slog.Logger
}

// Sample is how a node was at a time.
type Sample struct {
	At time.Time `json:"at"` // when the control plane heard of it
	report.Health
}

// Book is where nodes' health is kept. Safe for concurrent use.
type Book struct {
	Config

	mu    sync.Mutex
	nodes map[string]*node // guarded by mu
}

// node is what is known of one, both oldest first.
type node struct {
	seconds, minutes []Sample
	dirty            bool // the newest is not written yet, and was heard here
}

// New makes a Book that knows what the database does; Run keeps it so.
func New(ctx context.Context, c Config) (*Book, error) {
	b := &Book{Config: c, nodes: map[string]*node{}}
	return b, b.read(ctx, time.Now().Add(-keptFor), true)
}

// Take is the feed's reader of feed.ClassHealth.
func (b *Book) Take(r feed.Report) error {
	h, err := report.DecodeHealth(r.Payload)
	if err != nil {
		return err
	}
	b.note(r.Node.Node, Sample{time.Now().UTC(), h}, true)
	return nil
}

func (b *Book) note(id string, s Sample, here bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := b.nodes[id]
	if n == nil {
		n = &node{}
		b.nodes[id] = n
	}
	if last := len(n.seconds) - 1; last >= 0 {
		since := s.At.Sub(n.seconds[last].At)
		if since <= 0 {
			return
		}
		if since < sampleEvery && n.seconds[last].Started.Equal(s.Started) {
			n.seconds = n.seconds[:last]
		}
	}
	n.seconds = append(n.seconds, s)
	n.seconds = n.seconds[max(0, len(n.seconds)-keptSeconds):]
	if last := len(n.minutes) - 1; last >= 0 && n.minutes[last].At.Truncate(time.Minute).Equal(s.At.Truncate(time.Minute)) {
		n.minutes = n.minutes[:last]
	}
	n.minutes = append(n.minutes, s)
	n.minutes = n.minutes[max(0, len(n.minutes)-store.HealthSlots):]
	n.dirty = here
}

// Newest is how a node is, or was last; ok is false for one that was not heard of.
func (b *Book) Newest(id string) (s Sample, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := b.nodes[id]
	if n == nil {
		return Sample{}, false
	}
	return n.seconds[len(n.seconds)-1], true
}

// Since is how a node was from a time on, oldest first: the last sample up to
// then, where one is known, to compare with, and all that are known of later. Of
// the last two minutes there is one each second, before that one each minute.
func (b *Book) Since(id string, t time.Time) []Sample {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := b.nodes[id]
	if n == nil {
		return nil
	}
	first := n.seconds[0].At
	all := slices.DeleteFunc(slices.Clone(n.minutes), func(s Sample) bool { return !s.At.Before(first) })
	all = append(all, n.seconds...)
	from := 0
	for from+1 < len(all) && !all[from+1].At.After(t) {
		from++
	}
	return all[from:]
}

// Run writes what was heard, and reads what others did, until ctx ends. What
// fails is tried again.
func (b *Book) Run(ctx context.Context) error {
	each := writeAlone
	if b.Store.Shared() {
		each = writeShared
	}
	tick := time.NewTicker(each)
	defer tick.Stop()
	for failing := false; ; {
		select {
		case <-ctx.Done():
			end, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWrite)
			defer cancel()
			if err := b.flush(end); err != nil {
				b.Log.Warn("how nodes are is not written at the end", "error", err)
			}
			return nil
		case <-tick.C:
		}
		err := b.flush(ctx)
		if err == nil && b.Store.Shared() {
			err = b.read(ctx, time.Now().Add(-window), false)
		}
		if err != nil && ctx.Err() == nil && !failing {
			b.Log.Warn("how nodes are is not written or read, trying again", "error", err)
		}
		failing = err != nil
	}
}

const (
	// writeShared is how often what is new is written where other processes read
	// it, and writeAlone where it is only for the next start.
	writeShared = time.Second
	writeAlone  = 10 * time.Second
	// window is how far back what others wrote is read: their clocks may differ.
	window    = 30 * time.Second
	lastWrite = 3 * time.Second
)

// flush writes what was heard here, and forgets nodes that are long gone.
func (b *Book) flush(ctx context.Context) error {
	old := time.Now().Add(-keptFor)
	var rows []store.Health
	b.mu.Lock()
	for id, n := range b.nodes {
		newest := n.seconds[len(n.seconds)-1]
		if newest.At.Before(old) {
			delete(b.nodes, id)
			continue
		}
		if !n.dirty {
			continue
		}
		n.dirty = false
		text, err := newest.Encode()
		if err != nil {
			b.Log.Error("how a node is cannot be written", "node", id, "error", err)
			continue
		}
		rows = append(rows, store.Health{Node: id, At: newest.At, Control: b.Control, Document: string(text)})
	}
	b.mu.Unlock()
	if len(rows) == 0 {
		return nil
	}
	err := b.Store.Write(ctx, func(tx *store.Tx) error {
		if err := tx.TrimHealth(ctx, old); err != nil {
			return err
		}
		return tx.PutHealth(ctx, rows)
	})
	if err == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range rows {
		if n := b.nodes[r.Node]; n != nil {
			n.dirty = true
		}
	}
	return err
}

// read takes over what was written after a time: by other processes, or, own, by
// this one before it started.
func (b *Book) read(ctx context.Context, after time.Time, own bool) error {
	var all []store.Health
	if err := b.Store.Read(ctx, func(tx *store.Tx) error {
		all = nil
		return tx.HealthSince(ctx, after, func(h store.Health) { all = append(all, h) })
	}); err != nil {
		return err
	}
	for _, row := range all {
		if row.Control == b.Control && !own {
			continue
		}
		h, err := report.DecodeHealth([]byte(row.Document))
		if err != nil {
			b.Log.Warn("how a node was cannot be read", "node", row.Node, "error", err)
			continue
		}
		b.note(row.Node, Sample{row.At, h}, false)
	}
	return nil
}

// troubled are the nodes that said within the last seconds why they are not
// healthy.
func (b *Book) troubled() (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, x := range b.nodes {
		if s := x.seconds[len(x.seconds)-1]; len(s.Problems) > 0 && time.Since(s.At) < Fresh {
			n++
		}
	}
	return n
}

var descTroubled = prometheus.NewDesc("selvage_health_troubled_nodes", "Edges that say why they are not healthy; `selvage feed status` shows it.", nil, nil)

// Describe implements prometheus.Collector.
func (b *Book) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(b, ch) }

// Collect implements prometheus.Collector.
func (b *Book) Collect(ch chan<- prometheus.Metric) {
	ch <- prometheus.MustNewConstMetric(descTroubled, prometheus.GaugeValue, float64(b.troubled()))
}
