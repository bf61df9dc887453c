package publish_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/selvage-edge/selvage/control/publish"
	"github.com/selvage-edge/selvage/control/store"
	"github.com/selvage-edge/selvage/control/store/storetest"
	"github.com/selvage-edge/selvage/fault"
	"github.com/selvage-edge/selvage/feed"
	"github.com/selvage-edge/selvage/zone"
)

type vault struct{ key []byte }

func (v vault) Wrap(name string, key []byte) ([]byte, error) {
	return feed.EncryptKey(v.key, name, key)
}

func (v vault) Unwrap(name string, wrapped []byte) ([]byte, error) {
	return feed.DecryptKey(v.key, name, wrapped)
}

const account = "acacacacacacacacacacacacacacacac"

func openStore(t *testing.T, dir string) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	if err := s.Write(t.Context(), func(tx *store.Tx) error {
		all, err := tx.Accounts(t.Context())
		if err != nil || len(all) > 0 {
			return err
		}
		return tx.PutAccount(t.Context(), store.Account{ID: account, Name: "a"})
	}); err != nil {
		t.Fatal(err)
	}
	return s
}

func config(s *store.Store) publish.Config {
	return publish.Config{
		Store: s, Log: slog.New(slog.DiscardHandler), Vault: vault{make([]byte, 32)},
		Judge: func(spec *zone.Spec) error {
			if spec.Paused {
				return errors.New("paused: this judge refuses it")
			}
			return nil
		},
		Colos: func(context.Context, *store.Tx) ([]string, error) { return []string{"FRA", "AMS"}, nil },
	}
}

