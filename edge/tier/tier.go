// Package tier says who else may hold an object, and in which order to ask:
// the server of the own data center that has it, the hub of the region, the
// upper tier. It knows the nodes that the feed tells of, finds out by probes
// which of them are there, and has each object at one server of a data center
// by rendezvous hashing.
//
// It promises: a server that is gone is asked no more within a second, and
// only what it had moves; who cannot reach anybody serves alone; each step of
// a way leads to a later tier, so that edges which disagree about who is what
// ask in vain at worst, and never in a circle.
package tier

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/selvage-edge/selvage/edge/request"
	"github.com/selvage-edge/selvage/zone"
)

// Node is an edge as the feed tells of it.
type Node struct {
	ID, Colo string
	Region   string
	Hub      bool     // its colo collects for the region
	Addrs    []string // where it is asked; none = it answers no edge
}

// Config is what a Table is made of. Zero numbers have the defaults in
// brackets.
type Config struct {
	Self Node
	// Probe finds out whether a node answers. It ends with ctx.
	Probe func(ctx context.Context, n *Node) error
	// Consult sends a report to a node and returns what its Hear answers; nil
	// = upper tiers are not chosen by latency.
	Consult func(ctx context.Context, n *Node, report []byte) ([]byte, error)
	// Measure tells how far a zone's origin is; nil = not measured here.
	Measure func(ctx context.Context, zoneID string) (time.Duration, error)
	Log     *slog.Logger

	Interval time.Duration // between probes of a server of the own colo [300 ms]
	Misses   int           // probes in a row that make a node count as gone [3]
	Window   time.Duration // between decisions about upper tiers [5 s]
}

const (
	// farEvery is how many intervals lie between probes of other colos' nodes,
	// farTime how long such a probe may take: the way there may be long.
	farEvery = 4
	farTime  = 1500 * time.Millisecond
	// inUse is how long a node of another colo is probed after it was asked.
	inUse = 30 * time.Second
	// maxProbes bounds the probes under way.
	maxProbes = 64
	// tries is how many servers of one tier are asked before the next tier is.
	tries = 2
)

// Table holds the nodes. Safe for concurrent use.
type Table struct {
	cfg    Config
	log    *slog.Logger
	self   uint64 // hash of the own id
	view   atomic.Pointer[view]
	wake   chan struct{} // capacity 1: a node is suspected
	slots  chan struct{}
	smart  smart
	counts counts

	setting sync.Mutex // one Set at a time
	life    sync.Mutex // guards gone against work.Go
	gone    bool       // Run has ended
	work    sync.WaitGroup
}

// view is the nodes at one moment; it never changes.
type view struct {
	byID    map[string]*Peer
	colos   map[string][]*Peer  // that can be asked; the own node is not among them
	regions map[string][]string // colos that collect for a region: its hubs, else all
	all     []string            // colos that can be asked, and the own; sorted
}

// NewTable returns a table without other nodes; Set brings them.
func NewTable(c Config) *Table {
	c.Interval = cmp.Or(max(c.Interval, 0), 300*time.Millisecond)
	c.Misses = cmp.Or(max(c.Misses, 0), 3)
	c.Window = cmp.Or(max(c.Window, 0), 5*time.Second)
	c.Log = cmp.Or(c.Log, slog.New(slog.DiscardHandler))
	t := &Table{cfg: c, log: c.Log, self: hashText(c.Self.ID), wake: make(chan struct{}, 1), slots: make(chan struct{}, maxProbes)}
	t.smart.open()
	t.Set(nil)
	return t
}

// Set replaces all nodes. What is known of those that stay as they are is kept;
// who waits for an answer of one that goes is told.
func (t *Table) Set(nodes []Node) {
	t.setting.Lock()
	defer t.setting.Unlock()
	v := &view{byID: map[string]*Peer{}, colos: map[string][]*Peer{}, regions: map[string][]string{}}
	var before map[string]*Peer
	if old := t.view.Load(); old != nil {
		before = maps.Clone(old.byID)
	}
	colos := map[string]bool{t.cfg.Self.Colo: true}
	members := map[string]map[string]bool{} // region → colo → hub
	place := func(n *Node) {
		if n.Region == "" {
			return
		}
		if members[n.Region] == nil {
			members[n.Region] = map[string]bool{}
		}
		members[n.Region][n.Colo] = members[n.Region][n.Colo] || n.Hub
	}
	place(&t.cfg.Self)
	for i := range nodes {
		n := &nodes[i]
		if n.ID == t.cfg.Self.ID {
			continue
		}
		p := before[n.ID]
		if p != nil && p.same(n) {
			delete(before, n.ID)
		} else {
			p = newPeer(*n, n.Colo == t.cfg.Self.Colo)
		}
		v.byID[n.ID] = p
		if len(n.Addrs) == 0 {
			continue
		}
		v.colos[n.Colo] = append(v.colos[n.Colo], p)
		colos[n.Colo] = true
		place(n)
	}
	v.all = slices.Sorted(maps.Keys(colos))
	for region, of := range members {
		v.regions[region] = collectors(of)
	}
	t.view.Store(v)
	for _, p := range before { // gone, or replaced by another of the name
		p.end()
	}
}

