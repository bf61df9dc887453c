package publish_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/selvage-edge/selvage/control/publish"
	"github.com/selvage-edge/selvage/control/store"
	"github.com/selvage-edge/selvage/control/store/storetest"
	"github.com/selvage-edge/selvage/feed"
)

// writeZones makes zones by p until one cannot be made, and returns their numbers.
func writeZones(t *testing.T, p *publish.Publisher, name string, n int) []uint64 {
	t.Helper()
	var seqs []uint64
	for i := range n {
		seq, err := p.Create(t.Context(), by, newZone(fmt.Sprintf("%s%d.test", name, i)))
		if err != nil || seq == 0 {
			t.Errorf("%s, zone %d: number %d, %v", name, i, seq, err)
		}
		seqs = append(seqs, seq)
	}
	return seqs
}

// eventually asks until it holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	late, tick := time.After(30*time.Second), time.NewTicker(5*time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-late:
			t.Fatal("not within 30 s: " + what)
		case <-tick.C:
		}
	}
}

// Two control planes take changes at the same time; one numbers them, both know
// the same log.
func TestTwoControlPlanesShareOneLog(t *testing.T) {
	place := storetest.Postgres(t)
	first, stopFirst := open(t, config(openStore(t, place)))
	second, _ := open(t, config(openStore(t, place)))
	if !first.Leads() || second.Leads() {
		t.Fatalf("leads: %v, %v; want the first alone", first.Leads(), second.Leads())
	}
	var work sync.WaitGroup
	numbers := make(chan uint64, 1000)
	for i := range 8 {
		p := []*publish.Publisher{first, second}[i%2]
		work.Go(func() {
			for _, seq := range writeZones(t, p, fmt.Sprintf("w%d-", i), 5) {
				numbers <- seq
			}
		})
	}
	work.Wait()
	close(numbers)
	seen := map[uint64]bool{}
	for seq := range numbers {
		if seen[seq] {
			t.Errorf("number %d was given twice", seq)
		}
		seen[seq] = true
	}
	same := func() bool {
		a, hashA := first.Head()
		b, hashB := second.Head()
		return a == b && hashA == hashB && a == 40
	}
	eventually(t, "both stand at 40", same)
	checkLog(t, second)
	// One that ends gives the lease back: the other does not wait for its end.
	stopFirst()
	eventually(t, "the second leads", second.Leads)
	writeZones(t, second, "after", 3)
	if got := len(checkLog(t, second)); got != 43 {
		t.Errorf("%d entries, want 43", got)
	}
}

// A leader that vanishes costs its lease's time; nothing that was acknowledged
// is lost, and what it does when it comes back is refused.
func TestLeaderThatVanishesIsReplaced(t *testing.T) {
	place := storetest.Postgres(t)
	lost := openStore(t, place)
	ctx, vanish := context.WithCancel(t.Context())
	first, err := publish.New(ctx, config(lost))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- first.Run(ctx) }()
	second, _ := open(t, config(openStore(t, place)))
	before := writeZones(t, first, "before", 3)
	if err := lost.Close(); err != nil { // its database is gone: it cannot give anything back
		t.Fatal(err)
	}
	if seq, err := second.Create(t.Context(), by, newZone("between.test")); err != nil || seq != before[2]+1 {
		t.Errorf("a change while nobody leads: number %d, %v; want %d", seq, err, before[2]+1)
	}
	eventually(t, "the second leads", second.Leads)
	vanish()
	if err := <-done; err != nil {
		t.Error(err)
	}
	// It comes back and finds that another one leads.
	third, _ := open(t, config(openStore(t, place)))
	if third.Leads() {
		t.Error("two lead")
	}
	writeZones(t, third, "third", 2)
	if got := len(checkLog(t, third)); got != 6 {
		t.Errorf("%d entries, want 6", got)
	}
}

