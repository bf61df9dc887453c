package progress

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/selvage-edge/selvage/control/identity"
	"github.com/selvage-edge/selvage/control/store"
	"github.com/selvage-edge/selvage/control/store/storetest"
	"github.com/selvage-edge/selvage/feed"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func at(seconds int) time.Time { return noon.Add(time.Duration(seconds) * time.Second) }

// world is what books know of: a log whose entry n is of n seconds past noon.
type world struct {
	place string
	head  uint64
	nodes []identity.Node
}

func newWorld(t *testing.T) *world {
	return &world{place: storetest.Place(t), head: 10, nodes: []identity.Node{{ID: "a", Colo: "FRA", Created: noon}, {ID: "b", Colo: "NRT", Created: noon}}}
}

func (w *world) book(t *testing.T, control string) *Book {
	t.Helper()
	s, err := store.Open(t.Context(), w.place)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	b, err := New(t.Context(), Config{
		Store: s, Control: control, Log: slog.New(slog.DiscardHandler),
		Nodes: func(context.Context) ([]identity.Node, error) { return slices.Clone(w.nodes), nil },
		Head:  func() uint64 { return w.head },
		Time:  func(seq uint64) time.Time { return at(int(seq)) },
		Times: func(dst []time.Time, after, through uint64) []time.Time {
			for seq := after + 1; seq <= min(through, w.head); seq++ {
				dst = append(dst, at(int(seq)))
			}
			return dst
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// of returns what a book says of a node, read anew.
func of(t *testing.T, b *Book, id string, seq uint64) Node {
	t.Helper()
	b.mu.Lock()
	b.read = time.Time{}
	b.mu.Unlock()
	if err := b.refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	all, err := b.At(t.Context(), seq)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range all {
		if n.ID == id {
			return n
		}
	}
	t.Fatalf("no node %s in %v", id, all)
	return Node{}
}

func flush(t *testing.T, b *Book) {
	t.Helper()
	if err := b.flush(t.Context(), true); err != nil {
		t.Fatal(err)
	}
}

func TestNodeComesReportsAndGoes(t *testing.T) {
	b := newWorld(t).book(t, "x")
	if n := of(t, b, "a", 1); n.Connected || !n.Since.IsZero() || n.Lag != 10 || !n.Waits.Equal(at(1)) {
		t.Errorf("never seen: %+v", n)
	}
	first := feed.NodeInfo{Node: "a", Colo: "FRA", Addr: "192.0.2.1:9", Since: at(20), Acked: 4}
	b.Connected(first, at(20))
	b.Note(first, 6, "", at(21))
	b.Note(first, 7, "cannot be compiled", at(22))
	b.Note(first, 9, "", at(23))
	n := of(t, b, "a", 6)
	if !n.Connected || n.Applied != 9 || n.Lag != 1 || !n.Waits.Equal(at(10)) || !n.Reached.Equal(at(21)) || n.Control != "x" || n.Addr != first.Addr {
		t.Errorf("connected: %+v", n)
	}
	if r, ok := n.Rejection(7); !ok || r.Reason != "cannot be compiled" {
		t.Errorf("rejections: %+v", n.Rejected)
	}
	if got := n.Behind(at(13)); got != 3*time.Second {
		t.Errorf("behind %s", got)
	}
	// It comes again before the end of its old connection is noticed.
	second := first
	second.Since, second.Acked = at(30), 9
	b.Connected(second, at(30))
	b.Disconnected(first, at(31))
	b.Note(first, 3, "", at(31))
	if n := of(t, b, "a", 0); !n.Connected || n.Applied != 9 {
		t.Errorf("after the end of its first connection: %+v", n)
	}
	b.Disconnected(second, at(32))
	if n := of(t, b, "a", 0); n.Connected || !n.Since.Equal(at(32)) || n.Applied != 9 {
		t.Errorf("gone: %+v", n)
	}
	// One that lost its copy begins again.
	third := first
	third.Since, third.Acked = at(40), 0
	b.Connected(third, at(40))
	if n := of(t, b, "a", 6); n.Applied != 0 || !n.Reached.IsZero() {
		t.Errorf("begins again: %+v", n)
	}
}

func TestDelayIsOfEachEntryAndNode(t *testing.T) {
	b := newWorld(t).book(t, "x")
	n := feed.NodeInfo{Node: "a", Colo: "FRA", Since: at(20), Acked: 4}
	b.Connected(n, at(20))
	b.Note(n, 6, "", at(7))  // two entries, 2 s and 1 s after theirs
	b.Note(n, 6, "", at(30)) // nothing new
	fresh := feed.NodeInfo{Node: "b", Colo: "NRT", Since: at(20)}
	b.Connected(fresh, at(20))
	b.Note(fresh, 10, "", at(100)) // it was not waited for
	r := prometheus.NewRegistry()
	r.MustRegister(b.delay)
	all, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	if h := all[0].Metric[0].GetHistogram(); h.GetSampleCount() != 2 || h.GetSampleSum() != 3 {
		t.Errorf("%d delays of %g s", h.GetSampleCount(), h.GetSampleSum())
	}
}

func TestAcknowledgementsAreBounded(t *testing.T) {
	x := &node{}
	for seq := range uint64(3 * keptAcks) {
		x.reached(seq+1, at(int(seq)))
	}
	if len(x.acks) != keptAcks || !x.reachedAt(3*keptAcks).Equal(at(3*keptAcks-1)) || !x.reachedAt(1).Equal(at(2*keptAcks)) || !x.reachedAt(3*keptAcks+1).IsZero() {
		t.Errorf("%d kept; last %s, first %s", len(x.acks), x.reachedAt(3*keptAcks), x.reachedAt(1))
	}
	for seq := range uint64(100) {
		x.reject(store.Rejection{Seq: 100 - seq%50})
	}
	if len(x.rejected) != store.KeptRejections || x.rejected[len(x.rejected)-1].Seq != 100 {
		t.Errorf("%d rejections, the newest %d", len(x.rejected), x.rejected[len(x.rejected)-1].Seq)
	}
}

func TestNextStartKnowsSinceWhen(t *testing.T) {
	w := newWorld(t)
	b := w.book(t, "x")
	n := feed.NodeInfo{Node: "a", Colo: "FRA", Since: at(1), Acked: 4}
	b.Connected(n, at(1))
	b.Note(n, 5, "no", at(2))
	b.Disconnected(n, at(4))
	n.Node = "b"
	b.Connected(n, at(2))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.Run(ctx); err != nil {
		t.Fatal(err)
	}
	next := w.book(t, "y")
	if n := of(t, next, "a", 5); n.Connected || !n.Since.Equal(at(4)) || n.Applied != 5 || len(n.Rejected) != 1 || !n.Reached.Equal(at(2)) {
		t.Errorf("next start: %+v", n)
	}
	if n := of(t, next, "b", 5); n.Connected || n.Since.Before(at(3)) {
		t.Errorf("connected at the end: %+v", n)
	}
}

func TestOneAnswersForNodesOfAnother(t *testing.T) {
	w := newWorld(t)
	x, y := w.book(t, "x"), w.book(t, "y")
	n := feed.NodeInfo{Node: "a", Colo: "FRA", Since: at(1), Acked: 4}
	x.Connected(n, at(1))
	x.Note(n, 6, "no", at(2))
	flush(t, x)
	if n := of(t, y, "a", 6); !n.Connected || n.Applied != 6 || n.Control != "x" || len(n.Rejected) != 1 {
		t.Errorf("of the other's: %+v", n)
	}
	// It moves; the one it left notices late.
	moved := n
	moved.Since, moved.Acked = at(10), 6
	y.Connected(moved, at(10))
	y.Note(moved, 8, "", at(11))
	flush(t, y)
	x.Disconnected(n, at(20))
	flush(t, x)
	for _, b := range []*Book{x, y} {
		if n := of(t, b, "a", 0); !n.Connected || n.Applied != 8 || n.Control != "y" {
			t.Errorf("%s of one that moved: %+v", b.Control, n)
		}
	}
	// A late word of the one it left is corrected.
	x.Note(n, 6, "", at(21))
	flush(t, x)
	of(t, y, "a", 0)
	flush(t, y)
	x.Disconnected(n, at(22))
	if n := of(t, x, "a", 0); !n.Connected || n.Applied != 8 || n.Control != "y" {
		t.Errorf("after a late word: %+v", n)
	}
	y.Disconnected(moved, at(30))
	flush(t, y)
	if n := of(t, x, "a", 0); n.Connected || !n.Since.Equal(at(30)) {
		t.Errorf("gone from the other: %+v", n)
	}
	if err := x.Store.Write(t.Context(), func(tx *store.Tx) error { return tx.LiveControl(t.Context(), "y", -time.Hour) }); err != nil {
		t.Fatal(err)
	}
	y.Connected(moved, at(40))
	if err := y.flush(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	if n := of(t, x, "a", 0); n.Connected {
		t.Errorf("connected to a dead process: %+v", n)
	}
}

func TestMetrics(t *testing.T) {
	w := newWorld(t)
	b := w.book(t, "x")
	n := feed.NodeInfo{Node: "a", Colo: "FRA", Since: at(1), Acked: 9}
	b.Connected(n, at(1))
	if _, err := b.At(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	r := prometheus.NewRegistry()
	r.MustRegister(b)
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.Metric {
			name := strings.TrimPrefix(f.GetName(), "selvage_control_")
			for _, l := range m.Label {
				name += " " + l.GetValue()
			}
			got[name] = m.GetGauge().GetValue()
		}
	}
	for name, want := range map[string]float64{
		"nodes_known": 2, "nodes_connected": 1, "nodes_lagging": 1, "applied_min_seq": 9, "applied_max_seq": 9,
		"node_missing_since_timestamp_seconds NRT b": float64(noon.Unix()),
	} {
		if v, ok := got[name]; !ok || v != want {
			t.Errorf("%s is %g, want %g", name, v, want)
		}
	}
	if got["lag_seconds"] < 1 {
		t.Errorf("lag of %g s", got["lag_seconds"])
	}
}
