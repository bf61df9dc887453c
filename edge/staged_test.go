package edge

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/selvage-edge/selvage/feed"
	"github.com/selvage-edge/selvage/rings"
	"github.com/selvage-edge/selvage/zone"
)

// stagedWorld is a canary's applier over a real copy, fed entry by entry.
type stagedWorld struct {
	t    *testing.T
	dir  string
	copy *feed.Copy
	*applier
	head     feed.Cursor
	rejected map[uint64]string
}

func newStagedWorld(t *testing.T) *stagedWorld {
	w := &stagedWorld{t: t, dir: filepath.Join(t.TempDir(), "copy")}
	w.restart()
	t.Cleanup(func() { _ = w.copy.Close() })
	return w
}

// restart opens the copy as the next start does.
func (w *stagedWorld) restart() {
	w.t.Helper()
	if w.copy != nil {
		if err := w.copy.Close(); err != nil {
			w.t.Fatal(err)
		}
	}
	var err error
	if w.copy, err = feed.OpenCopy(w.dir, feed.CopyOptions{}); err != nil {
		w.t.Fatal(err)
	}
	view := rings.NewView(w.copy, "FRA")
	w.applier = applierOver(w.t, view, view, w.copy, "")
	if err := w.begin(); err != nil {
		w.t.Fatal(err)
	}
}

func (w *stagedWorld) entry(changes ...feed.Change) {
	w.t.Helper()
	e := feed.Seal(w.head.Hash, w.head.Seq+1, time.Now(), changes)
	w.head = feed.Cursor{Seq: e.Seq, Hash: e.Hash}
	if err := w.copy.Apply(&e); err != nil {
		w.t.Fatal(err)
	}
	if err := w.note(&e); err != nil {
		w.t.Fatal(err)
	}
	w.rejected = map[uint64]string{}
	w.settle(func(seq uint64, why error) { w.rejected[seq] = why.Error() })
}

// serves says what the zone is served as.
func (w *stagedWorld) serves(when, want string) {
	w.t.Helper()
	got := "nothing"
	if z := w.zoneOf(w.t, "example.com"); z != nil {
		got = fmt.Sprintf("tiers %s, new.example.com %s", z.Topology.Mode, mdns.RcodeToString[resolve(w.t, w.edge.dns, "new.example.com.")])
	}
	if got != want {
		w.t.Errorf("%s: %s, want %s", when, got, want)
	}
}

func TestCanaryServesAStageUntilItIsHaltedOrDone(t *testing.T) {
	const id = "11111111111111111111111111111111"
	set := func(key, value string) feed.Change {
		return feed.Change{Op: feed.Set, Key: key, Value: []byte(value)}
	}
	staged := []feed.Change{
		set(zone.SettingsKey(id), `{"tiered_caching":"off"}`),
		set(zone.DNSKey(id, "new.example.com"), `[{"id":"r9","name":"new.example.com","type":"A","content":"192.0.2.9","ttl":1}]`),
	}
	stage := func(canary string, n uint64, changes []feed.Change) feed.Change {
		value, err := rings.NewStage(rings.Definition{Canaries: []string{canary}}, "token", time.Now(), changes).Encode()
		if err != nil {
			t.Fatal(err)
		}
		return set(rings.Key(n), string(value))
	}
	remove := func(key string) feed.Change { return feed.Change{Op: feed.Delete, Key: key} }
	const before, after = "tiers smart, new.example.com NXDOMAIN", "tiers flat, new.example.com NOERROR"

	w := newStagedWorld(t)
	var rows []feed.Change
	for _, key := range slices.Sorted(maps.Keys(zoneRows(t, id, "example.com"))) {
		rows = append(rows, set(key, zoneRows(t, id, "example.com")[key]))
	}
	w.entry(rows...)
	w.serves("at first", before)
	w.entry(stage("AMS", 1, staged))
	w.serves("staged for another", before)
	w.entry(remove(rings.Key(1)), stage("FRA", 2, staged))
	w.serves("staged for this one", after)
	if seq := w.zoneOf(t, "example.com").Seq; seq != 3 {
		t.Errorf("of entry %d, want 3", seq)
	}
	w.entry(set(zone.MetaKey(id), zoneRows(t, id, "example.com")[zone.MetaKey(id)]))
	w.serves("after another change of the zone", after)
	w.restart()
	w.serves("after a restart", after)
	w.entry(remove(rings.Key(2)))
	w.serves("halted", before)
	w.restart()
	w.serves("halted, after a restart", before)
	w.entry(stage("FRA", 3, staged))
	w.entry(append([]feed.Change{remove(rings.Key(3))}, staged...)...)
	w.serves("released to all", after)

	// What cannot be compiled is rejected by the stage's number; what was served is on.
	w.entry(stage("FRA", 4, []feed.Change{set(zone.SettingsKey(id), `{"nope":1}`)}))
	w.serves("a stage that cannot be compiled", after)
	if why := w.rejected[w.head.Seq]; !strings.Contains(why, "nope") {
		t.Errorf("rejected: %v", w.rejected)
	}
	w.entry(set(rings.Key(4), `{"version":9}`))
	w.serves("a stage of another version", after)
	if why := w.rejected[w.head.Seq]; !strings.Contains(why, "version 9") {
		t.Errorf("rejected: %v", w.rejected)
	}
	// The zone goes, with what is staged for it.
	w.entry(append([]feed.Change{remove(rings.Key(4))}, []feed.Change{
		remove(zone.NameKey("example.com")), remove(zone.MetaKey(id)), remove(zone.SettingsKey(id)),
		remove(zone.DNSKey(id, "example.com")), remove(zone.DNSKey(id, "new.example.com")),
	}...)...)
	w.serves("deleted", "nothing")
	if len(w.rejected) > 0 {
		t.Errorf("rejected: %v", w.rejected)
	}
}
