package shelf

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/selvage-edge/selvage/edge/dns"
	"github.com/selvage-edge/selvage/fault"
	"github.com/selvage-edge/selvage/feed"
	"github.com/selvage-edge/selvage/zone"
)

// world is a shelf over a copy in memory, to which entries are applied.
type world struct {
	t testing.TB
	*Shelf
	copy  *feed.Copy
	dns   *dns.Server
	head  feed.Cursor
	fills atomic.Int64 // zones compiled for requests or judged
	hold  chan struct{}
}

func newWorld(t testing.TB, bytes int64) *world {
	t.Helper()
	copied, err := feed.OpenCopy("copy", feed.CopyOptions{FS: vfs.NewMem(), NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = copied.Close() })
	w := &world{t: t, copy: copied}
	w.start(filepath.Join(t.TempDir(), "held.json"), bytes)
	return w
}

// start makes the shelf as an edge's start does, with nothing compiled.
func (w *world) start(state string, bytes int64) {
	w.t.Helper()
	w.Shelf = New(Config{
		Copy: w.copy, Older: w.copy, Bytes: bytes, State: state,
		Shared: &zone.Shared{Colo: "FRA", Advertise: []netip.Addr{netip.MustParseAddr("127.0.0.1")}},
		Fill: func(*zone.Spec) error {
			w.fills.Add(1)
			if w.hold != nil {
				<-w.hold
			}
			return nil
		},
	})
	w.dns = dns.New(dns.Config{Names: &w.Names, Ctx: w.t.Context(), Load: w.Shelf.Plan, Bytes: max(bytes, 1)})
	w.Plans = w.dns
	if err := w.Open(); err != nil {
		w.t.Fatal(err)
	}
}

// store puts an entry into the copy; settle makes it true.
func (w *world) store(changes ...feed.Change) {
	w.t.Helper()
	e := feed.Seal(w.head.Hash, w.head.Seq+1, time.Now(), changes)
	w.head = feed.Cursor{Seq: e.Seq, Hash: e.Hash}
	if err := w.copy.Apply(&e); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) settle(id string, names ...string) error {
	w.t.Helper()
	for _, name := range names {
		if err := w.Named(name); err != nil {
			w.t.Error(err)
		}
	}
	_, err := w.Touch(id)
	return err
}

func set(key string, v any) feed.Change {
	text, ok := v.(string)
	if !ok {
		b, err := json.Marshal(v)
		if err != nil {
			panic(err)
		}
		text = string(b)
	}
	return feed.Change{Op: feed.Set, Key: key, Value: []byte(text)}
}

func del(key string) feed.Change { return feed.Change{Op: feed.Delete, Key: key} }

func idOf(n int) string { return fmt.Sprintf("%032x", n) }

// rows are a zone with its address and a setting.
func rows(n int, name, address, ssl string) []feed.Change {
	id := idOf(n)
	return []feed.Change{
		set(zone.NameKey(name), id),
		set(zone.MetaKey(id), zone.Meta{ID: id, Name: name, Status: "active", NameServers: []string{"ns1.test", "ns2.test"}}),
		set(zone.SettingsKey(id), map[string]string{"ssl": ssl}),
		set(zone.DNSKey(id, name), []zone.Record{{ID: "r", Name: name, Type: "A", Content: address, TTL: 60}}),
	}
}

func (w *world) seqOf(host string) uint64 {
	w.t.Helper()
	z, err := w.Load(w.t.Context(), []byte(host))
	if err != nil {
		w.t.Errorf("%s: %v", host, err)
	}
	if z == nil {
		return 0
	}
	return z.Seq
}

