package shelf

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/selvage-edge/selvage/feed"
	"github.com/selvage-edge/selvage/zone"
)

// say gives all zones defaults and makes that true.
func (w *world) say(value string) error {
	w.t.Helper()
	if value == "" {
		w.store(del(zone.KeyDefaults))
	} else {
		w.store(set(zone.KeyDefaults, value))
	}
	return w.Recast(func(id string, err error) {
		if err != nil {
			w.t.Errorf("zone %s: %v", id, err)
		}
	})
}

// tiers is a zone's topology, which settings decide.
func (w *world) tiers(host, when, want string) {
	w.t.Helper()
	z, err := w.Load(w.t.Context(), []byte(host))
	if err != nil || z == nil {
		w.t.Errorf("%s, %s: %v, %v", when, host, z, err)
		return
	}
	if z.Topology.Mode != want {
		w.t.Errorf("%s, %s: tiers are %s, want %s", when, host, z.Topology.Mode, want)
	}
}

const flat = `{"tiered_caching":"off"}`

func TestDefaultsReachZonesThatSayNothing(t *testing.T) {
	w := newWorld(t, 0)
	for i, name := range []string{"hot.test", "cold.test", "own.test"} {
		w.store(rows(i+1, name, "192.0.2.1", "full")...)
	}
	w.store(set(zone.SettingsKey(idOf(3)), `{"tiered_caching":"on"}`))
	w.tiers("hot.test", "at first", "smart")
	w.tiers("own.test", "at first", "smart")
	if err := w.say(flat); err != nil {
		t.Error(err)
	}
	if z, cold := w.Find([]byte("hot.test")); z == nil || cold || z.Topology.Mode != "flat" || z.Seq != w.head.Seq {
		t.Errorf("a hot zone is %v, cold %t; want it flat, of entry %d", z, cold, w.head.Seq)
	}
	if w.Hot() != 2 {
		t.Errorf("%d zones in memory, want those 2 that were", w.Hot())
	}
	for name, want := range map[string]string{"hot.test": "flat", "cold.test": "flat", "own.test": "smart"} {
		w.tiers(name, "with a default", want)
	}
	w.start(w.State, 0)
	w.tiers("hot.test", "after a restart", "flat")
	if err := w.say(""); err != nil {
		t.Error(err)
	}
	w.tiers("hot.test", "unset", "smart")
}

func TestDefaultsThatCannotBeUsed(t *testing.T) {
	w := newWorld(t, 0)
	w.store(rows(1, "example.com", "192.0.2.1", "full")...)
	w.tiers("example.com", "at first", "smart")
	if err := w.say(flat); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{`{"nope":1,"tiered_caching":"on"}`, `{`, `{"development_mode":"on"}`} {
		if err := w.say(bad); err == nil {
			t.Errorf("%s was used", bad)
		}
		w.tiers("example.com", bad, "flat")
	}
	w.start(filepath.Join(t.TempDir(), "held.json"), 0)
	if err := w.Defaults(); err == nil {
		t.Error("after a restart nothing is wrong")
	}
	w.tiers("example.com", "after a restart", "flat")
	if err := w.say(`{"tiered_caching":"on"}`); err != nil || w.Defaults() != nil {
		t.Errorf("good again: %v", err)
	}
	w.tiers("example.com", "good again", "smart")
}

// Of a zone whose rows are elsewhere nothing is read for the defaults: it is
// forgotten, and compiled when it is asked for.
func TestDefaultsWaitForNoParent(t *testing.T) {
	w := newWorld(t, 0)
	w.store(rows(1, "example.com", "192.0.2.1", "full")...)
	w.tiers("example.com", "at first", "smart")
	w.Lacks = func(prefix string) (bool, error) { return prefix == zone.Prefix(idOf(1)), nil }
	if err := w.say(flat); err != nil {
		t.Error(err)
	}
	if n := w.Hot(); n != 0 {
		t.Errorf("%d zones in memory, want none", n)
	}
	w.tiers("example.com", "asked for again", "flat")
}