// open starts a publisher; stop ends its leader.
func open(t *testing.T, c publish.Config) (p *publish.Publisher, stop func()) {
	t.Helper()
	p, err := publish.New(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return p, stop
}

func newZone(name string) *store.Zone {
	now := store.Now()
	return &store.Zone{Meta: zone.Meta{ID: fmt.Sprintf("%032x", name), Name: name, Account: account, Status: "active", Created: now, Changed: now}}
}

func addRecord(name string) func(*store.Zone) error {
	return func(z *store.Zone) error {
		z.Records = append(z.Records, zone.Record{ID: fmt.Sprintf("%032x", z.Name+name), Name: name + "." + z.Name, Type: "A", Content: "192.0.2.1", TTL: 1, Tags: []string{}})
		return nil
	}
}

var by = publish.Action{Actor: "tester", Name: "test", Object: "object"}

// checkLog walks the whole log and returns its entries.
func checkLog(t *testing.T, p *publish.Publisher) []feed.Entry {
	t.Helper()
	var all []feed.Entry
	var at feed.Cursor
	for {
		part, err := p.Read(t.Context(), at.Seq, 4<<10)
		if err != nil {
			t.Fatal(err)
		}
		if len(part) == 0 {
			head, hash := p.Head()
			if head != at.Seq || hash != at.Hash {
				t.Errorf("head is %d, the log ends at %d", head, at.Seq)
			}
			return all
		}
		for _, e := range part {
			if err := e.Follows(at); err != nil {
				t.Fatal(err)
			}
			at = feed.Cursor{Seq: e.Seq, Hash: e.Hash}
			all = append(all, e)
		}
	}
}

func TestSixteenWritersLoseNothing(t *testing.T) {
	p, _ := open(t, config(openStore(t, storetest.Place(t))))
	z := newZone("busy.test")
	if seq, err := p.Create(t.Context(), by, z); err != nil || seq != 1 {
		t.Fatal(seq, err)
	}
	const writers, each = 16, 8
	var work sync.WaitGroup
	var mu sync.Mutex
	seen := map[uint64]bool{1: true}
	for w := range writers {
		work.Go(func() {
			for i := range each {
				seq, err := p.Edit(t.Context(), z.ID, by, addRecord(fmt.Sprintf("w%dx%d", w, i)))
				mu.Lock()
				if err != nil || seq == 0 || seen[seq] {
					t.Errorf("writer %d: seq %d, %v", w, seq, err)
				}
				seen[seq] = true
				mu.Unlock()
			}
		})
	}
	work.Wait()
	if all := checkLog(t, p); len(all) != 1+writers*each || len(seen) != len(all) {
		t.Errorf("%d entries, %d numbers, want %d", len(all), len(seen), 1+writers*each)
	}
	if err := p.Store.Read(t.Context(), func(tx *store.Tx) error {
		got, err := tx.Zone(t.Context(), z.ID)
		if err == nil && len(got.Records) != writers*each {
			t.Errorf("%d records, want %d", len(got.Records), writers*each)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

func TestCrashBetweenCommitAndNumbering(t *testing.T) {
	dir := storetest.Place(t)
	s := openStore(t, dir)
	p, err := publish.New(t.Context(), config(s)) // no leader runs
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		if !s.Shared() { // where it can only be an earlier release's
			leaveRow(t, s, fmt.Sprintf("z%d.test", i))
			continue
		}
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		if seq, err := p.Create(ctx, by, newZone(fmt.Sprintf("z%d.test", i))); err != nil || seq != 0 {
			t.Fatalf("without a leader: seq %d, %v", seq, err)
		}
		cancel()
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	p, _ = open(t, config(openStore(t, dir)))
	if storetest.Which() == "postgres" { // the dead one's lease has to end
		eventually(t, "the changes have numbers", func() bool { seq, _ := p.Head(); return seq == 3 })
	}
	all := checkLog(t, p)
	if len(all) != 3 {
		t.Fatalf("%d entries after the restart, want 3", len(all))
	}
	for i, e := range all {
		if want := zone.NameKey(fmt.Sprintf("z%d.test", i)); e.Changes[0].Key != want {
			t.Errorf("entry %d is about %s, want %s", e.Seq, e.Changes[0].Key, want)
		}
	}
	if seq, err := p.Create(t.Context(), by, newZone("next.test")); err != nil || seq != 4 {
		t.Errorf("the next change: seq %d, %v", seq, err)
	}
}

// leaveRow puts a change into the outbox that has no number.
func leaveRow(t *testing.T, s *store.Store, name string) {
	t.Helper()
	box := feed.Seal([32]byte{}, 1, time.Now(), []feed.Change{{Op: feed.Set, Key: zone.NameKey(name), Value: []byte("id")}})
	if err := s.Write(t.Context(), func(tx *store.Tx) error {
		_, err := tx.PutEvent(t.Context(), store.Event{Changes: feed.AppendEntry(nil, &box), Created: time.Now()}, store.Step{})
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

// Where one process leads for good, a change has its number when it is durable.
func TestSQLiteNumbersInTheWritersTransaction(t *testing.T) {
	s := openStore(t, t.TempDir())
	p, err := publish.New(t.Context(), config(s)) // no leader runs
	if err != nil {
		t.Fatal(err)
	}
	const writers = 32
	var work sync.WaitGroup
	var mu sync.Mutex
	seen := map[uint64]bool{}
	for i := range writers {
		work.Go(func() {
			var seq uint64
			var err error
			if i%4 == 3 {
				_, err = p.Write(t.Context(), by, func(*store.Tx) (publish.Written, error) { return publish.Written{}, errors.New("mine") })
				if err == nil || err.Error() != "mine" {
					t.Errorf("a writer's own error: %v", err)
				}
				return
			}
			if seq, err = p.Create(t.Context(), by, newZone(fmt.Sprintf("z%d.test", i))); err != nil {
				t.Error(err)
			}
			head, _ := p.Head()
			mu.Lock()
			defer mu.Unlock()
			if seen[seq] || seq == 0 || head < seq {
				t.Errorf("a change has the number %d, the log goes to %d", seq, head)
			}
			seen[seq] = true
		})
	}
	work.Wait()
	if all := checkLog(t, p); len(all) != writers*3/4 || len(seen) != len(all) {
		t.Errorf("%d entries, %d numbers, want %d", len(all), len(seen), writers*3/4)
	}
	leaveRow(t, s, "left.test")
	if err := p.NumberLeft(t.Context()); err != nil {
		t.Fatal(err)
	}
	if seq, err := p.Create(t.Context(), by, newZone("next.test")); err != nil || seq != writers*3/4+2 {
		t.Errorf("after a row that was left: seq %d, %v", seq, err)
	}
	checkLog(t, p)
}

func TestRefusedChangeLeavesNothing(t *testing.T) {
	p, _ := open(t, config(openStore(t, storetest.Place(t))))
	z := newZone("a.test")
	if _, err := p.Create(t.Context(), by, z); err != nil {
		t.Fatal(err)
	}
	_, err := p.Edit(t.Context(), z.ID, by, func(z *store.Zone) error { z.Paused = true; return nil })
	if r, ok := errors.AsType[*publish.Refusal](err); !ok || !strings.HasPrefix(r.Error(), "paused: ") {
		t.Errorf("edit that the judge refuses: %v", err)
	}
	if _, err := p.Create(t.Context(), by, newZone("a.test")); !fault.Is(err, fault.Conflict) {
		t.Errorf("second zone of a name: %v", err)
	}
	own := errors.New("mine")
	if _, err := p.Edit(t.Context(), z.ID, by, func(*store.Zone) error { return own }); !errors.Is(err, own) {
		t.Errorf("the editor's error: %v", err)
	}
	if _, err := p.Edit(t.Context(), "nope", by, addRecord("x")); !fault.Is(err, fault.NotFound) {
		t.Errorf("unknown zone: %v", err)
	}
	if _, err := p.Purge(t.Context(), "nope", by, zone.Purge{Everything: true}); !fault.Is(err, fault.NotFound) {
		t.Errorf("purge of an unknown zone: %v", err)
	}
	if seq, err := p.Edit(t.Context(), z.ID, by, func(*store.Zone) error { return nil }); err != nil || seq != 1 {
		t.Errorf("an edit of nothing: seq %d, %v", seq, err)
	}
	if all := checkLog(t, p); len(all) != 1 {
		t.Errorf("%d entries, want 1", len(all))
	}
}

func TestLogReadsSnapshotsAndCompacts(t *testing.T) {
	c := config(openStore(t, storetest.Place(t)))
	c.Retain = 3
	p, _ := open(t, c)
	changed := p.Changed()
	for i := range 6 {
		if _, err := p.Create(t.Context(), by, newZone(fmt.Sprintf("z%d.test", i))); err != nil {
			t.Fatal(err)
		}
	}
	<-changed
	if _, err := p.Purge(t.Context(), fmt.Sprintf("%032x", "z1.test"), by, zone.Purge{Everything: true}); err != nil {
		t.Fatal(err)
	}
	for after, want := range map[uint64]int{4: 3, 5: 2, 6: 1, 7: 0, 9: 0} {
		all, err := p.Read(t.Context(), after, 1<<20)
		if err != nil || len(all) != want {
			t.Errorf("read after %d: %d entries, %v; want %d", after, len(all), err, want)
		}
	}
	for _, after := range []uint64{0, 3} {
		if _, err := p.Read(t.Context(), after, 1<<20); !errors.Is(err, feed.ErrCompacted) {
			t.Errorf("read after %d: %v, want ErrCompacted", after, err)
		}
	}
	rows := map[string]bool{}
	var at feed.Cursor
	begin := func(c feed.Cursor) error { at = c; return nil }
	err := p.Snapshot(t.Context(), "", begin, func(key string, value []byte, seq uint64) error {
		rows[key] = seq > 0 && len(value) > 0
		return nil
	})
	head, headHash := p.Head()
	if err != nil || at != (feed.Cursor{Seq: head, Hash: headHash}) || len(rows) != 12 {
		t.Errorf("snapshot: seq %d, %d rows, %v; head %d", at.Seq, len(rows), err, head)
	}
	keys := slices.Sorted(maps.Keys(rows))
	var rest []string
	if err := p.Snapshot(t.Context(), keys[4], begin, func(key string, _ []byte, _ uint64) error {
		rest = append(rest, key)
		return nil
	}); err != nil || !slices.Equal(rest, keys[5:]) {
		t.Errorf("after %s came %v, %v; want %v", keys[4], rest, err, keys[5:])
	}
	for key, ok := range rows {
		if !ok || strings.HasPrefix(key, zone.PrefixPurge) {
			t.Errorf("row %s: without value or number, or a signal", key)
		}
	}
	own := errors.New("mine")
	if err := p.Snapshot(t.Context(), "", begin, func(string, []byte, uint64) error { return own }); !errors.Is(err, own) {
		t.Errorf("the yielder's error: %v", err)
	}
}

// damage makes a log of three zones, spoils the database and opens it again.
func damage(t *testing.T, how string) (*publish.Publisher, *bytes.Buffer, error) {
	t.Helper()
	dir := storetest.Place(t)
	s := openStore(t, dir)
	p, stop := open(t, config(s))
	for i := range 3 {
		if _, err := p.Create(t.Context(), by, newZone(fmt.Sprintf("z%d.test", i))); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	storetest.Exec(t, dir, how)
	said := &bytes.Buffer{}
	c := config(openStore(t, dir))
	c.Log = slog.New(slog.NewTextHandler(said, nil))
	p, err := publish.New(t.Context(), c)
	return p, said, err
}

// The state outlives its log: what is damaged is named and dropped, who stands
// before it is sent to a snapshot, numbers never go back.
func TestDamagedLogIsNamedAndRepaired(t *testing.T) {
	for name, c := range map[string]struct {
		how         string
		head, floor uint64
	}{
		"truncated":   {`UPDATE log SET payload = substr(payload, 1, length(payload) - 7) WHERE seq = 2`, 3, 2},
		"newest":      {`UPDATE log SET payload = substr(payload, 1, 9) WHERE seq = 3`, 4, 3},
		"other bytes": {`UPDATE log SET payload = (SELECT payload FROM log WHERE seq = 1) WHERE seq = 2`, 3, 2},
		"missing":     {`DELETE FROM log WHERE seq = 2`, 3, 2},
		"cut tail":    {`DELETE FROM log WHERE seq >= 2`, 4, 3},
		"all gone":    {`DELETE FROM log`, 4, 3},
	} {
		t.Run(name, func(t *testing.T) {
			p, said, err := damage(t, c.how)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(said.String(), "entry of the log is damaged") || !strings.Contains(said.String(), fmt.Sprintf("seq=%d", c.floor)) {
				t.Errorf("the log says %q", said)
			}
			if seq, _ := p.Head(); seq != c.head {
				t.Errorf("head %d, want %d", seq, c.head)
			}
			if _, err := p.Read(t.Context(), c.floor-1, 1<<20); !errors.Is(err, feed.ErrCompacted) {
				t.Errorf("below the damage: %v, want to be sent to a snapshot", err)
			}
			if _, err := p.Read(t.Context(), c.floor, 1<<20); err != nil {
				t.Errorf("above the damage: %v", err)
			}
			rows := 0
			var at feed.Cursor
			err = p.Snapshot(t.Context(), "", func(c feed.Cursor) error { at = c; return nil }, func(string, []byte, uint64) error { rows++; return nil })
			if seq, hash := p.Head(); err != nil || at != (feed.Cursor{Seq: seq, Hash: hash}) || rows == 0 {
				t.Errorf("snapshot at %d with %d rows, %v; head %d", at.Seq, rows, err, seq)
			}
		})
	}
}

// What was accepted and has no number yet exists nowhere else.
func TestDamagedOutboxIsRefused(t *testing.T) {
	_, _, err := damage(t, `UPDATE outbox SET seq = 0, changes = 'torn' WHERE id = 2`)
	if !fault.Is(err, fault.Malformed) || !strings.Contains(err.Error(), "is damaged") || !strings.Contains(err.Error(), "backup") {
		t.Errorf("got %v, want an error that names the damage", err)
	}
}

// A staged certificate is in no entry; switching to it is one entry, which has
// its chain and the sum of its pair and nothing of its key.
func TestSwitchPublishesWhatWasStaged(t *testing.T) {
	p, _ := open(t, config(openStore(t, storetest.Place(t))))
	z := newZone("a.test")
	if _, err := p.Create(t.Context(), by, z); err != nil {
		t.Fatal(err)
	}
	stage := func(chain string) feed.PairRef {
		t.Helper()
		id, der := strings.Repeat("c", 32), []byte("private key")
		sealed, dataKey, err := p.Lock(id, der)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(sealed, der) || bytes.Contains(dataKey, der) {
			t.Error("the key is in the clear")
		}
		c := store.Certificate{Certificate: zone.Certificate{ID: id, Chain: chain, Sealed: sealed}, DataKey: dataKey, Created: store.Now(), Changed: store.Now()}
		if _, err := p.Edit(t.Context(), z.ID, by, func(z *store.Zone) error { z.Stage(c); return nil }); err != nil {
			t.Fatal(err)
		}
		if seq, err := p.Published(t.Context(), z.ID, c.Ref()); err != nil || seq != 0 {
			t.Errorf("a staged certificate is published: %d, %v", seq, err)
		}
		return c.Ref()
	}
	first := stage("one")
	second := stage("two") // before the first was published
	if seq, err := p.Switch(t.Context(), z.ID, first); err != nil || seq != 0 {
		t.Errorf("a stage that was replaced: entry %d, %v", seq, err)
	}
	seq, err := p.Switch(t.Context(), z.ID, second)
	if err != nil || seq == 0 {
		t.Fatal(seq, err)
	}
	if at, err := p.Published(t.Context(), z.ID, second); err != nil || at != seq {
		t.Errorf("published at %d, %v, want %d", at, err, seq)
	}
	if again, err := p.Switch(t.Context(), z.ID, second); err != nil || again != 0 {
		t.Errorf("switched twice: entry %d, %v", again, err)
	}
	if none, err := p.Switch(t.Context(), strings.Repeat("0", 32), second); err != nil || none != 0 {
		t.Errorf("of a zone that is gone: entry %d, %v", none, err)
	}
	all := checkLog(t, p)
	for i, e := range all {
		want := 0
		if i == 0 {
			want = 2 // name and meta
		} else if e.Seq == seq {
			want = 1
		}
		if len(e.Changes) != want {
			t.Errorf("entry %d has %d changes, want %d", e.Seq, len(e.Changes), want)
		}
		for _, c := range e.Changes {
			if bytes.Contains(c.Value, []byte("sealed")) {
				t.Errorf("entry %d carries a key: %s", e.Seq, c.Value)
			}
		}
	}
	if c := all[len(all)-1].Changes; len(c) != 1 || !bytes.Contains(c[0].Value, []byte(second.Sum.String())) {
		t.Errorf("the entry does not name the pair: %v", c)
	}
}

func TestChangeTooLargeForOneEntry(t *testing.T) {
	p, _ := open(t, config(openStore(t, storetest.Place(t))))
	z := newZone("big.test")
	if _, err := p.Create(t.Context(), by, z); err != nil {
		t.Fatal(err)
	}
	_, err := p.Edit(t.Context(), z.ID, by, func(z *store.Zone) error {
		for i := range 9 {
			r := zone.Record{ID: fmt.Sprintf("%032d", i), Name: fmt.Sprintf("n%d.big.test", i), Type: "TXT", Content: strings.Repeat("x", 1000<<10), Tags: []string{}}
			z.Records = append(z.Records, r)
		}
		return nil
	})
	if !fault.Is(err, fault.TooLarge) {
		t.Errorf("got %v, want too large", err)
	}
	if all := checkLog(t, p); len(all) != 1 {
		t.Errorf("%d entries", len(all))
	}
}

func TestAuditTrail(t *testing.T) {
	p, _ := open(t, config(openStore(t, storetest.Place(t))))
	z := newZone("a.test")
	if _, err := p.Create(t.Context(), by, z); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Edit(t.Context(), z.ID, publish.Action{Actor: "eve", Name: "dns_record.create", Object: "r"}, addRecord("x")); err != nil {
		t.Fatal(err)
	}
	if err := p.Store.Read(t.Context(), func(tx *store.Tx) error {
		all, err := tx.Events(t.Context(), 10)
		if err != nil {
			return err
		}
		e := all[0]
		if len(all) != 2 || e.Actor != "eve" || e.Seq != 2 || len(e.Changes) != 0 {
			t.Errorf("newest row: %+v", e)
		}
		return tx.History(t.Context(), z.ID, 0, func(p *store.Past) (bool, error) {
			if len(p.Diff.Records) != 1 || p.Seq != 2 || p.Action != "dns_record.create" || p.Version != 1 {
				t.Errorf("newest change: %+v", p)
			}
			return false, nil
		})
	}); err != nil {
		t.Fatal(err)
	}
}

// A purge waits for no company.
func TestPurgeSkipsTheGatherWindow(t *testing.T) {
	s := openStore(t, storetest.Place(t))
	p, stop := open(t, config(s))
	z := newZone("a.test")
	made, err := p.Create(t.Context(), by, z)
	if err != nil {
		t.Fatal(err)
	}
	stop()
	c := config(s)
	c.Gather = time.Hour
	p, _ = open(t, c)
	if seq, err := p.Purge(t.Context(), z.ID, by, zone.Purge{Everything: true}); err != nil || seq <= made {
		t.Errorf("purge after entry %d has the number %d (%v), while the gather window is an hour", made, seq, err)
	}
}
