package edge

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/selvage-edge/selvage/edge/tier"
	"github.com/selvage-edge/selvage/feed"
	"github.com/selvage-edge/selvage/rings"
	"github.com/selvage-edge/selvage/zone"
)

// copyReader is what applying needs of the edge's copy.
type copyReader interface {
	Cursor() feed.Cursor
	Get(key string) (value []byte, seq uint64, ok bool, err error)
	Scan(prefix string, row func(key string, value []byte, seq uint64) error) error
}

// applier makes stored entries true. Its methods are called by one goroutine at a
// time, the subscriber's, but for arrived.
type applier struct {
	edge   *Edge
	copy   copyReader
	staged staged
	turn   sync.Mutex // held while zones are compiled and swapped in
	// What was noted and is to be settled.
	touched map[string]uint64 // zone id → the newest entry that touched it
	names   map[string]uint64 // zone name → the newest entry that gave or took it
	purges  []purge
	nodes   bool   // entries of nodes
	kills   bool   // of kill switches
	stages  uint64 // the newest entry of a stage; 0: none
	recast  uint64 // of the operator's defaults; 0: none
	newest  uint64
}

// purge is one zone's purge as an entry carries it.
type purge struct {
	zone  string
	seq   uint64
	value []byte
}

// begin takes in, at start, what is said of more than one zone, and which zones
// cannot be used as they are. The others are compiled when they are asked for.
func (a *applier) begin() error {
	a.turn.Lock()
	defer a.turn.Unlock()
	failed := a.common()
	for _, id := range a.edge.zones.Held() {
		failed = append(failed, a.load(id, a.copy.Cursor().Seq))
	}
	return errors.Join(failed...)
}

// reload takes in a copy that was replaced as a whole. A zone in memory that cannot
// be compiled stays as it was served before; the error names each one.
func (a *applier) reload() error {
	a.turn.Lock()
	defer a.turn.Unlock()
	at := a.copy.Cursor().Seq
	failed := a.common()
	return errors.Join(append(failed, a.edge.zones.Reload(func(id string) error { return a.load(id, at) }))...)
}

// common takes in what is said of more than one zone.
func (a *applier) common() []error {
	at := a.copy.Cursor().Seq
	_, err := a.staged.Refresh()
	failed := []error{
		err, a.loadNodes(at), a.edge.rejects.note("kills", at, a.edge.kills.Begin(a.copy.Scan)),
		a.edge.rejects.note("defaults", at, a.edge.zones.Defaults()),
	}
	a.edge.kills.End()
	return failed
}

// note takes in one stored entry; settle makes it true. An edge that was away
// so compiles a zone once, however often it changed meanwhile.
func (a *applier) note(e *feed.Entry) error {
	if a.touched == nil {
		a.touched, a.names = map[string]uint64{}, map[string]uint64{}
	}
	a.newest = e.Seq
	for i := range e.Changes {
		c := &e.Changes[i]
		if a.touch(c.Key, e.Seq) {
			a.certificate(c)
			continue
		}
		if strings.HasPrefix(c.Key, feed.PrefixNode) {
			a.nodes = true
		} else if strings.HasPrefix(c.Key, rings.Prefix) {
			a.stages = e.Seq
		} else if strings.HasPrefix(c.Key, zone.PrefixKill) {
			a.kills = true
		} else if id, ok := strings.CutPrefix(c.Key, feed.PrefixRevoked); ok && a.edge.relay != nil {
			a.edge.relay.Drop(id, feed.ReasonRevoked)
		} else if id, ok := strings.CutPrefix(c.Key, zone.PrefixPurge); ok {
			a.purges = append(a.purges, purge{id, e.Seq, c.Value})
		}
	}
	return nil
}

// settle makes the noted entries true: zones that they touched are compiled and
// swapped in, then purges take effect, so that "change the rule, then purge"
// holds inside an entry as well. A rejection means that the last good state is
// served on.
func (a *applier) settle(reject func(seq uint64, why error)) {
	a.turn.Lock()
	defer a.turn.Unlock()
	a.edge.stand.begin(a.newest)
	if a.nodes {
		if err := a.loadNodes(a.newest); err != nil {
			reject(a.newest, err)
		}
		a.nodes = false
	}
	a.restage(reject)
	if a.kills { // those that are set count before what else changes
		if err := a.edge.rejects.note("kills", a.newest, a.edge.kills.Begin(a.copy.Scan)); err != nil {
			reject(a.newest, err)
		}
	}
	a.redefault(reject)
	for name, seq := range a.names {
		if err := a.edge.zones.Named(name); err != nil {
			reject(seq, err)
		}
	}
	for id, seq := range a.touched {
		if err := a.load(id, seq); err != nil {
			reject(seq, err)
		}
	}
	for _, p := range a.purges {
		if err := a.purge(p); err != nil {
			reject(p.seq, err)
		}
	}
	a.edge.cache.Advance(a.newest)
	if err := a.edge.cache.Sync(); err != nil {
		reject(a.newest, err)
	}
	if a.kills { // and those that are cleared, after it
		a.edge.kills.End()
		a.kills = false
	}
	a.edge.stand.reach(a.newest)
	clear(a.touched)
	clear(a.names)
	a.purges = nil
}

// loadNodes tells the table of tiers which nodes there are. An entry that
// cannot be read is named and left out.
func (a *applier) loadNodes(seq uint64) error {
	if a.edge.tiers == nil {
		return nil
	}
	var nodes []tier.Node
	var failed []error
	err := a.copy.Scan(feed.PrefixNode, func(key string, value []byte, _ uint64) error {
		m, err := feed.DecodeMember(value)
		if err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", key, err))
			return nil
		}
		nodes = append(nodes, tier.Node{
			ID: strings.TrimPrefix(key, feed.PrefixNode), Colo: m.Colo, Region: m.Region, Hub: m.Hub, Addrs: m.Peer,
		})
		return nil
	})
	if err != nil {
		return fmt.Errorf("list nodes of the copy: %w", err)
	}
	a.edge.tiers.Set(nodes)
	return a.edge.rejects.note("nodes", seq, errors.Join(failed...))
}

// build compiles one zone from the copy and serves it where it is in memory. One
// that is gone takes its stored answers along, so that a zone of the same id never
// sees them again.
func (a *applier) build(id string) error {
	if a.edge.replica != nil {
		// Nobody here asked for it, and nobody is to wait for its values.
		if lacks, err := a.edge.replica.Lacks(zone.Prefix(id)); lacks || err != nil {
			return errors.Join(err, a.edge.zones.Forget(id))
		}
	}
	gone, err := a.edge.zones.Touch(id)
	if gone {
		err = errors.Join(err, a.edge.cache.Purge(id, a.copy.Cursor().Seq, zone.Purge{Everything: true}))
	}
	return err
}

func (a *applier) purge(p purge) error {
	var what zone.Purge
	if err := json.Unmarshal(p.value, &what); err != nil {
		return fmt.Errorf("purge of zone %s: %w", p.zone, err)
	}
	return a.edge.cache.Purge(p.zone, p.seq, what)
}
