package progress

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/selvage-edge/selvage/control/identity"
	"github.com/selvage-edge/selvage/control/store"
	"github.com/selvage-edge/selvage/control/store/storetest"
	"github.com/selvage-edge/selvage/feed"
)

// BenchmarkFleet is 330 nodes that acknowledge six entries at a time, as at 300
// changes a second, and what it costs to ask where one is.
func BenchmarkFleet(b *testing.B) {
	s, err := store.Open(b.Context(), storetest.Place(b))
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	head := uint64(1)
	var known []identity.Node
	var nodes []feed.NodeInfo
	for i := range 330 {
		known = append(known, identity.Node{ID: fmt.Sprintf("%032x", i), Colo: "FRA"})
		nodes = append(nodes, feed.NodeInfo{Node: known[i].ID, Colo: "FRA", Since: noon, Acked: 1})
	}
	now := time.Now()
	book, err := New(b.Context(), Config{
		Store: s, Control: "x", Log: slog.New(slog.DiscardHandler),
		Nodes: func(context.Context) ([]identity.Node, error) { return known, nil },
		Head:  func() uint64 { return head },
		Time:  func(uint64) time.Time { return now },
		Times: func(dst []time.Time, after, through uint64) []time.Time {
			for range through - after {
				dst = append(dst, now)
			}
			return dst
		},
	})
	if err != nil {
		b.Fatal(err)
	}
	for _, n := range nodes {
		book.Connected(n, now)
	}
	b.Run("acknowledge", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			if i%len(nodes) == 0 {
				head += 6
			}
			book.Note(nodes[i%len(nodes)], head, "", now)
		}
	})
	b.Run("ask", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := book.At(b.Context(), head); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("write", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			for _, n := range nodes {
				book.Note(n, head, "", now)
			}
			if err := book.flush(b.Context(), false); err != nil {
				b.Fatal(err)
			}
		}
	})
}
