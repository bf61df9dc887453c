package world

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/selvage-edge/selvage/feed"
	"github.com/selvage-edge/selvage/zone"
)

// check waits until all nodes stand at the head and looks at the invariants.
func (w *world) check() {
	head, took := w.settle()
	entries := w.witness.all()
	w.trace.add("at %d after %s", head.Seq, took)
	w.kept(entries)
	w.served(entries)
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
	start, limit := time.Now(), converge
	if w.plan.wrong.leave {
		limit = 10 * time.Second
	}
	for time.Since(start) < limit {
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

// stood is the stamp that a zone's state has from a number on.
type stood struct {
	seq   uint64
	stamp int
}

// histories are the states of each zone, oldest first.
func (w *world) histories(entries []feed.Entry) [][]stood {
	all := make([][]stood, w.plan.zones)
	zones := map[string]int{}
	for n := range all {
		zones[zone.SettingsKey(zoneID(n))] = n
	}
	for i := range entries {
		for _, c := range entries[i].Changes {
			n, ok := zones[c.Key]
			if !ok {
				continue
			}
			var s struct {
				Stamp int `json:"browser_cache_ttl"`
			}
			if err := json.Unmarshal(c.Value, &s); err != nil {
				w.broken("log", "settings at %d: %v", entries[i].Seq, err)
			}
			all[n] = append(all[n], stood{entries[i].Seq, s.Stamp})
		}
	}
	return all
}

// served looks at what visitors got.
func (w *world) served(entries []feed.Entry) {
	histories := w.histories(entries)
	type place struct {
		node *node
		zone int
	}
	type reached struct {
		over int // number of the visit
		seq  uint64
	}
	from := map[place][]reached{} // what a node's visits showed, as they were over
	states, kept := 0, 0
	for i, v := range w.visits {
		for _, p := range w.purged {
			if p.zone == v.zone && p.seq <= v.after && v.version < p.version {
				w.broken("purge", "%s; version %d was purged at %d", v, p.version-1, p.seq)
				break
			}
		}
		if !v.fresh {
			kept++
			continue
		}
		states++
		at := place{v.node, v.zone}
		oldest := v.after
		for _, r := range slices.Backward(from[at]) {
			if r.over < v.began { // it was over before this one began
				oldest = max(oldest, r.seq)
				break
			}
		}
		stamp, ok := v.stamp()
		if !ok {
			w.broken("state", "%s: the two parts of its state are of different numbers", v)
			continue
		}
		seq, ok := stands(histories[v.zone], stamp, oldest, v.until)
		if !ok {
			w.broken("state", "%s: the zone's state was never that from %d on", v, oldest)
			continue
		}
		if n := len(from[at]); n > 0 {
			seq = max(seq, from[at][n-1].seq)
		}
		from[at] = append(from[at], reached{i, seq})
	}
	w.trace.add("%d visits showed a state, %d what was kept, %d purges", states, kept, len(w.purged))
}

// stamp is that of the state by which a visitor was served; false where its parts
// are of two.
func (s seen) stamp() (int, bool) {
	stamp, err := strconv.Atoi(s.ttl)
	if err != nil {
		return 0, false
	}
	if stamp < firstStamp {
		stamp = 0
	}
	return stamp, s.host == stampHost(stamp, s.zone)
}

// stands finds the first number, from one to another, at which a zone's state had
// the stamp.
func stands(history []stood, stamp int, from, until uint64) (uint64, bool) {
	for i, h := range history {
		end := until
		if i+1 < len(history) {
			end = min(until, history[i+1].seq-1)
		}
		if h.stamp == stamp && end >= from && h.seq <= until {
			return max(h.seq, from), true
		}
	}
	return 0, false
}
