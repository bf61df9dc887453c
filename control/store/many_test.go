package store_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/selvage-edge/selvage/control/store"
	"github.com/selvage-edge/selvage/control/store/storetest"
	"github.com/selvage-edge/selvage/fault"
	"github.com/selvage-edge/selvage/zone"
)

func zoneOf(t *testing.T, s *store.Store, id string) (z *store.Zone) {
	t.Helper()
	if err := s.Read(t.Context(), func(tx *store.Tx) (err error) {
		z, err = tx.Zone(t.Context(), id)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return z
}

func newZone(id string) *store.Zone {
	now := store.Now()
	return &store.Zone{Meta: zone.Meta{ID: id, Name: id + ".test", Account: account, NameServers: []string{}, Created: now, Changed: now}, Settings: map[string]store.Setting{}}
}

func putZones(t *testing.T, s *store.Store, ids ...string) {
	t.Helper()
	write(t, s, func(tx *store.Tx) error {
		err := tx.PutAccount(t.Context(), store.Account{ID: account, Name: "n"})
		for _, id := range ids {
			err = errors.Join(err, tx.SaveZone(t.Context(), nil, newZone(id)))
		}
		return err
	})
}

func TestStaleStateIsNotWritten(t *testing.T) {
	s := open(t, storetest.Place(t))
	putZones(t, s, "z1")
	before := zoneOf(t, s, "z1")
	first, second := before.Clone(), before.Clone()
	first.Status, second.Status = "first", "second"
	save := func(before, after *store.Zone) error {
		return s.Write(t.Context(), func(tx *store.Tx) error { return tx.SaveZone(t.Context(), before, after) })
	}
	if err := save(before, first); err != nil {
		t.Fatal(err)
	}
	if err := save(before, second); !errors.Is(err, store.ErrStale) {
		t.Errorf("a change of an old state: %v", err)
	}
	if err := save(before, nil); !errors.Is(err, store.ErrStale) {
		t.Errorf("removal of an old state: %v", err)
	}
	if got := zoneOf(t, s, "z1"); got.Status != "first" || got.Version != first.Version {
		t.Errorf("got %q version %d, want the first writer's", got.Status, got.Version)
	}
}

// Sixty-four writers of one row each make what they read one more.
func TestNoUpdateIsLost(t *testing.T) {
	place := storetest.Place(t)
	stores := []*store.Store{open(t, place)}
	putZones(t, stores[0], "z1", "z2")
	if store.IsPostgres(place) { // another control plane's
		stores = append(stores, open(t, place))
	}
	const writers, each = 64, 4
	var work sync.WaitGroup
	failed := make(chan error, writers)
	for i := range writers {
		work.Go(func() {
			s := stores[i%len(stores)]
			for range each {
				if err := s.Write(t.Context(), func(tx *store.Tx) error { return raise(t.Context(), tx, "counter") }); err != nil {
					failed <- err
					return
				}
			}
		})
	}
	work.Wait()
	close(failed)
	for err := range failed {
		t.Error(err)
	}
	if err := stores[0].Read(t.Context(), func(tx *store.Tx) error {
		document, err := tx.Node(t.Context(), "counter")
		if want := strings.Repeat("x", writers*each); document != want {
			t.Errorf("%d updates arrived, want %d", len(document), len(want))
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

func raise(ctx context.Context, tx *store.Tx, id string) error {
	if err := tx.Lock(ctx, id); err != nil {
		return err
	}
	document, err := tx.Node(ctx, id)
	if err != nil && !fault.Is(err, fault.NotFound) {
		return err
	}
	return tx.PutNode(ctx, id, document+"x")
}

// Two transactions that write the same rows in opposite order both arrive.
func TestDeadlockIsNotSurfaced(t *testing.T) {
	s := open(t, storetest.Place(t))
	write(t, s, func(tx *store.Tx) error {
		return errors.Join(tx.PutNode(t.Context(), "a", "0"), tx.PutNode(t.Context(), "b", "0"))
	})
	var work sync.WaitGroup
	for i := range 8 {
		names := []string{"a", "b"}
		if i%2 == 1 {
			slices.Reverse(names)
		}
		work.Go(func() {
			for n := range 10 {
				if err := s.Write(t.Context(), func(tx *store.Tx) error {
					return errors.Join(tx.PutNode(t.Context(), names[0], fmt.Sprint(n)), tx.PutNode(t.Context(), names[1], fmt.Sprint(n)))
				}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	work.Wait()
}

func TestOutboxNumbersRise(t *testing.T) {
	s := open(t, storetest.Place(t))
	last := int64(0)
	for range 5 {
		write(t, s, func(tx *store.Tx) error {
			id, err := tx.PutEvent(t.Context(), store.Event{Changes: []byte{0, 255}}, store.Step{})
			if id <= last {
				t.Errorf("number %d after %d", id, last)
			}
			last = id
			return err
		})
	}
}

// firstHistory is the schema from which on history is kept.
const firstHistory = 7

// Each earlier schema is brought up to date with what is in it.
func TestUpgradeFromEveryEarlierSchema(t *testing.T) {
	newest, err := store.Newest()
	if err != nil || newest < 2 {
		t.Fatal(newest, err)
	}
	for version := int64(1); version < newest; version++ {
		place := storetest.Place(t)
		if err := store.MakeOld(t.Context(), place, version, func(tx *store.Tx) error {
			_, err := tx.ExecContext(t.Context(), `INSERT INTO accounts (id, name, created) VALUES ('a', 'n', 0)`)
			_, zerr := tx.ExecContext(t.Context(), `INSERT INTO zones (id, account, name, status, paused, name_servers, created, changed)
				VALUES ('z1', 'a', 'z1.test', 'active', 0, '["ns1"]', 1, 2)`)
			_, kerr := tx.ExecContext(t.Context(), `INSERT INTO outbox (id, seq, actor, action, object, before, after, changes, created) VALUES (1, 0, 'old', '', '', '', '', $1, 0)`, []byte("x"))
			return errors.Join(err, zerr, kerr, tx.SetKey(t.Context(), "k", []byte{0}, 1))
		}); err != nil {
			t.Fatalf("schema %d: %v", version, err)
		}
		s := open(t, place)
		z := zoneOf(t, s, "z1")
		after := z.Clone()
		after.Paused = true
		write(t, s, func(tx *store.Tx) error { return tx.SaveZone(t.Context(), z, after) })
		if got := zoneOf(t, s, "z1"); !reflect.DeepEqual(got, after) || got.NameServers[0] != "ns1" {
			t.Errorf("schema %d: got %+v", version, got)
		}
		// The change that waits for a number gets 1: it is of before history.
		if err := s.Read(t.Context(), func(tx *store.Tx) error {
			floor, err := tx.HistoryFloor(t.Context())
			if version < firstHistory && floor != 1 {
				t.Errorf("schema %d: history begins with %d, want 1", version, floor)
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCopyBringsEverything(t *testing.T) {
	from, to := open(t, t.TempDir()), open(t, storetest.Place(t))
	putZones(t, from, "z1", "z2")
	z := zoneOf(t, from, "z1")
	full := z.Clone()
	full.Records = []zone.Record{{ID: "r", Name: "z1.test", Type: "MX", Content: "é\t", TTL: 1, Priority: new(uint16(7)), Tags: []string{"t:v"}, Created: z.Created, Changed: z.Created}}
	full.Settings["ssl"] = store.Setting{Value: []byte("{ }"), Changed: z.Created}
	full.Certificates = []store.Certificate{{Certificate: zone.Certificate{ID: "c", Hosts: []string{"x"}, Sealed: []byte{0, 255, 1}}, DataKey: []byte{1}}}
	write(t, from, func(tx *store.Tx) error {
		_, err := tx.PutEvent(t.Context(), store.Event{Changes: []byte{1}}, store.StepOf(z, full))
		return errors.Join(err, tx.SaveZone(t.Context(), z, full), tx.SetKey(t.Context(), "k\x7f", []byte{0, 10}, 9))
	})
	told := map[string]int64{}
	if err := store.Copy(t.Context(), from, to, func(table string, n int64, _ bool) { told[table] = n }); err != nil {
		t.Fatal(err)
	}
	if told["zones"] != 2 || told["outbox"] != 1 || told["kv"] != 1 {
		t.Errorf("told %v", told)
	}
	if got, want := zoneOf(t, to, "z1"), zoneOf(t, from, "z1"); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	write(t, to, func(tx *store.Tx) error {
		id, err := tx.PutEvent(t.Context(), store.Event{Changes: []byte{}}, store.Step{})
		if id != 2 {
			t.Errorf("the next outbox row is %d, want 2", id)
		}
		return err
	})
	if err := store.Copy(t.Context(), from, to, nil); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("a second copy: %v", err)
	}
	back := open(t, t.TempDir())
	if err := store.Copy(t.Context(), to, back, nil); err != nil {
		t.Fatal(err)
	}
	if got, want := zoneOf(t, back, "z1"), zoneOf(t, from, "z1"); !reflect.DeepEqual(got, want) {
		t.Errorf("back again: got  %+v\nwant %+v", got, want)
	}
}

// tables of Copy and of the schema are the same.
func TestCopyKnowsAllTables(t *testing.T) {
	s := open(t, t.TempDir())
	var names []string
	if err := s.Read(t.Context(), func(tx *store.Tx) error {
		r, err := tx.QueryContext(t.Context(), `SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' AND name <> 'goose_db_version'`)
		if err != nil {
			return err
		}
		for r.Next() {
			var name string
			if err := r.Scan(&name); err != nil {
				return err
			}
			names = append(names, name)
		}
		return errors.Join(r.Err(), r.Close())
	}); err != nil {
		t.Fatal(err)
	}
	known := store.Tables()
	slices.Sort(names)
	slices.Sort(known)
	if !slices.Equal(names, known) {
		t.Errorf("Copy knows %v, the schema has %v", known, names)
	}
}

func TestLogBefore(t *testing.T) {
	s := open(t, storetest.Place(t))
	at := time.Unix(1000, 0).UTC()
	write(t, s, func(tx *store.Tx) error {
		for seq := uint64(1); seq <= 5; seq++ {
			if err := tx.PutLog(t.Context(), store.LogRow{Seq: seq, Time: at.Add(time.Duration(seq) * time.Second), Payload: make([]byte, 100), Hash: []byte{1}}); err != nil {
				return err
			}
		}
		for _, c := range []struct {
			bytes int64
			old   time.Time
			want  uint64
		}{
			{0, time.Time{}, 0}, {500, time.Time{}, 0}, {499, time.Time{}, 1}, {250, time.Time{}, 3}, {1, time.Time{}, 4},
			{0, at.Add(3 * time.Second), 2}, {0, at.Add(time.Hour), 4}, {250, at.Add(2 * time.Second), 3}, {450, at.Add(4 * time.Second), 3},
		} {
			got, err := tx.LogBefore(t.Context(), c.bytes, c.old)
			if err != nil || got != c.want {
				t.Errorf("%d bytes, before %s: got %d, %v, want %d", c.bytes, c.old, got, err, c.want)
			}
		}
		return nil
	})
}
