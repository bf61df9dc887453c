package world

import (
	"strings"
	"time"

	"github.com/selvage-edge/selvage/feed"
)

// check waits until all nodes stand at the head and looks at the invariants.
func (w *world) check() {
	head, took := w.settle()
	entries := w.witness.all()
	w.trace.add("at %d after %s", head.Seq, took)
	w.kept(entries)
	want := digest(state(entries))
	for _, n := range w.nodes {
		l := n.running()
		if l == nil {
			w.broken("converge", "%s does not run", n.m.name)
			continue
		}
		if at := l.copy.Cursor(); at != head {
			w.broken("converge", "%s stands at %d (%+v) after %s, the log ends at %d", n.m.name, at.Seq, l.sub.Status(), took, head.Seq)
			continue
		}
		if got, err := digestOf(l.copy); err != nil || got != want {
			w.broken("converge", "%s stands at %d and has another state than the log (%v)", n.m.name, head.Seq, err)
		}
	}
}

// settle waits until nobody writes any more and all stand at the same number.
func (w *world) settle() (head feed.Cursor, took time.Duration) {
	start := time.Now()
	for time.Since(start) < converge {
		<-time.After(100 * time.Millisecond)
		if head = w.witness.head(); w.all(head) {
			break
		}
	}
	return head, time.Since(start)
}

func (w *world) all(at feed.Cursor) bool {
	for _, r := range w.roots {
		l := r.running()
		if l == nil {
			return false
		}
		if seq, hash := l.pub.Head(); (feed.Cursor{Seq: seq, Hash: hash}) != at {
			return false
		}
	}
	for _, n := range w.nodes {
		if !n.caughtUp(at) {
			return false
		}
	}
	return true
}

// kept looks that what clients were told is in the log, once, and under the
// number that they were told.
func (w *world) kept(entries []feed.Entry) {
	at := map[string]uint64{}
	for i := range entries {
		for _, c := range entries[i].Changes {
			id, ok := strings.CutPrefix(c.Key, "mark/")
			if !ok {
				continue
			}
			if was := at[id]; was != 0 {
				w.broken("lost", "change %s is in the log at %d and again at %d", id, was, entries[i].Seq)
			}
			at[id] = entries[i].Seq
		}
	}
	for _, p := range w.promised {
		if got := at[p.id]; got == 0 || p.seq != 0 && got != p.seq {
			w.broken("lost", "change %s was acknowledged as %d, and is %d in the log (0: is not)", p.id, p.seq, got)
		}
	}
	w.trace.add("%d changes were acknowledged, %d are in the log", len(w.promised), len(at))
}