func TestColdZoneIsCompiledOnceForAllWhoAsk(t *testing.T) {
	w := newWorld(t, 0)
	w.store(rows(1, "example.com", "192.0.2.1", "full")...)
	w.hold = make(chan struct{})
	var asked, ready sync.WaitGroup
	var wrong atomic.Int64
	ready.Add(1000)
	for i := range 1000 {
		asked.Go(func() {
			host := fmt.Appendf(nil, "h%d.example.com", i%3)
			if z, cold := w.Find(host); z != nil || !cold {
				wrong.Add(1)
			}
			ready.Done()
			if z, err := w.Load(t.Context(), host); err != nil || z == nil || z.Name != "example.com" {
				wrong.Add(1)
			}
		})
	}
	ready.Wait()
	close(w.hold)
	asked.Wait()
	if n := w.fills.Load(); n != 1 || wrong.Load() != 0 {
		t.Errorf("compiled %d times, want 1; %d of 1,000 got something else", n, wrong.Load())
	}
	if z, cold := w.Find([]byte("www.example.com")); z == nil || cold {
		// The names below are known to be none, each was looked for.
		if z, err := w.Load(t.Context(), []byte("www.example.com")); z == nil || err != nil {
			t.Errorf("not found after it was compiled: %v, %v", z, err)
		}
	}
	if z, cold := w.Find([]byte("www.example.com")); z == nil || cold {
		t.Error("a hot zone is cold for a host that was asked for")
	}
}

func TestHostsAndTheirZones(t *testing.T) {
	w := newWorld(t, 0)
	w.store(rows(1, "example.com", "192.0.2.1", "full")...)
	w.store(rows(2, "sub.example.com", "192.0.2.2", "full")...)
	for range 2 { // before the names were read, and after
		for host, want := range map[string]uint64{
			"example.com": 1, "www.example.com": 1, "sub.example.com": 2, "a.b.sub.example.com": 2,
			"notexample.com": 0, "com": 0, "": 0, ".": 0, "example.org": 0, "a..example.com": 0,
		} {
			if got := w.seqOf(host); got != want {
				t.Errorf("%q is served by zone of entry %d, want %d", host, got, want)
			}
		}
		if err := w.readNames(t.Context()); err != nil {
			t.Fatal(err)
		}
		if w.Count() != 2 {
			t.Errorf("%d names", w.Count())
		}
	}
	for _, host := range []string{"unknown.test", "x.unknown.test", "org"} {
		if z, cold := w.Find([]byte(host)); z != nil || cold {
			t.Errorf("%s is looked for on disk though all names are known", host)
		}
	}
	if z, err := w.LoadID(t.Context(), idOf(2)); err != nil || z == nil || z.Name != "sub.example.com" {
		t.Errorf("by its id: %v, %v", z, err)
	}
	if z, err := w.LoadID(t.Context(), idOf(3)); err != nil || z != nil {
		t.Errorf("by an id that is none: %v, %v", z, err)
	}
}

func TestChangesReachHotAndColdZones(t *testing.T) {
	w := newWorld(t, 0)
	w.store(rows(1, "example.com", "192.0.2.1", "full")...)
	if err := w.settle(idOf(1), "example.com"); err != nil {
		t.Fatal(err)
	}
	if w.Hot() != 0 {
		t.Error("a zone that nobody asked for is kept in memory")
	}
	if w.seqOf("example.com") != 1 {
		t.Error("not served")
	}
	w.store(set(zone.SettingsKey(idOf(1)), `{"ssl":"off"}`))
	if err := w.settle(idOf(1)); err != nil {
		t.Fatal(err)
	}
	if z, _ := w.Find([]byte("example.com")); z == nil || z.Seq != 2 {
		t.Errorf("in memory: %v, want entry 2", z)
	}
	// Renamed: the old name is nobody's, the new one's is the zone.
	renamed := rows(1, "renamed.test", "192.0.2.1", "full")
	w.store(append(renamed, del(zone.NameKey("example.com")), del(zone.DNSKey(idOf(1), "example.com")))...)
	if err := w.settle(idOf(1), "example.com", "renamed.test"); err != nil {
		t.Fatal(err)
	}
	if w.seqOf("example.com") != 0 || w.seqOf("renamed.test") != 3 {
		t.Errorf("after the new name: old %d, new %d", w.seqOf("example.com"), w.seqOf("renamed.test"))
	}
	// Deleted, and made again under another id.
	w.store(append(rows(2, "renamed.test", "192.0.2.9", "full"), del(zone.MetaKey(idOf(1))), del(zone.SettingsKey(idOf(1))), del(zone.DNSKey(idOf(1), "renamed.test")))...)
	if err := w.Named("renamed.test"); err != nil {
		t.Error(err)
	}
	if gone, err := w.Touch(idOf(1)); !gone || err != nil {
		t.Errorf("gone %t, %v", gone, err)
	}
	if z, err := w.Load(t.Context(), []byte("renamed.test")); err != nil || z == nil || z.ID != idOf(2) {
		t.Errorf("made again: %v, %v", z, err)
	}
}

