package rings

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/selvage-edge/selvage/feed"
	"github.com/selvage-edge/selvage/zone"
)

// memCopy is a copy in memory.
type memCopy struct {
	cursor feed.Cursor
	rows   map[string]stored
}

type stored struct {
	value []byte
	seq   uint64
}

func (c *memCopy) Cursor() feed.Cursor { return c.cursor }

func (c *memCopy) Get(key string) ([]byte, uint64, bool, error) {
	r, ok := c.rows[key]
	return r.value, r.seq, ok, nil
}

func (c *memCopy) Scan(prefix string, row func(string, []byte, uint64) error) error {
	for _, key := range slices.Sorted(maps.Keys(c.rows)) {
		if !strings.HasPrefix(key, prefix) {
			continue
		}
		if err := row(key, c.rows[key].value, c.rows[key].seq); err != nil {
			return err
		}
	}
	return nil
}

func (c *memCopy) apply(changes []feed.Change) {
	c.cursor.Seq++
	for _, ch := range changes {
		if ch.Op == feed.Delete {
			delete(c.rows, ch.Key)
		} else {
			c.rows[ch.Key] = stored{ch.Value, c.cursor.Seq}
		}
	}
}

// state is all that a View shows, numbers included.
func state(t *testing.T, v *View) string {
	t.Helper()
	var b strings.Builder
	last := ""
	if err := v.Scan("", func(key string, value []byte, seq uint64) error {
		if key <= last {
			t.Errorf("%s comes after %s", key, last)
		}
		last = key
		got, gotSeq, ok, err := v.Get(key)
		if err != nil || !ok || string(got) != string(value) || gotSeq != seq {
			t.Errorf("%s: %q of %d listed, %q of %d found (%v, %v)", key, value, seq, got, gotSeq, ok, err)
		}
		fmt.Fprintf(&b, "%s=%s@%d\n", key, value, seq)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// history is a random log as the control plane writes one: zones change, their
// changes go by rings, are released, halted, or go with their zone.
func history(r *rand.Rand, entries int) [][]feed.Change {
	d := Definition{Canaries: []string{"FRA"}, Share: 50}
	var log [][]feed.Change
	pending := map[uint64]*Stage{}
	owner := map[uint64]string{}
	next := uint64(1)
	change := func(id string) feed.Change {
		key := zone.KeyDefaults // of the operator, where id is none
		if id != "" {
			key = []string{zone.MetaKey(id), zone.SettingsKey(id), zone.DNSKey(id, "a"), zone.DNSKey(id, "b"), zone.RulesetKey(id, "p")}[r.IntN(5)]
		}
		if r.IntN(4) == 0 {
			return feed.Change{Op: feed.Delete, Key: key}
		}
		return feed.Change{Op: feed.Set, Key: key, Value: fmt.Append(nil, r.IntN(1000))}
	}
	for len(log) < entries {
		id := ""
		if who := rune(r.IntN(4)); who < 3 {
			id = strings.Repeat(string('a'+who), 32)
		}
		switch r.IntN(6) {
		case 0, 1:
			log = append(log, []feed.Change{change(id)})
		case 2:
			s := NewStage(d, "token", time.Unix(int64(next), 0).UTC(), []feed.Change{change(id)})
			value, _ := s.Encode()
			pending[next], owner[next] = s, id
			log = append(log, []feed.Change{{Op: feed.Set, Key: Key(next), Value: value}})
			next++
		case 3, 4:
			for n, s := range pending {
				if s.Ring++; s.Ring < All && r.IntN(2) == 0 {
					value, _ := s.Encode()
					log = append(log, []feed.Change{{Op: feed.Set, Key: Key(n), Value: value}})
					break
				}
				all := s.Feed()
				if r.IntN(2) == 0 {
					all = nil // halted
				}
				log = append(log, append(all, feed.Change{Op: feed.Delete, Key: Key(n)}))
				delete(pending, n)
				break
			}
		default:
			if id == "" {
				continue // only zones go
			}
			gone := []feed.Change{}
			for _, part := range []string{zone.MetaKey(id), zone.SettingsKey(id), zone.DNSKey(id, "a"), zone.DNSKey(id, "b"), zone.RulesetKey(id, "p")} {
				gone = append(gone, feed.Change{Op: feed.Delete, Key: part})
			}
			for n := range pending {
				if owner[n] == id {
					gone = append(gone, feed.Change{Op: feed.Delete, Key: Key(n)})
					delete(pending, n)
				}
			}
			log = append(log, gone)
		}
	}
	return log
}

// What a node sees is a function of the entries and of its ring: whether it
// applied them one by one, several at a time, from a snapshot or before a restart.
func TestStateIsOfThePrefixAndTheRing(t *testing.T) {
	share, rest := "", ""
	d := Definition{Canaries: []string{"FRA"}, Share: 50}
	for _, colo := range []string{"AMS", "LHR", "NRT", "SIN", "GRU", "IAD", "SFO", "SYD"} {
		if d.Of(colo) == Share {
			share = colo
		} else {
			rest = colo
		}
	}
	for seed := range uint64(100) {
		r := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // a seed makes the run again
		log := history(r, 60)
		for _, colo := range []string{"FRA", share, rest} {
			live := &memCopy{rows: map[string]stored{}}
			each, some := NewView(live, colo), NewView(live, colo)
			for i, changes := range log {
				before := state(t, each)
				live.apply(changes)
				changed, err := each.Refresh()
				if err != nil {
					t.Fatal(err)
				}
				now := state(t, each)
				if r.IntN(5) == 0 {
					if _, err := some.Refresh(); err != nil {
						t.Fatal(err)
					}
					if got := state(t, some); got != now {
						t.Fatalf("seed %d, %s, entry %d: one by one\n%s\nseveral at a time\n%s", seed, colo, i+1, now, got)
					}
				}
				snapshot := &memCopy{cursor: live.cursor, rows: maps.Clone(live.rows)}
				fresh := NewView(snapshot, colo)
				if _, err := fresh.Refresh(); err != nil {
					t.Fatal(err)
				}
				if got := state(t, fresh); got != now {
					t.Fatalf("seed %d, %s, entry %d: one by one\n%s\nfrom a snapshot\n%s", seed, colo, i+1, now, got)
				}
				told(t, before, now, changes, changed)
			}
		}
	}
}

// told fails for a zone's key that differs without having been changed by the
// entry or named by Refresh: its zone would not be compiled again.
func told(t *testing.T, before, now string, changes []feed.Change, changed []string) {
	t.Helper()
	was, is := map[string]bool{}, map[string]bool{}
	for line := range strings.Lines(before) {
		was[line] = true
	}
	for line := range strings.Lines(now) {
		is[line] = true
	}
	check := func(line string) {
		key, _, _ := strings.Cut(line, "=")
		if slices.Contains(changed, key) || slices.ContainsFunc(changes, func(c feed.Change) bool { return c.Key == key }) {
			return
		}
		t.Errorf("%s differs, but neither the entry nor Refresh names it", key)
	}
	for line := range is {
		if !was[line] {
			check(line)
		}
	}
	for line := range was {
		if !is[line] {
			check(line)
		}
	}
}

// A stage that cannot be used, of a newer version perhaps, leaves the state
// before it and hides no other stage.
func TestStageThatCannotBeUsedIsLeftOut(t *testing.T) {
	id := strings.Repeat("ab", 16)
	d := Definition{Canaries: []string{"FRA"}}
	good, err := NewStage(d, "token", time.Now(), []feed.Change{{Op: feed.Set, Key: zone.SettingsKey(id), Value: []byte("new")}}).Encode()
	if err != nil {
		t.Fatal(err)
	}
	c := &memCopy{rows: map[string]stored{}}
	c.apply([]feed.Change{{Op: feed.Set, Key: zone.SettingsKey(id), Value: []byte("old")}})
	c.apply([]feed.Change{{Op: feed.Set, Key: Key(1), Value: []byte(`{"version":9}`)}, {Op: feed.Set, Key: "stage/01", Value: good}})
	v := NewView(c, "FRA")
	if _, err := v.Refresh(); err == nil || !strings.Contains(err.Error(), "stage/1: ") || !strings.Contains(err.Error(), "stage/01: ") {
		t.Errorf("%v", err)
	}
	if got, _, _, _ := v.Get(zone.SettingsKey(id)); string(got) != "old" || v.Staged() != 0 {
		t.Errorf("%q, %d staged", got, v.Staged())
	}
	c.apply([]feed.Change{{Op: feed.Set, Key: Key(2), Value: good}})
	changed, err := v.Refresh()
	if err == nil || !slices.Equal(changed, []string{zone.SettingsKey(id)}) {
		t.Errorf("%v, changed %v", err, changed)
	}
	if got, _, _, _ := v.Get(zone.SettingsKey(id)); string(got) != "new" || v.Staged() != 1 {
		t.Errorf("%q, %d staged", got, v.Staged())
	}
}
