package conns

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func nobody(*int) {}

func TestWaitEndsWithTheLastConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s Set[*int]
		if err := s.Wait(t.Context(), nobody); err != nil || s.Draining() {
			t.Fatal("an empty set that nobody drains:", err, s.Draining())
		}
		a, b := new(int), new(int)
		s.Add(a)
		s.Add(b)
		s.Drain(func(c *int) { *c = 1 })
		if *a != 1 || *b != 1 || !s.Draining() || s.Len() != 2 {
			t.Fatal("not each was told to leave:", *a, *b, s.Draining(), s.Len())
		}
		done := make(chan error, 2)
		for range 2 { // whoever waits too is told too
			go func() { done <- s.Wait(t.Context(), nobody) }()
		}
		synctest.Wait()
		s.Remove(a)
		synctest.Wait()
		if len(done) != 0 {
			t.Fatal("Wait returned while there was a connection")
		}
		s.Remove(b)
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	})
}

func TestWaitCutsWhatIsLeft(t *testing.T) {
	var s Set[*int]
	a := new(int)
	s.Add(a)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Wait(ctx, func(c *int) { *c++ }); !errors.Is(err, context.Canceled) || *a != 1 {
		t.Fatalf("got %v and %d cuts, want the context's error and 1", err, *a)
	}
}

func TestLookRunsWhileThereAreConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		looks := 0
		s := Set[int]{Every: time.Second, Look: func() { looks++ }}
		after := func(d time.Duration, want int) {
			t.Helper()
			time.Sleep(d)
			synctest.Wait()
			if looks != want {
				t.Fatalf("%d looks, want %d", looks, want)
			}
		}
		after(5*time.Second, 0)
		s.Add(1)
		s.Add(2)
		after(3500*time.Millisecond, 3)
		s.Remove(1)
		s.Remove(2)
		after(5*time.Second, 3)
		s.Add(3)
		after(2500*time.Millisecond, 5)
		s.Remove(3)
		after(time.Second, 5)
		if s.looking {
			t.Error("a timer runs on without connections")
		}
	})
}
