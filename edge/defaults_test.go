package edge

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/selvage-edge/selvage/feed"
	"github.com/selvage-edge/selvage/rings"
	"github.com/selvage-edge/selvage/zone"
)

// The operator's defaults are served by who has their stage, hot zones and cold
// ones, from the entry's end on.
func TestCanaryServesStagedDefaults(t *testing.T) {
	const hot, cold = "11111111111111111111111111111111", "22222222222222222222222222222222"
	set := func(key, value string) feed.Change {
		return feed.Change{Op: feed.Set, Key: key, Value: []byte(value)}
	}
	remove := func(key string) feed.Change { return feed.Change{Op: feed.Delete, Key: key} }
	stage := func(canary string, n uint64, value string) feed.Change {
		text, err := rings.NewStage(rings.Definition{Canaries: []string{canary}}, "token", time.Now(), []feed.Change{set(zone.KeyDefaults, value)}).Encode()
		if err != nil {
			t.Fatal(err)
		}
		return set(rings.Key(n), string(text))
	}
	w := newStagedWorld(t)
	all := zoneRows(t, hot, "example.com")
	maps.Copy(all, zoneRows(t, cold, "cold.test"))
	var rows []feed.Change
	for _, key := range slices.Sorted(maps.Keys(all)) {
		rows = append(rows, set(key, all[key]))
	}
	w.entry(rows...)
	check := func(when, want string) {
		t.Helper()
		if z, _ := w.edge.zones.Find([]byte("example.com")); z != nil && z.Topology.Mode != want {
			t.Errorf("%s: tiers of the hot zone are %s, want %s", when, z.Topology.Mode, want)
		}
		for _, host := range []string{"example.com", "cold.test"} {
			if z := w.zoneOf(t, host); z == nil || z.Topology.Mode != want {
				t.Errorf("%s: %s is served as %v, want tiers %s", when, host, z, want)
			}
		}
		if len(w.rejected) > 0 {
			t.Errorf("%s: rejected %v", when, w.rejected)
		}
	}
	if w.zoneOf(t, "example.com") == nil {
		t.Fatal("not served")
	}
	const off = `{"tiered_caching":"off"}`
	w.entry(stage("AMS", 1, off))
	check("staged for another", "smart")
	w.entry(remove(rings.Key(1)), stage("FRA", 2, off))
	check("staged for this one", "flat")
	w.restart()
	w.rejected = nil
	check("after a restart", "flat")
	w.entry(remove(rings.Key(2)))
	check("halted", "smart")
	w.entry(stage("FRA", 3, off))
	w.entry(set(zone.KeyDefaults, off), remove(rings.Key(3)))
	check("released to all", "flat")
	w.entry(set(zone.SettingsKey(hot), `{"tiered_caching":"on"}`), set(zone.KeyDefaults, `{"tiered_caching":"off","http3":"off"}`))
	if z := w.zoneOf(t, "example.com"); z.Topology.Mode != "smart" {
		t.Errorf("tiers of a zone that says so itself are %s", z.Topology.Mode)
	}
	w.entry(remove(zone.SettingsKey(hot)), remove(zone.KeyDefaults))
	check("unset", "smart")

	// Defaults that cannot be used are rejected by their number, staged or not; no
	// zone is.
	w.entry(set(zone.KeyDefaults, off))
	for _, bad := range []feed.Change{stage("FRA", 4, `{"nope":1}`), set(zone.KeyDefaults, `{"nope":2}`)} {
		w.entry(bad)
		if why := w.rejected[w.head.Seq]; len(w.rejected) != 1 || !strings.Contains(why, "nope") {
			t.Errorf("%s: rejected %v", bad.Key, w.rejected)
		}
		w.rejected = nil
		check("what cannot be used", "flat")
	}
	w.entry(remove(rings.Key(4)), set(zone.KeyDefaults, `{}`))
	check("good again", "smart")
	if now, _ := w.edge.rejects.count(); now != 0 {
		t.Errorf("%d rejections stand", now)
	}
}
