package store

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/selvage-edge/selvage/fault"
)

func openQueue(t *testing.T) *Store {
	t.Helper()
	s, err := Open(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	// Tests say when a group ends, not the time.
	s.queue.openFor, s.queue.patience = time.Hour, time.Hour
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// crowd lets writers come while another one writes, in their order, so that they
// share its transaction, and returns what Write said to the first and to each.
func crowd(t *testing.T, s *Store, all ...func(*Tx) error) []error {
	t.Helper()
	first := func(tx *Tx) error { return set(t.Context(), tx, "first") }
	return crowdAfter(t, s, first, all...)
}

func crowdAfter(t *testing.T, s *Store, first func(*Tx) error, all ...func(*Tx) error) []error {
	t.Helper()
	errs := make([]error, 1+len(all))
	inside, leave := make(chan struct{}), make(chan struct{})
	var once sync.Once
	var work sync.WaitGroup
	work.Go(func() {
		errs[0] = s.Write(t.Context(), func(tx *Tx) error {
			once.Do(func() {
				close(inside)
				<-leave
			})
			return first(tx)
		})
	})
	<-inside
	for i, fn := range all {
		work.Go(func() {
			defer func() {
				if r := recover(); r != nil {
					errs[1+i] = fmt.Errorf("panic: %v", r)
				}
			}()
			errs[1+i] = errors.New("it did not return")
			errs[1+i] = s.Write(t.Context(), fn)
		})
		waitFor(t, s, i+1)
	}
	close(leave)
	work.Wait()
	return errs
}

// waitFor polls until n writers wait.
func waitFor(t *testing.T, s *Store, n int) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; runtime.Gosched() {
		s.queue.mu.Lock()
		waiting := len(s.queue.waiting)
		s.queue.mu.Unlock()
		if waiting == n {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%d writers wait, want %d", waiting, n)
		}
	}
}

func set(ctx context.Context, tx *Tx, key string) error { return tx.SetKey(ctx, key, []byte("v"), 1) }

// keys is what the database holds, as another connection sees it.
func keys(t *testing.T, s *Store) string {
	t.Helper()
	var all []string
	if err := s.Read(t.Context(), func(tx *Tx) error {
		return tx.Keys(t.Context(), "", func(key string, _ []byte, _ uint64) error {
			all = append(all, key)
			return nil
		})
	}); err != nil {
		t.Fatal(err)
	}
	return strings.Join(all, " ")
}

func TestOneWritersFailureUndoesNobodyElse(t *testing.T) {
	s := openQueue(t)
	own := errors.New("mine")
	ctx, cancel := context.WithCancel(t.Context())
	errs := crowd(t, s,
		func(tx *Tx) error { return set(t.Context(), tx, "a") },
		func(tx *Tx) error { return errors.Join(set(t.Context(), tx, "failed"), own) },
		func(tx *Tx) error {
			if err := set(t.Context(), tx, "panicked"); err != nil {
				return err
			}
			panic("mine")
		},
		func(tx *Tx) error { return set(t.Context(), tx, "b") },
		func(tx *Tx) error {
			if err := set(t.Context(), tx, "left"); err != nil {
				return err
			}
			runtime.Goexit()
			return nil
		},
		func(tx *Tx) error { // its context ends in between
			err := set(ctx, tx, "cancelled")
			cancel()
			return errors.Join(err, set(ctx, tx, "cancelled too"))
		},
		func(tx *Tx) error { // sees those before it
			_, err := tx.ExecContext(t.Context(), `UPDATE kv SET seq = 2 WHERE key IN ('a', 'b', 'first', 'failed', 'panicked', 'left', 'cancelled')`)
			return errors.Join(err, set(t.Context(), tx, "c"))
		})
	for i, want := range []string{"", "", "mine", "panic: mine", "", "it did not return", "context canceled", ""} {
		if got := fmt.Sprint(errs[i]); want == "" && errs[i] != nil || !strings.Contains(got, want) {
			t.Errorf("writer %d was told %s, want %q", i, got, want)
		}
	}
	if got := keys(t, s); got != "a b c first" {
		t.Errorf("there are %s", got)
	}
}

// Nobody is told before the COMMIT: until then no other connection sees anything.
func TestNothingIsAcknowledgedBeforeItsCommit(t *testing.T) {
	s := openQueue(t)
	inside, leave, told := make(chan struct{}), make(chan struct{}), make(chan error, 2)
	var work sync.WaitGroup
	hold := make(chan struct{})
	work.Go(func() {
		told <- s.Write(t.Context(), func(tx *Tx) error {
			close(hold)
			waitFor(t, s, 2)
			return set(t.Context(), tx, "first")
		})
	})
	<-hold
	work.Go(func() { told <- s.Write(t.Context(), func(tx *Tx) error { return set(t.Context(), tx, "second") }) })
	waitFor(t, s, 1)
	work.Go(func() {
		if err := s.Write(t.Context(), func(*Tx) error {
			close(inside)
			<-leave
			return nil
		}); err != nil {
			t.Error(err)
		}
	})
	<-inside // both have run
	if got := keys(t, s); got != "" || len(told) > 0 {
		t.Errorf("before the COMMIT there are %q, and %d are told", got, len(told))
	}
	close(leave)
	for range 2 {
		if err := <-told; err != nil {
			t.Error(err)
		}
	}
	if got := keys(t, s); got != "first second" {
		t.Errorf("there are %q", got)
	}
	work.Wait()
}

// A disk that is full for one has room for what is smaller.
func TestFullDiskIsTheLargeWritersAlone(t *testing.T) {
	s := openQueue(t)
	if err := s.Write(t.Context(), func(tx *Tx) error {
		_, err := tx.ExecContext(t.Context(), `PRAGMA max_page_count = 150`)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	errs := crowd(t, s,
		func(tx *Tx) error { return set(t.Context(), tx, "small") },
		func(tx *Tx) error { return tx.SetKey(t.Context(), "large", make([]byte, 4<<20), 1) },
		func(tx *Tx) error { return set(t.Context(), tx, "after") })
	for i, err := range errs {
		if i == 2 && (!fault.Is(err, fault.Limit) || !strings.Contains(err.Error(), "full")) || i != 2 && err != nil {
			t.Errorf("writer %d: %v", i, err)
		}
	}
	if got := keys(t, s); got != "after first small" {
		t.Errorf("there are %q", got)
	}
}

// What only the COMMIT finds is told to whom it belongs.
func TestDeferredConstraintIsOneWriters(t *testing.T) {
	s := openQueue(t)
	if err := s.Write(t.Context(), func(tx *Tx) error {
		_, err := tx.ExecContext(t.Context(), `CREATE TABLE parents (id INTEGER PRIMARY KEY)`)
		_, cerr := tx.ExecContext(t.Context(), `CREATE TABLE children (parent INTEGER REFERENCES parents DEFERRABLE INITIALLY DEFERRED)`)
		return errors.Join(err, cerr)
	}); err != nil {
		t.Fatal(err)
	}
	errs := crowd(t, s,
		func(tx *Tx) error { return set(t.Context(), tx, "before") },
		func(tx *Tx) error {
			_, err := tx.ExecContext(t.Context(), `INSERT INTO children VALUES (1)`)
			return err
		},
		func(tx *Tx) error { return set(t.Context(), tx, "after") })
	for i, err := range errs {
		if i == 2 && (err == nil || !strings.Contains(err.Error(), "FOREIGN KEY")) || i != 2 && err != nil {
			t.Errorf("writer %d: %v", i, err)
		}
	}
	if got := keys(t, s); got != "after before first" {
		t.Errorf("there are %q", got)
	}
}

// Who is slow does not keep those waiting that wrote before it: they are told
// while it is still at work, in a transaction of its own.
func TestSlowWriterKeepsNobodyWaiting(t *testing.T) {
	s := openQueue(t)
	var runs int
	seen := make(chan string, 1)
	errs := crowd(t, s, func(tx *Tx) error {
		runs++
		if err := set(t.Context(), tx, "slow"); err != nil {
			return err
		}
		if runs == 1 {
			tx.until = time.Now().Add(-time.Second) // as if so much time had gone by
		} else {
			seen <- keys(t, s)
		}
		return set(t.Context(), tx, "slow too")
	})
	if errs[0] != nil || errs[1] != nil || runs != 2 {
		t.Errorf("%v, after %d runs", errs, runs)
	}
	if got := <-seen; got != "first" {
		t.Errorf("while the slow one ran, there were %q", got)
	}
	if got := keys(t, s); got != "first slow slow too" {
		t.Errorf("there are %q", got)
	}
}

func TestGroupsAreBounded(t *testing.T) {
	s := openQueue(t)
	var mu sync.Mutex
	var order []int
	sizes := map[any]int{}
	var all []func(*Tx) error
	for i := range 3 * maxGroup {
		all = append(all, func(tx *Tx) error {
			mu.Lock()
			defer mu.Unlock()
			order = append(order, i)
			sizes[tx.Tx]++
			return set(t.Context(), tx, fmt.Sprint(i))
		})
	}
	for i, err := range crowd(t, s, all...) {
		if err != nil {
			t.Errorf("writer %d: %v", i, err)
		}
	}
	for i, n := range order {
		if i != n {
			t.Fatalf("writer %d came as number %d", n, i)
		}
	}
	if len(sizes) != 4 {
		t.Errorf("%d transactions, want 4", len(sizes))
	}
	for _, n := range sizes {
		if n > maxGroup {
			t.Errorf("%d writers in a transaction, at most %d", n, maxGroup)
		}
	}
}

// Who goes while it waits leaves the queue to the others.
func TestCancelledWriterLeavesTheQueue(t *testing.T) {
	s := openQueue(t)
	ctx, cancel := context.WithCancel(t.Context())
	gone := make(chan error, 1)
	errs := crowd(t, s,
		func(tx *Tx) error {
			var work sync.WaitGroup
			defer work.Wait()
			work.Go(func() { gone <- s.Write(ctx, func(*Tx) error { return errors.New("it ran") }) })
			waitFor(t, s, 2) // with the one below
			cancel()
			if err := <-gone; !errors.Is(err, context.Canceled) || strings.Contains(err.Error(), "it ran") {
				t.Errorf("the cancelled writer: %v", err)
			}
			return set(t.Context(), tx, "a")
		},
		func(tx *Tx) error { return set(t.Context(), tx, "b") })
	if err := errors.Join(errs...); err != nil {
		t.Error(err)
	}
	if got := keys(t, s); got != "a b first" {
		t.Errorf("there are %q", got)
	}
}

// A COMMIT that fails, as for want of room, is the failure of all of them.
func TestFailedCommitIsToldToAll(t *testing.T) {
	s := openQueue(t)
	tx, err := s.write.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := tx.Rollback(); err != nil { // so that it cannot be committed
		t.Fatal(err)
	}
	s.queue.taken = true
	g := &group{tx: tx, begun: time.Now(), size: 1, ended: make(chan struct{})}
	s.queue.end(t.Context(), g)
	if <-g.ended; !errors.Is(g.err, errCommit) {
		t.Errorf("the group was told %v", g.err)
	}
	if err := s.Write(t.Context(), func(tx *Tx) error { return set(t.Context(), tx, "next") }); err != nil {
		t.Errorf("the next writer: %v", err)
	}
}