// A change arrives while the zone is being compiled from what was before it.
func TestChangeWhileItIsCompiled(t *testing.T) {
	w := newWorld(t, 0)
	w.store(rows(1, "example.com", "192.0.2.1", "full")...)
	w.hold = make(chan struct{})
	done := make(chan uint64)
	go func() {
		z, err := w.Load(t.Context(), []byte("example.com"))
		if err != nil || z == nil {
			t.Errorf("%v, %v", z, err)
			close(done)
			return
		}
		done <- z.Seq
	}()
	for w.fills.Load() == 0 {
		runtime.Gosched() // until it has been read
	}
	w.store(set(zone.SettingsKey(idOf(1)), `{"ssl":"off"}`))
	settled := make(chan error)
	go func() { settled <- w.settle(idOf(1)) }()
	for w.fills.Load() < 2 {
		runtime.Gosched()
	}
	close(w.hold)
	if err := <-settled; err != nil {
		t.Error(err)
	}
	if got := <-done; got != 2 {
		t.Errorf("served at entry %d after entry 2 took effect", got)
	}
	if z, _ := w.Find([]byte("example.com")); z == nil || z.Seq != 2 {
		t.Errorf("in memory: %v", z)
	}
}

// What cannot be compiled is never used, hot or cold, whole or its DNS alone, and
// not after a restart either.
func TestRejectedStateIsNeverUsed(t *testing.T) {
	w := newWorld(t, 0)
	w.store(rows(1, "example.com", "192.0.2.1", "full")...)
	w.store(rows(2, "cold.test", "192.0.2.1", "full")...)
	w.seqOf("example.com")
	address := func(name string) string {
		t.Helper()
		p, err := w.Shelf.Plan(t.Context(), name)
		if err != nil || p == nil {
			return fmt.Sprint(err)
		}
		return fmt.Sprint(p.Serial())
	}
	for n, name := range map[int]string{1: "example.com", 2: "cold.test"} {
		w.store(set(zone.SettingsKey(idOf(n)), `{"nonsense":"1"}`), set(zone.DNSKey(idOf(n), name), []zone.Record{{ID: "r", Name: name, Type: "A", Content: "192.0.2.66", TTL: 60}}))
		if err := w.settle(idOf(n)); err == nil {
			t.Fatalf("%s: nonsense was compiled", name)
		}
	}
	check := func(when string) {
		t.Helper()
		if a, b := w.seqOf("example.com"), w.seqOf("cold.test"); a != 1 || b != 2 {
			t.Errorf("%s: served at %d and %d, want 1 and 2", when, a, b)
		}
		if a, b := address("example.com"), address("cold.test"); a != "1" || b != "2" {
			t.Errorf("%s: DNS at %s and %s, want 1 and 2", when, a, b)
		}
	}
	check("after the rejection")
	w.start(w.State, 0)
	check("after a restart")
	w.start(filepath.Join(t.TempDir(), "new.json"), 0)
	if z, err := w.Load(t.Context(), []byte("example.com")); z != nil || !errors.Is(err, errNoGood) {
		t.Errorf("a state from before the history is served: %v, %v", z, err)
	}
}

func TestGoodStateEndsTheHold(t *testing.T) {
	w := newWorld(t, 0)
	w.store(rows(1, "example.com", "192.0.2.1", "full")...)
	w.store(set(zone.SettingsKey(idOf(1)), `{"nonsense":"1"}`))
	if err := w.settle(idOf(1)); err == nil {
		t.Fatal("nonsense was compiled")
	}
	if w.seqOf("example.com") != 1 || !w.held.has(idOf(1)) {
		t.Error("not held at entry 1")
	}
	w.store(set(zone.SettingsKey(idOf(1)), `{"ssl":"off"}`))
	if err := w.settle(idOf(1)); err != nil {
		t.Fatal(err)
	}
	if w.seqOf("example.com") != 3 || w.held.has(idOf(1)) {
		t.Errorf("served at %d, held %t", w.seqOf("example.com"), w.held.has(idOf(1)))
	}
}

