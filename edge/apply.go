package edge

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/selvage-edge/selvage/edge/snapshot"
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

// opener opens data keys that were sealed to this node.
type opener interface {
	OpenKey(certID string, sealed []byte) ([]byte, error)
}

// applier turns stored entries into served zones. Its methods are called by
// one goroutine at a time: the subscriber's.
type applier struct {
	edge   *Edge
	copy   copyReader
	staged staged
	keys   opener
	node   string
	shared *zone.Shared
	certs  map[string]string // certificate id → zone id, of all compiled zones
	// What was noted and is to be settled.
	touched map[string]uint64 // zone id → the newest entry that touched it
	purges  []purge
	nodes   bool   // entries of nodes
	kills   bool   // of kill switches
	stages  uint64 // the newest entry of a stage; 0: none
	newest  uint64
}

// purge is one zone's purge as an entry carries it.
type purge struct {
	zone  string
	seq   uint64
	value []byte
}

// loadAll compiles every zone of the copy: at start and after a snapshot. A
// zone that cannot be compiled stays as it was served before; the error names
// each one.
func (a *applier) loadAll() error {
	var names []string
	var failed []error
	if _, err := a.staged.Refresh(); err != nil {
		failed = append(failed, err)
	}
	gone := map[string]bool{}
	for _, id := range a.edge.zones.IDs() {
		gone[id] = true
	}
	err := a.copy.Scan(zone.PrefixName, func(_ string, value []byte, _ uint64) error {
		names = append(names, string(value))
		return nil
	})
	if err != nil {
		return fmt.Errorf("list zones of the copy: %w", err)
	}
	at := a.copy.Cursor().Seq
	if err := a.loadNodes(at); err != nil {
		failed = append(failed, err)
	}
	if err := a.edge.rejects.note("kills", at, a.edge.kills.Begin(a.copy.Scan)); err != nil {
		failed = append(failed, err)
	}
	defer a.edge.kills.End()
	for _, id := range names {
		delete(gone, id)
		if err := a.load(id, at); err != nil {
			failed = append(failed, err)
		}
	}
	for id := range gone {
		if err := a.edge.rejects.note("zone/"+id, at, a.withdraw(id)); err != nil {
			failed = append(failed, err)
		}
	}
	return errors.Join(failed...)
}

// note takes in one stored entry; settle makes it true. An edge that was away
// so compiles a zone once, however often it changed meanwhile.
func (a *applier) note(e *feed.Entry) error {
	if a.touched == nil {
		a.touched = map[string]uint64{}
	}
	a.newest = e.Seq
	for i := range e.Changes {
		c := &e.Changes[i]
		if a.touch(c.Key, e.Seq) {
			continue
		}
		if rest, ok := strings.CutPrefix(c.Key, zone.PrefixKey); ok {
			cert, node, _ := strings.Cut(rest, "/")
			if id := a.certs[cert]; node == a.node && id != "" {
				a.touched[id] = e.Seq
			}
		} else if strings.HasPrefix(c.Key, feed.PrefixNode) {
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

// build compiles one zone from the copy and publishes it, or withdraws it when
// the copy has none of its rows.
func (a *applier) build(id string) error {
	var rows []zone.Row
	err := a.copy.Scan(zone.Prefix(id), func(key string, value []byte, seq uint64) error {
		rows = append(rows, zone.Row{Key: key, Value: append([]byte{}, value...), Seq: seq})
		return nil
	})
	if err != nil {
		return fmt.Errorf("read zone %s of the copy: %w", id, err)
	}
	if len(rows) == 0 {
		return a.withdraw(id)
	}
	spec, err := zone.Assemble(id, rows)
	if err != nil {
		return err
	}
	if err := a.openKeys(spec); err != nil {
		return err
	}
	z, err := snapshot.Recompile(a.edge.zones.ByID(id), spec, a.shared)
	if err != nil {
		return fmt.Errorf("compile zone %s: %w", spec.Name, err)
	}
	if old := a.edge.zones.ByID(id); old != nil && old.Name != z.Name {
		a.edge.dns.Remove(old.Name)
	}
	a.edge.zones.Publish(z)
	a.edge.dns.Set(z.Name, z.DNS)
	for _, c := range spec.Certificates {
		a.certs[c.ID] = id
	}
	return nil
}

// withdraw stops serving a zone. Its stored answers go too, so that a zone of
// the same id never sees them again.
func (a *applier) withdraw(id string) error {
	var err error
	if z := a.edge.zones.Withdraw(id); z != nil {
		// The name may be another zone's by now: deleted and made again.
		if owner := a.edge.zones.Find([]byte(z.Name)); owner == nil || owner.Name != z.Name {
			a.edge.dns.Remove(z.Name)
		}
		err = a.edge.cache.Purge(id, a.copy.Cursor().Seq, zone.Purge{Everything: true})
	}
	for cert, owner := range a.certs {
		if owner == id {
			delete(a.certs, cert)
		}
	}
	return err
}

// openKeys fills in the private keys that were sealed to this node. A
// certificate whose key is not here yet is served when the key arrives.
func (a *applier) openKeys(spec *zone.Spec) error {
	for i := range spec.Certificates {
		c := &spec.Certificates[i]
		sealed, _, ok, err := a.copy.Get(zone.SealedKey(c.ID, a.node))
		if err != nil {
			return fmt.Errorf("zone %s: read data key of certificate %s: %w", spec.Name, c.ID, err)
		}
		if !ok {
			a.edge.log.Warn("certificate waits for its key", "zone", spec.Name, "certificate", c.ID)
			continue
		}
		dataKey, err := a.keys.OpenKey(c.ID, sealed)
		if err != nil {
			return fmt.Errorf("zone %s: certificate %s: %w", spec.Name, c.ID, err)
		}
		if c.PrivateKey, err = feed.DecryptKey(dataKey, c.ID, c.Sealed); err != nil {
			return fmt.Errorf("zone %s: certificate %s: %w", spec.Name, c.ID, err)
		}
	}
	return nil
}

func (a *applier) purge(p purge) error {
	var what zone.Purge
	if err := json.Unmarshal(p.value, &what); err != nil {
		return fmt.Errorf("purge of zone %s: %w", p.zone, err)
	}
	return a.edge.cache.Purge(p.zone, p.seq, what)
}
