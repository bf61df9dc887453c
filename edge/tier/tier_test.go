package tier

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/selvage-edge/selvage/edge/request"
	"github.com/selvage-edge/selvage/zone"
)

const testZone = "0123456789abcdef0123456789abcdef"

// edges makes n servers in each colo; their ids begin with the colo.
func edges(n int, colos ...string) (all []Node) {
	for _, colo := range colos {
		for i := range n {
			all = append(all, Node{ID: fmt.Sprintf("%s-%d", colo, i), Colo: colo, Addrs: []string{fmt.Sprintf("%s-%d:1", colo, i)}})
		}
	}
	return all
}

// tables makes the table of each node.
func tables(nodes []Node) map[string]*Table {
	all := map[string]*Table{}
	for _, n := range nodes {
		t := NewTable(Config{Self: n})
		t.Set(nodes)
		all[n.ID] = t
	}
	return all
}

// owner is the server of t's colo that has a key, as t sees it.
func owner(t *Table, key uint64) string {
	flat := &zone.Topology{Mode: zone.TopologyFlat}
	for _, s := range t.Way(nil, testZone, flat, key, request.RoleNone) {
		return s.Peer.ID
	}
	return t.cfg.Self.ID
}

func lose(t *Table, id string) {
	p := t.view.Load().byID[id]
	for range t.cfg.Misses {
		t.probed(p, fmt.Errorf("no answer"), 0)
	}
}

func TestServersOfADataCenterAgreeOnOwnersAndShareEvenly(t *testing.T) {
	const keys = 30000
	nodes := edges(12, "FRA")
	all := tables(nodes)
	share := map[string]int{}
	for k := range keys {
		key := Hash(fmt.Appendf(nil, "zone https://site.test/%d", k))
		first := owner(all["FRA-0"], key)
		share[first]++
		if k%100 == 0 {
			for id, other := range all {
				if got := owner(other, key); got != first {
					t.Fatalf("key %d: %s says %s, FRA-0 says %s", k, id, got, first)
				}
			}
		}
	}
	for _, n := range nodes {
		if got := share[n.ID] * 12; got < keys*9/10 || got > keys*11/10 {
			t.Errorf("%s has %d of %d keys", n.ID, share[n.ID], keys)
		}
	}
}

func TestKillingOneOfThreeMovesAThirdOfTheKeys(t *testing.T) {
	const keys = 30000
	table := NewTable(Config{Self: Node{ID: "FRA-0", Colo: "FRA"}})
	table.Set(edges(3, "FRA"))
	before := make([]string, keys)
	for k := range keys {
		before[k] = owner(table, mix(uint64(k)))
	}
	lose(table, "FRA-2")
	moved := 0
	for k := range keys {
		after := owner(table, mix(uint64(k)))
		if after == before[k] {
			continue
		}
		moved++
		if before[k] != "FRA-2" {
			t.Fatalf("key %d moved from %s, which lives, to %s", k, before[k], after)
		}
	}
	if share := float64(moved) / keys; share > 1.0/3+0.05 || share < 1.0/3-0.05 {
		t.Errorf("%.1f %% of the keys moved", share*100)
	}
	table.probed(table.view.Load().byID["FRA-2"], nil, 1)
	for k := range keys {
		if got := owner(table, mix(uint64(k))); got != before[k] {
			t.Fatalf("key %d is at %s after the server came back, was at %s", k, got, before[k])
		}
	}
}

func TestAloneEverythingIsOurs(t *testing.T) {
	table := NewTable(Config{Self: Node{ID: "FRA-0", Colo: "FRA"}})
	table.Set(edges(3, "FRA", "NRT"))
	for _, id := range []string{"FRA-1", "FRA-2", "NRT-0", "NRT-1", "NRT-2"} {
		lose(table, id)
	}
	smart := &zone.Topology{Mode: zone.TopologySmart}
	for k := range 1000 {
		if way := table.Way(nil, testZone, smart, mix(uint64(k)), request.RoleNone); len(way) > 0 {
			t.Fatalf("asks %s, which is gone", way[0].Peer.ID)
		}
	}
}

func TestWayLeadsToLaterTiersOnly(t *testing.T) {
	nodes := edges(3, "FRA", "AMS", "NRT", "SIN")
	for i := range nodes {
		nodes[i].Region = map[string]string{"FRA": "eu", "AMS": "eu", "NRT": "asia", "SIN": "asia"}[nodes[i].Colo]
		nodes[i].Hub = nodes[i].Colo == "AMS"
	}
	all := tables(nodes)
	regional := &zone.Topology{Mode: zone.TopologyCustom, Regional: true, Parents: []string{"XXX", "NRT"}}
	roles := map[request.Role]int{}
	for k := range 1000 {
		key := mix(uint64(k))
		way := all["FRA-0"].Way(nil, testZone, regional, key, request.RoleNone)
		last := request.RoleNone
		for _, s := range way {
			if s.Role < last {
				t.Fatalf("role %d after %d", s.Role, last)
			}
			want := map[request.Role]string{request.RoleOwner: "FRA", request.RoleRegion: "AMS", request.RoleUpper: "NRT"}[s.Role]
			if last = s.Role; s.Role != request.RoleUpper && s.Peer.Colo != want || s.Peer.ID == "FRA-0" {
				t.Fatalf("asks %s as %d", s.Peer.ID, s.Role)
			}
			roles[s.Role]++
		}
		if upper := slices.IndexFunc(way, func(s Step) bool { return s.Role == request.RoleUpper }); upper < 0 || way[upper].Peer.Colo != "NRT" {
			t.Fatalf("way %v: no upper tier in NRT", way)
		}
		if from := all["FRA-0"].Way(nil, testZone, regional, key, request.RoleOwner); len(from) == 0 || from[0].Role != request.RoleRegion {
			t.Fatalf("an owner asks %v", from)
		}
		if from := all["AMS-0"].Way(nil, testZone, regional, key, request.RoleRegion); len(from) == 0 || from[0].Role != request.RoleUpper {
			t.Fatalf("a hub asks %v", from)
		}
		for _, id := range []string{"NRT-0", "FRA-0"} {
			if from := all[id].Way(nil, testZone, regional, key, request.RoleUpper); len(from) > 0 {
				t.Fatalf("an upper tier asks %v", from)
			}
		}
		if from := all["NRT-0"].Way(nil, testZone, regional, key, request.RoleOwner); len(from) > 0 {
			t.Fatalf("an owner in the upper tier asks %v", from)
		}
	}
	if roles[request.RoleOwner] < 600 || roles[request.RoleRegion] != 1000 || roles[request.RoleUpper] != 2000 {
		t.Errorf("steps by role: %v", roles)
	}
}