// Zones come and leave while they are changed and asked for: a visitor sees a
// zone's state at one sequence, never an older one than was settled before it
// asked.
func TestEvictionWhileServing(t *testing.T) {
	const zones, rounds = 60, 40
	w := newWorld(t, 16<<10) // room for about a dozen
	var newest [zones]atomic.Uint64
	for i := range zones {
		w.store(rows(i, fmt.Sprintf("z%d.test", i), "192.0.2.1", "full")...)
		newest[i].Store(w.head.Seq)
	}
	stop := make(chan struct{})
	var visitors sync.WaitGroup
	var served atomic.Int64
	for v := range 4 {
		visitors.Go(func() {
			for n := v; ; n += 7 {
				select {
				case <-stop:
					return
				default:
				}
				i := n % zones
				atLeast := newest[i].Load()
				z, err := w.Load(t.Context(), fmt.Appendf(nil, "www.z%d.test", i))
				if err != nil || z == nil || z.Seq < atLeast || z.Name != fmt.Sprintf("z%d.test", i) {
					t.Errorf("zone %d: %v, %v; want entry %d or newer", i, z, err, atLeast)
					return
				}
				p, err := w.Shelf.Plan(t.Context(), z.Name)
				if err != nil || p == nil || p.Name != z.Name {
					t.Errorf("DNS of zone %d: %v, %v", i, p, err)
					return
				}
				served.Add(1)
			}
		})
	}
	for r := range rounds {
		for i := r % 3; i < zones; i += 3 {
			w.store(set(zone.SettingsKey(idOf(i)), `{"ssl":"off"}`))
			if err := w.settle(idOf(i)); err != nil {
				t.Error(err)
			}
			newest[i].Store(w.head.Seq)
		}
	}
	for served.Load() < 500 && !t.Failed() {
		runtime.Gosched()
	}
	close(stop)
	visitors.Wait()
	if _, bytes, evicted := w.zones.Usage(); bytes > 16<<10 || evicted == 0 {
		t.Errorf("%d bytes are held, %d have left", bytes, evicted)
	}
}

