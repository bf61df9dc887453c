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

// purged is a purge that a client was told of: from the number on, nothing older
// than the version is served.
type purged struct {
	zone    int
	version int64
	seq     uint64
}

func zoneID(n int) string   { return fmt.Sprintf("%032x", n+1) }
func zoneName(n int) string { return fmt.Sprintf("zone%d.test", n) }

// create makes the zones, before anything goes wrong.
func (w *world) create() {
	for n := range w.plan.zones {
		id, name := zoneID(n), zoneName(n)
		changes := []feed.Change{
			{Op: feed.Set, Key: zone.NameKey(name), Value: []byte(id)},
			w.set(zone.MetaKey(id), zone.Meta{ID: id, Name: name, Status: "active", NameServers: []string{"ns1.test", "ns2.test"}}),
			w.set(zone.DNSKey(id, name), []zone.Record{{ID: id, Name: name, Type: "A", Content: "192.0.2.1", TTL: 1, Proxied: true, Tags: []string{}}}),
			w.set(zone.SettingsKey(id), settings(0)),
		}
		l := w.roots[0].running()
		if _, err := l.pub.Write(l.ctx, publish.Action{Actor: "client", Name: "create", Object: id}, func(*store.Tx) (publish.Written, error) {
			return publish.Written{Changes: changes}, nil
		}); err != nil {
			w.broken("lost", "create zone: %v", err)
		}
	}
}

// settings of a zone whose state has the stamp; 0 for none.
func settings(stamp int) map[string]any {
	s := map[string]any{"ssl": "off"}
	if stamp > 0 {
		s["browser_cache_ttl"] = stamp
	}
	return s
}

// firstStamp is more seconds than the origin lets answers live, so that a stamp
// shows in what visitors are told.
const firstStamp = 1000

// write starts who changes something, each in its time.
func (w *world) write(clients *sync.WaitGroup) {
	start := time.Now()
	for i, change := range w.plan.writes {
		clients.Go(func() {
			<-time.After(change.at - time.Since(start))
			w.ask(i, change)
		})
	}
}

// ask makes one change by the first control plane that takes it. One that fails
// in the middle may have been made: it is not asked for again.
func (w *world) ask(i int, c write) {
	id := fmt.Sprintf("c%d", i)
	for try := range 200 {
		r := w.roots[(c.via+try)%len(w.roots)]
		l := r.running()
		if l == nil {
			<-time.After(50 * time.Millisecond)
			continue
		}
		changes := w.changes(id, firstStamp+i, c)
		var version int64
		if c.kind == "purge" {
			version = w.source.versions[c.zone].Add(1)
		}
		ctx, cancel := context.WithTimeout(l.ctx, 20*time.Second)
		seq, err := w.publish(ctx, l, c.kind, id, changes)
		cancel()
		if err != nil {
			w.trace.add("%s: %s of zone %d by %s: %v", id, c.kind, c.zone, r.m.name, err)
			return
		}
		w.mu.Lock()
		w.promised = append(w.promised, promise{id, seq})
		if version > 0 && seq > 0 {
			w.purged = append(w.purged, purged{c.zone, version, seq})
		}
		w.mu.Unlock()
		return
	}
}

// publish makes one change, unless the run is one of a product that is wrong.
func (w *world) publish(ctx context.Context, l *rootLife, kind, id string, changes []feed.Change) (uint64, error) {
	write := func(changes []feed.Change) (uint64, error) {
		return l.pub.Write(ctx, publish.Action{Actor: "client", Name: kind, Object: id}, func(*store.Tx) (publish.Written, error) {
			return publish.Written{Changes: changes}, nil
		})
	}
	switch wrong := w.plan.wrong; {
	case wrong.lie && w.chance(20) == 0:
		return w.witness.head().Seq, nil
	case wrong.twice && w.chance(20) == 0:
		if _, err := write(changes); err != nil {
			return 0, err
		}
	case wrong.halves && len(changes) == 3:
		if _, err := write(changes[:1]); err != nil {
			return 0, err
		}
		changes = changes[1:]
	}
	return write(changes)
}

func (w *world) set(key string, value any) feed.Change {
	text, err := json.Marshal(value)
	if err != nil {
		w.broken("lost", "%s: %v", key, err)
	}
	return feed.Change{Op: feed.Set, Key: key, Value: text}
}

// originRules is the key of the rules by which a zone's origin is asked.
func originRules(n int) string { return zone.RulesetKey(zoneID(n), "http_request_origin") }

// changes are what a write is made of. The stamp of a state stands in two keys of
// the zone, both of which show in one answer, so that a mixture of two would show.
func (w *world) changes(id string, stamp int, c write) []feed.Change {
	mark := feed.Change{Op: feed.Set, Key: "mark/" + id, Value: []byte(strings.Repeat("x", c.pad))}
	zid := zoneID(c.zone)
	switch c.kind {
	case "remove":
		return []feed.Change{w.set(zone.SettingsKey(zid), settings(0)), {Op: feed.Delete, Key: originRules(c.zone)}, mark}
	case "purge":
		purge := w.set(zone.PurgeKey(zid), zone.Purge{Everything: true})
		purge.Op = feed.Signal
		return []feed.Change{purge, mark}
	}
	rules := fmt.Sprintf(`{"rules":[{"expression":"true","action":"route","action_parameters":{"host_header":"%s"},"enabled":true}]}`, stampHost(stamp, c.zone))
	return []feed.Change{
		w.set(zone.SettingsKey(zid), settings(stamp)),
		w.set(originRules(c.zone), zone.Ruleset{Phase: "http_request_origin", Body: json.RawMessage(rules)}),
		mark,
	}
}

// stampHost is the name by which the origin is asked in the state with a stamp.
func stampHost(stamp, n int) string {
	if stamp == 0 {
		return zoneName(n)
	}
	return fmt.Sprintf("s%d.%s", stamp, zoneName(n))
}