func TestAllAgreeOnTheUpperTierBeforeAnyoneMeasured(t *testing.T) {
	all := tables(edges(1, "FRA", "NRT", "SIN", "LHR", "IAD", "SYD", "GRU", "JNB", "AMS", "LAX", "CDG", "BOM"))
	smart := &zone.Topology{Mode: zone.TopologySmart}
	uppers := map[string]bool{}
	for z := range 100 {
		id := fmt.Sprintf("zone-%d", z)
		chosen := map[string]bool{}
		for _, table := range all {
			chosen[table.upper(table.view.Load(), id, smart)] = true
		}
		if len(chosen) != 1 {
			t.Errorf("%s has upper tiers %v", id, chosen)
		}
		for colo := range chosen {
			uppers[colo] = true
		}
	}
	if len(uppers) < 10 {
		t.Errorf("100 zones use %d upper tiers", len(uppers))
	}
}

func TestCustomTopologyAsksTheFirstThatIsUp(t *testing.T) {
	table := NewTable(Config{Self: Node{ID: "FRA-0", Colo: "FRA"}})
	table.Set(edges(1, "FRA", "NRT", "SIN"))
	custom := &zone.Topology{Mode: zone.TopologyCustom, Parents: []string{"SIN", "NRT"}}
	upper := func() string { return table.upper(table.view.Load(), testZone, custom) }
	if got := upper(); got != "SIN" {
		t.Errorf("%s, want SIN", got)
	}
	lose(table, "SIN-0")
	if got := upper(); got != "NRT" {
		t.Errorf("without SIN: %s, want NRT", got)
	}
	lose(table, "NRT-0")
	if way := table.Way(nil, testZone, custom, 1, request.RoleNone); len(way) != 0 {
		t.Errorf("without both: asks %s", way[0].Peer.ID)
	}
}

func TestSetKeepsWhatIsKnownOfNodesThatStay(t *testing.T) {
	table := NewTable(Config{Self: Node{ID: "FRA-0", Colo: "FRA"}})
	nodes := edges(3, "FRA")
	table.Set(nodes)
	lose(table, "FRA-1")
	waiting := table.view.Load().byID["FRA-2"]
	ctx, done := waiting.Asking(t.Context())
	defer done()
	table.Set(nodes)
	if table.view.Load().byID["FRA-1"].up.Load() {
		t.Error("a lost node is up after it was told of again")
	}
	if ctx.Err() != nil {
		t.Error("who waits for a node that stays was interrupted")
	}
	nodes[2].Addrs = []string{"FRA-2:2"}
	table.Set(nodes)
	if ctx.Err() == nil {
		t.Error("who waits for a node that moved waits on")
	}
	if late, done := waiting.Asking(t.Context()); late.Err() == nil {
		t.Error("a node that is no more can be waited for")
	} else {
		done()
	}
	table.Set(nodes[:1])
	if table.Knows("FRA-1") || !table.Knows("FRA-0") {
		t.Error("a revoked node is known, or the own one is not")
	}
}

func TestNodesWithoutAListenerAreKnownAndNotAsked(t *testing.T) {
	table := NewTable(Config{Self: Node{ID: "FRA-0", Colo: "FRA"}})
	table.Set([]Node{{ID: "FRA-1", Colo: "FRA"}, {ID: "NRT-0", Colo: "NRT"}})
	if way := table.Way(nil, testZone, &zone.Topology{Mode: zone.TopologySmart}, 1, request.RoleNone); len(way) > 0 || !table.Knows("FRA-1") {
		t.Errorf("way %v, known %t", way, table.Knows("FRA-1"))
	}
}

func TestHashIsTheSameEverywhere(t *testing.T) {
	// Edges of two versions must agree: these numbers are part of the protocol.
	if got := Hash([]byte("0123 https://site.test/a?b")); got != 0x8cc498658f13eaca {
		t.Errorf("%#x", got)
	}
	if got := score(hashText("node"), 1); got == score(hashText("node"), 2) || got == 0 || got == math.MaxUint64 {
		t.Errorf("%#x", got)
	}
}

func BenchmarkWay(b *testing.B) {
	table := NewTable(Config{Self: Node{ID: "FRA-0", Colo: "FRA"}})
	table.Set(edges(12, "FRA", "NRT", "SIN"))
	smart := &zone.Topology{Mode: zone.TopologySmart}
	key := []byte("0123456789abcdef0123456789abcdef https://www.example.com/assets/app.js?v=1")
	var room [8]Step
	b.ReportAllocs()
	for b.Loop() {
		table.Way(room[:0], testZone, smart, Hash(key), request.RoleNone)
	}
}
