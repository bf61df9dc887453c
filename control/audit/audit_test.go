package audit

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/selvage-edge/selvage/control/store"
	"github.com/selvage-edge/selvage/control/store/storetest"
	"github.com/selvage-edge/selvage/feed"
)

const nodeA, nodeB = "0000000000000000000000000000000a", "0000000000000000000000000000000b"

// world is a trail whose nodes' names of stored events are kept.
type world struct {
	*Trail
	taken []string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	s, err := store.Open(t.Context(), storetest.Place(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	w := &world{}
	w.Trail = New(Config{Store: s, Log: slog.New(slog.DiscardHandler), Taken: func(node string, ids []feed.AuditID) bool {
		for _, id := range ids {
			w.taken = append(w.taken, fmt.Sprint(node[31:], id.Run, ".", id.Number))
		}
		return true
	}})
	return w
}

// says has a node say something of some second.
func (w *world) says(t *testing.T, node string, run, number uint64, second int, text string) {
	t.Helper()
	p := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, run), number)
	p = binary.BigEndian.AppendUint64(p, uint64(time.Unix(int64(second), 0).UnixNano()))
	if err := w.Take(feed.Report{Node: feed.NodeInfo{Node: node, Colo: "FRA"}, Payload: append(p, text...)}); err != nil {
		t.Fatal(err)
	}
}

// keep stores what was taken.
func (w *world) keep(t *testing.T) {
	t.Helper()
	w.store(t.Context(), w.more(nil))
	slices.Sort(w.taken)
}

func (w *world) change(t *testing.T, second int, action, object string) {
	t.Helper()
	if err := w.Store.Write(t.Context(), func(tx *store.Tx) error {
		_, err := tx.PutEvent(t.Context(), store.Event{Actor: "me", Action: action, Object: object, Created: time.Unix(int64(second), 0), Changes: []byte{}}, store.Step{})
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

// list pages through all of q.
func (w *world) list(t *testing.T, q store.AuditQuery) string {
	t.Helper()
	var all []string
	for {
		events, more, err := w.Page(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			all = append(all, e.Action)
		}
		if !more {
			return strings.Join(all, " ")
		}
		q.Before = &events[len(events)-1]
	}
}

func said(action string) string { return `{"v":1,"action":"` + action + `"}` }

func TestTrailIsOneOfNodesAndChanges(t *testing.T) {
	w := newWorld(t)
	w.says(t, nodeA, 1, 1, 10, said("a1"))
	w.says(t, nodeA, 1, 2, 20, said("a2"))
	w.says(t, nodeA, 2, 1, 20, said("a3"))
	w.says(t, nodeB, 1, 1, 20, said("b1"))
	w.says(t, nodeB, 1, 2, 30, "what?")
	w.keep(t)
	w.change(t, 20, "c1", nodeB)
	w.change(t, 20, "c2", "zone")
	w.change(t, 40, "c3", "zone")
	// A node whose connection broke tells them again.
	w.says(t, nodeA, 1, 2, 99, said("forged"))
	w.keep(t)
	if got := fmt.Sprint(w.taken); got != "[a1.1 a1.2 a1.2 a2.1 b1.1 b1.2]" {
		t.Errorf("told stored: %s", got)
	}
	const all = "c3 unreadable b1 a3 a2 c2 c1 a1"
	for limit := 1; limit <= 9; limit++ {
		if got := w.list(t, store.AuditQuery{Limit: limit}); got != all {
			t.Errorf("by %d: %s, want %s", limit, got, all)
		}
	}
	if got := w.list(t, store.AuditQuery{Limit: 2, Since: time.Unix(20, 0)}); got != strings.TrimSuffix(all, " a1") {
		t.Errorf("since 20: %s", got)
	}
	if got := w.list(t, store.AuditQuery{Limit: 1, Node: nodeB}); got != "unreadable b1 c1" {
		t.Errorf("of b: %s", got)
	}
}

// A queue that is full is the node's to wait for: nothing of it is told stored.
func TestFullQueueIsNotTaken(t *testing.T) {
	w := newWorld(t)
	for i := range queued + 10 {
		w.says(t, nodeA, 1, uint64(i), 1, said("x"))
	}
	for len(w.queue) > 0 {
		w.keep(t)
	}
	if len(w.taken) != queued {
		t.Errorf("%d told stored, want %d", len(w.taken), queued)
	}
	if err := w.Take(feed.Report{Payload: make([]byte, 5)}); err == nil {
		t.Error("a payload without a name was taken")
	}
}

func TestOldEventsAreDropped(t *testing.T) {
	w := newWorld(t)
	for i := range 20 {
		w.says(t, nodeA, 1, uint64(i), 100+i, said(fmt.Sprint("a", i)))
	}
	w.says(t, nodeB, 1, 1, 1, said("b"))
	w.keep(t)
	trim := func(before time.Time, keep int) string {
		if err := w.Store.Write(t.Context(), func(tx *store.Tx) error { return tx.TrimAudit(t.Context(), before, keep) }); err != nil {
			t.Fatal(err)
		}
		return w.list(t, store.AuditQuery{Limit: 100})
	}
	if got := trim(time.Now().Add(-time.Hour), 2); got != "a19 a18 b" {
		t.Errorf("two of each: %s", got)
	}
	if got := trim(time.Now().Add(time.Hour), 2); got != "" {
		t.Errorf("after their time: %s", got)
	}
}

// What the database does not take is told as stored only when it does.
func TestStoredBeforeTold(t *testing.T) {
	w := newWorld(t)
	w.says(t, nodeA, 1, 1, 1, said("x"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w.store(ctx, w.more(nil))
	if len(w.taken) != 0 {
		t.Errorf("told stored without being so: %v", w.taken)
	}
}
