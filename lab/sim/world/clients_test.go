package world

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/selvage-edge/selvage/control/publish"
	"github.com/selvage-edge/selvage/control/store"
	"github.com/selvage-edge/selvage/feed"
	"github.com/selvage-edge/selvage/zone"
)

func zoneID(n int) string   { return fmt.Sprintf("%032x", n+1) }
func zoneName(n int) string { return fmt.Sprintf("zone%d.test", n) }

// write starts who changes something, each in its time.
func (w *world) write(clients *sync.WaitGroup) {
	start := time.Now()
	for i, change := range w.plan.writes {
		clients.Go(func() {
			<-time.After(change.at - time.Since(start))
			w.ask(fmt.Sprintf("c%d", i), change)
		})
	}
}

// ask makes one change by the first control plane that takes it. One that fails
// in the middle may have been made: it is not asked for again.
func (w *world) ask(id string, c write) {
	for try := range 200 {
		r := w.roots[(c.via+try)%len(w.roots)]
		l := r.running()
		if l == nil {
			<-time.After(50 * time.Millisecond)
			continue
		}
		changes := w.changes(id, c)
		ctx, cancel := context.WithTimeout(l.ctx, 20*time.Second)
		seq, err := l.pub.Write(ctx, publish.Action{Actor: "client", Name: c.kind, Object: id}, func(*store.Tx) (publish.Written, error) {
			return publish.Written{Changes: changes}, nil
		})
		cancel()
		if err != nil {
			w.trace.add("%s: %s of zone %d by %s: %v", id, c.kind, c.zone, r.m.name, err)
			return
		}
		w.mu.Lock()
		w.promised = append(w.promised, promise{id, seq})
		w.mu.Unlock()
		return
	}
}

// changes are what a write is made of. The stamp of a state stands in each of its
// keys, so that a mixture of two would show.
func (w *world) changes(id string, c write) []feed.Change {
	set := func(key, value string) feed.Change {
		return feed.Change{Op: feed.Set, Key: key, Value: []byte(value)}
	}
	prefix := zone.Prefix(zoneID(c.zone))
	mark := set("mark/"+id, strings.Repeat("x", c.pad))
	switch c.kind {
	case "remove":
		return []feed.Change{{Op: feed.Delete, Key: prefix + "a"}, {Op: feed.Delete, Key: prefix + "b"}, mark}
	case "purge":
		text, err := json.Marshal(zone.Purge{Everything: true})
		if err != nil {
			w.broken("log", "purge: %v", err)
		}
		return []feed.Change{{Op: feed.Signal, Key: zone.PurgeKey(zoneID(c.zone)), Value: text}, mark}
	}
	return []feed.Change{set(prefix+"a", id), set(prefix+"b", id), mark}
}