// collectors are the colos of a region that collect for it.
func collectors(hubs map[string]bool) []string {
	var all, named []string
	for colo, hub := range hubs {
		all = append(all, colo)
		if hub {
			named = append(named, colo)
		}
	}
	if len(named) > 0 {
		all = named
	}
	slices.Sort(all)
	return all
}

// Knows reports whether the feed tells of a node: who is revoked is not there.
func (t *Table) Knows(id string) bool {
	return id == t.cfg.Self.ID || t.view.Load().byID[id] != nil
}

// Step is one server to ask, and as what.
type Step struct {
	Peer *Peer
	Role request.Role
}

// Way appends to dst who is to be asked for an object, in order; behind the
// last comes the origin. role is what this node itself was asked as. It waits
// for nothing.
func (t *Table) Way(dst []Step, zoneID string, topology *zone.Topology, key uint64, role request.Role) []Step {
	v := t.view.Load()
	if role == request.RoleNone {
		dst = t.owners(dst, v, key)
	}
	if topology.Mode == zone.TopologyFlat || role >= request.RoleUpper || len(v.all) == 1 {
		return dst
	}
	upper := t.upper(v, zoneID, topology)
	if upper == t.cfg.Self.Colo {
		return dst
	}
	if topology.Regional && role < request.RoleRegion {
		if hub := t.hub(v, key); hub != "" && hub != t.cfg.Self.Colo && hub != upper {
			dst = ranked(dst, v.colos[hub], key, 0, 1, request.RoleRegion)
		}
	}
	from := len(dst)
	dst = ranked(dst, v.colos[upper], key, 0, tries, request.RoleUpper)
	if len(dst)-from < tries {
		// Should it be gone, all go to the same one next.
		if next := t.nearest(v, zoneID, upper); next != "" && next != t.cfg.Self.Colo {
			dst = ranked(dst, v.colos[next], key, 0, 1, request.RoleUpper)
		}
	}
	return dst
}

// owners appends the servers of the own colo that have the key before this one.
func (t *Table) owners(dst []Step, v *view, key uint64) []Step {
	return ranked(dst, v.colos[t.cfg.Self.Colo], key, score(t.self, key), tries, request.RoleOwner)
}

// ranked appends at most n of the peers that are up and have a higher score for
// the key than least, the highest first.
func ranked(dst []Step, peers []*Peer, key, least uint64, n int, role request.Role) []Step {
	from := len(dst)
	var scores [tries]uint64
	for _, p := range peers {
		s := score(p.hash, key)
		if s <= least || !p.askable() {
			continue
		}
		at := len(dst)
		for at > from && scores[at-from-1] < s {
			at--
		}
		if at-from >= n {
			continue
		}
		if len(dst)-from < n {
			dst = append(dst, Step{})
		}
		copy(dst[at+1:], dst[at:len(dst)-1])
		copy(scores[at-from+1:], scores[at-from:])
		dst[at], scores[at-from] = Step{p, role}, s
	}
	return dst
}

// hub is the colo that collects the key for the own region; "" where nobody does.
func (t *Table) hub(v *view, key uint64) string {
	if t.cfg.Self.Region == "" {
		return ""
	}
	return t.best(v, v.regions[t.cfg.Self.Region], key, "")
}

// nearest is the colo that is upper tier of a zone by its name alone, which all
// edges agree on without having heard of each other; but for one.
func (t *Table) nearest(v *view, zoneID, but string) string {
	return t.best(v, v.all, hashText(zoneID), but)
}

// best is the colo with the highest score of those that can be asked, the own
// included; "" when there is none.
func (t *Table) best(v *view, colos []string, key uint64, but string) string {
	found, most := "", uint64(0)
	for _, colo := range colos {
		if s := score(hashText(colo), key); colo != but && (found == "" || s > most) && t.has(v, colo) {
			found, most = colo, s
		}
	}
	return found
}

// has reports whether somebody of a colo can be asked.
func (t *Table) has(v *view, colo string) bool {
	return colo == t.cfg.Self.Colo || slices.ContainsFunc(v.colos[colo], func(p *Peer) bool { return p.up.Load() })
}

// Hash digests a cache key, on every edge to the same number.
func Hash(key []byte) uint64 {
	h := uint64(14695981039346656037) // FNV-1a
	for _, c := range key {
		h = (h ^ uint64(c)) * 1099511628211
	}
	return mix(h)
}

func hashText(s string) uint64 { return Hash([]byte(s)) }

// score is how much a node, by the hash of its id, wants a key.
func score(node, key uint64) uint64 { return mix(node ^ key) }

// mix is splitmix64's finalizer: each bit of the input moves half of the
// output's.
func mix(z uint64) uint64 {
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb
	return z ^ (z >> 31)
}