// A copy is replaced while cold zones are read.
func TestSnapshotWhileZonesAreLoaded(t *testing.T) {
	w := newWorld(t, 0)
	for i := range 40 {
		w.store(rows(i, fmt.Sprintf("z%d.test", i), "192.0.2.1", "full")...)
	}
	stop := make(chan struct{})
	var visitors sync.WaitGroup
	for range 3 {
		visitors.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := w.Load(t.Context(), fmt.Appendf(nil, "z%d.test", n%60)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	snap, err := w.copy.BeginSnapshot()
	if err != nil {
		t.Fatal(err)
	}
	var all []feed.Change
	for i := 20; i < 60; i++ {
		all = append(all, rows(i, fmt.Sprintf("z%d.test", i), "192.0.2.2", "off")...)
	}
	sortChanges(all)
	for _, c := range all {
		if err := snap.Add(t.Context(), c.Key, c.Value, 900); err != nil {
			t.Fatal(err)
		}
	}
	if err := snap.Commit(t.Context(), feed.Cursor{Seq: 1000, Hash: [32]byte{1}}); err != nil {
		t.Fatal(err)
	}
	if err := w.Reload(func(id string) error { _, err := w.Touch(id); return err }); err != nil {
		t.Error(err)
	}
	for i := range 60 {
		want := uint64(900)
		if i < 20 {
			want = 0
		}
		if got := w.seqOf(fmt.Sprintf("z%d.test", i)); got != want {
			t.Errorf("zone %d is served at %d, want %d", i, got, want)
		}
	}
	close(stop)
	visitors.Wait()
}

func sortChanges(all []feed.Change) {
	for i := range all {
		for k := i; k > 0 && all[k].Key < all[k-1].Key; k-- {
			all[k], all[k-1] = all[k-1], all[k]
		}
	}
}

func TestTooManyColdZonesAreRefused(t *testing.T) {
	w := newWorld(t, 0)
	w.store(rows(1, "example.com", "192.0.2.1", "full")...)
	w.store(rows(2, "hot.test", "192.0.2.1", "full")...)
	w.seqOf("hot.test")
	w.hold = make(chan struct{})
	leaving, leave := context.WithCancel(t.Context())
	var asked sync.WaitGroup
	var busy, slow atomic.Int64
	for i := range maxLoads + 50 {
		asked.Go(func() {
			_, err := w.Load(leaving, fmt.Appendf(nil, "flood%d.example.com", i))
			switch {
			case errors.Is(err, errBusy) && fault.Is(err, fault.Limit):
				busy.Add(1)
			case errors.Is(err, errSlow) && fault.Is(err, fault.Limit):
				slow.Add(1)
			}
		})
	}
	if z, cold := w.Find([]byte("hot.test")); z == nil || cold {
		t.Error("a hot zone has to wait for cold ones")
	}
	leave()
	asked.Wait()
	close(w.hold)
	if slow.Load() == 0 {
		t.Error("nobody was told that the zone is not there in time")
	}
	w.fronts.close()
	if _, err := w.Load(t.Context(), []byte("other.test")); !errors.Is(err, errBusy) {
		t.Errorf("after the end: %v", err)
	}
}

// While the copy is lost, nobody is told that a zone does not exist.
func TestLostCopyIsNoReasonToDenyAZone(t *testing.T) {
	w := newWorld(t, 0)
	w.Lost = func() bool { return true }
	if _, err := w.Load(t.Context(), []byte("example.com")); !errors.Is(err, errLost) {
		t.Errorf("HTTP: %v", err)
	}
	if _, err := w.Shelf.Plan(t.Context(), "example.com"); !errors.Is(err, errLost) {
		t.Errorf("DNS: %v", err)
	}
	w.Lost = nil
	if z, err := w.Load(t.Context(), []byte("example.org")); z != nil || err != nil {
		t.Errorf("with a copy: %v, %v", z, err)
	}
}

func TestHistoryThatMayBeGoneIsNotUsed(t *testing.T) {
	w := newWorld(t, 0)
	w.store(rows(1, "example.com", "192.0.2.1", "full")...)
	for range feed.KeptVersions {
		w.store(set(zone.SettingsKey(idOf(1)), `{"nonsense":"1"}`))
	}
	if err := w.settle(idOf(1)); err == nil {
		t.Fatal("nonsense was compiled")
	}
	if z, err := w.Load(t.Context(), []byte("example.com")); z != nil || err == nil || !strings.Contains(err.Error(), "nonsense") {
		t.Errorf("served %v, %v; want to be told why not", z, err)
	}
}

// TestForgottenZoneIsReadAnew: a zone that changed without being judged is not
// served from memory, over HTTP or DNS, and is no longer held at an older state.
func TestForgottenZoneIsReadAnew(t *testing.T) {
	w := newWorld(t, 1<<20)
	w.store(rows(1, "example.com", "192.0.2.1", "full")...)
	if got := w.seqOf("example.com"); got != 1 {
		t.Fatalf("loaded at %d", got)
	}
	if _, err := w.Plan(t.Context(), "example.com"); err != nil || !w.dns.Hot("example.com") {
		t.Fatalf("no plan in memory: %v", err)
	}
	w.store(set(zone.SettingsKey(idOf(1)), "no settings"))
	if err := w.settle(idOf(1)); err == nil {
		t.Fatal("settings that are none were taken")
	}
	w.store(set(zone.SettingsKey(idOf(1)), map[string]string{"ssl": "strict"}))
	if err := w.Forget(idOf(1)); err != nil {
		t.Fatal(err)
	}
	if z, cold := w.Find([]byte("example.com")); z != nil || !cold || w.dns.Hot("example.com") || len(w.Held()) != 0 {
		t.Errorf("zone %v in memory, cold %t, DNS hot %t, held %v", z, cold, w.dns.Hot("example.com"), w.Held())
	}
	if got := w.seqOf("example.com"); got != 3 {
		t.Errorf("loaded at %d, want the newest", got)
	}
}