// Who believes to lead and does not cannot number: the lease is looked at in the
// very transaction.
func TestNumberingIsFenced(t *testing.T) {
	place := storetest.Postgres(t)
	s := openStore(t, place)
	sleeper, err := publish.New(t.Context(), config(s)) // leads, and does nothing
	if err != nil {
		t.Fatal(err)
	}
	storetest.Exec(t, place, `UPDATE leases SET expires = 0`)
	awake, _ := open(t, config(openStore(t, place)))
	eventually(t, "the second leads", awake.Leads)
	if !sleeper.Leads() {
		t.Fatal("the first knows already")
	}
	if err := s.Write(t.Context(), func(tx *store.Tx) error {
		held, err := tx.HoldLease(t.Context(), "log", 1, time.Minute)
		if held {
			t.Error("an old epoch still holds the lease")
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- sleeper.Run(ctx) }()
	var work sync.WaitGroup
	for i, p := range []*publish.Publisher{sleeper, awake} {
		work.Go(func() { writeZones(t, p, fmt.Sprintf("p%d-", i), 10) })
	}
	work.Wait()
	eventually(t, "the sleeper knows", func() bool { return !sleeper.Leads() })
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if got := len(checkLog(t, awake)); got != 20 {
		t.Errorf("%d entries, want 20", got)
	}
}

// A leader that slept while another one led and ended goes on from what that one
// wrote, also where none of it stands in its way any more.
func TestLeaderThatSleptGoesOnFromTheLog(t *testing.T) {
	place := storetest.Postgres(t)
	sleeper, err := publish.New(t.Context(), config(openStore(t, place))) // leads, and does nothing
	if err != nil {
		t.Fatal(err)
	}
	storetest.Exec(t, place, `UPDATE leases SET expires = 0`)
	short := config(openStore(t, place))
	short.Retain = 1
	awake, stop := open(t, short)
	eventually(t, "the second leads", awake.Leads)
	writeZones(t, awake, "awake", 3)
	stop()                        // gives the lease back
	<-time.After(2 * time.Second) // the sleeper's next look at its lease is due
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- sleeper.Run(ctx) }()
	if got := writeZones(t, sleeper, "sleeper", 2); got[0] != 4 || got[1] != 5 {
		t.Errorf("numbers %v, want 4 and 5", got)
	}
	if entries, err := sleeper.Read(t.Context(), 3, 1<<20); err != nil || len(entries) != 2 {
		t.Errorf("%d entries follow what the other one wrote, %v; want 2", len(entries), err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// Who finds damage while another one leads repairs it when it leads itself.
func TestDamageIsRepairedByWhoLeads(t *testing.T) {
	place := storetest.Postgres(t)
	first, stopFirst := open(t, config(openStore(t, place)))
	writeZones(t, first, "z", 5)
	storetest.Exec(t, place, `UPDATE log SET payload = 'torn' WHERE seq = 3`)
	second, _ := open(t, config(openStore(t, place)))
	stopFirst()
	eventually(t, "the second leads", second.Leads)
	writeZones(t, second, "after", 1)
	if _, err := second.Read(t.Context(), 2, 1<<20); !errors.Is(err, feed.ErrCompacted) {
		t.Errorf("at the damage: %v, want that it is gone", err)
	}
	if all, err := second.Read(t.Context(), 3, 1<<20); err != nil || len(all) != 3 {
		t.Errorf("after the damage: %d entries, %v", len(all), err)
	}
}

// A database whose clock is set back does not keep a lease for as long: who died
// with it is replaced as at any other time.
func TestLeaseEndsThoughTheClockWasSetBack(t *testing.T) {
	var ahead atomic.Int64
	s, err := store.OpenShared(t.Context(), t.TempDir(), store.Shared{
		Now:    func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) },
		Around: func(_ context.Context, _ bool, run func() error) error { return run() },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	take := func(holder string) (epoch int64, taken bool) {
		t.Helper()
		if err := s.Write(t.Context(), func(tx *store.Tx) (err error) {
			epoch, taken, err = tx.TakeLease(t.Context(), "log", holder, time.Minute)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		return epoch, taken
	}
	first, taken := take("dies")
	if !taken {
		t.Fatal("nobody leads, and the lease is not given")
	}
	if _, taken := take("waits"); taken {
		t.Error("two lead")
	}
	ahead.Store(int64(-time.Hour))
	second, taken := take("waits")
	if !taken || second <= first {
		t.Errorf("after the clock was set back: epoch %d after %d, %t; want the lease", second, first, taken)
	}
	if _, taken := take("another"); taken {
		t.Error("two lead after the clock was set back")
	}
}