// A zone that is held at an older state has the defaults of now, and is not
// judged a second time for them.
func TestDefaultsOfAHeldZone(t *testing.T) {
	w := newWorld(t, 0)
	w.store(rows(1, "example.com", "192.0.2.1", "full")...)
	w.tiers("example.com", "at first", "smart")
	w.store(set(zone.SettingsKey(idOf(1)), `{"nonsense":"1"}`))
	if err := w.settle(idOf(1)); err == nil {
		t.Fatal("nonsense was compiled")
	}
	if err := w.say(flat); err != nil {
		t.Error(err)
	}
	w.tiers("example.com", "held", "flat")
}

// A zone is compiled while the defaults change: nobody finds it over the old ones
// after that was made true, and none of the waiting is refused.
func TestDefaultsChangeWhileZonesAreAskedFor(t *testing.T) {
	const zones, rounds = 40, 60
	w := newWorld(t, 64<<10) // room for about a dozen: they come and leave
	for i := range zones {
		w.store(rows(i, fmt.Sprintf("z%d.test", i), "192.0.2.1", "full")...)
	}
	stop := make(chan struct{})
	var settled atomic.Uint64
	var visitors sync.WaitGroup
	for v := range 4 {
		visitors.Go(func() {
			for n := v; ; n += 7 {
				select {
				case <-stop:
					return
				default:
				}
				least := settled.Load()
				z, err := w.Load(t.Context(), fmt.Appendf(nil, "z%d.test", n%zones))
				if err != nil || z == nil || z.Seq < least {
					t.Errorf("zone %d: %v, %v; want the defaults of entry %d or newer", n%zones, z, err, least)
					return
				}
				if want := []string{"flat", "smart"}[z.Seq%2]; z.Seq > zones && z.Topology.Mode != want {
					t.Errorf("of entry %d tiers are %s, want %s", z.Seq, z.Topology.Mode, want)
					return
				}
			}
		})
	}
	if w.head.Seq%2 != 0 {
		t.Fatal("the rounds begin at an even number")
	}
	for range rounds / 2 {
		for _, value := range []string{`{"tiered_caching":"on"}`, flat} {
			if err := w.say(value); err != nil {
				t.Error(err)
			}
			settled.Store(w.head.Seq)
		}
	}
	close(stop)
	visitors.Wait()
}

// broken is a copy that cannot be read.
type broken struct{ Reader }

func (broken) Get(string) ([]byte, uint64, bool, error) { return nil, 0, false, feed.ErrCorrupt }

func TestDefaultsThatCannotBeRead(t *testing.T) {
	w := newWorld(t, 0)
	w.store(rows(1, "example.com", "192.0.2.1", "full")...)
	w.tiers("example.com", "at first", "smart")
	w.Copy = broken{w.copy}
	if err := w.Recast(func(id string, _ error) { t.Errorf("zone %s was judged", id) }); !errors.Is(err, errRead) || !errors.Is(err, feed.ErrCorrupt) {
		t.Errorf("got %v", err)
	}
	if z, _ := w.Find([]byte("example.com")); z == nil {
		t.Error("what was served is not served any more")
	}
}

// BenchmarkRecast is how long a change of defaults takes with 10,000 zones in
// memory.
func BenchmarkRecast(b *testing.B) {
	w := newWorld(b, 0)
	const zones = 10_000
	for i := range zones {
		w.store(rows(i, fmt.Sprintf("z%d.test", i), "192.0.2.1", "full")...)
	}
	for i := range zones {
		if _, err := w.Load(b.Context(), fmt.Appendf(nil, "z%d.test", i)); err != nil {
			b.Fatal(err)
		}
	}
	if w.Hot() != zones {
		b.Fatalf("%d zones in memory", w.Hot())
	}
	for n := 0; b.Loop(); n++ {
		w.store(set(zone.KeyDefaults, fmt.Sprintf(`{"browser_cache_ttl":%d}`, n)))
		if err := w.Recast(func(id string, err error) {
			if err != nil {
				b.Errorf("zone %s: %v", id, err)
			}
		}); err != nil {
			b.Fatal(err)
		}
	}
}
