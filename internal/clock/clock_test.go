package clock

import (
	"errors"
	"net"
	"net/http"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

func TestTheLineIsRenderedOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rendered := 0
		k := New(func(date []byte) []byte { rendered++; return append([]byte("Date: "), date...) })
		for range 1000 {
			time.Sleep(10 * time.Millisecond)
			if got, want := string(k.Date()), "Date: "+time.Now().UTC().Format(http.TimeFormat); got != want {
				t.Fatalf("got %q, want %q", got, want)
			}
		}
		if rendered != 11 && rendered != 10 {
			t.Errorf("rendered %d times in ten seconds", rendered)
		}
		if n := testing.AllocsPerRun(100, func() { _ = k.DateAt(k.Now()) }); n != 0 {
			t.Errorf("%v allocations for a line that stands", n)
		}
	})
}

func TestTheTimeOfDayIsThatOfTheClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := New(nil)
		for range 1000 {
			time.Sleep(7 * time.Millisecond)
			if got, want := k.TimeAt(k.Now()), time.Now(); got != want {
				t.Fatalf("got %v, want %v", got, want)
			}
		}
	})
}

func TestMeterCountsPerSpan(t *testing.T) {
	var m Meter
	for i, c := range []struct {
		at   time.Duration
		over bool
	}{{0, false}, {1, false}, {9, true}, {10, false}, {11, false}, {12, true}} {
		if got := m.Over(c.at*time.Second, 2, 10*time.Second); got != c.over {
			t.Errorf("event %d at %d s: over is %v", i, c.at, got)
		}
	}
}

// sets counts how often deadlines are set.
type sets struct {
	net.Conn
	read, write int
}

func (s *sets) SetReadDeadline(t time.Time) error  { s.read++; return s.Conn.SetReadDeadline(t) }
func (s *sets) SetWriteDeadline(t time.Time) error { s.write++; return s.Conn.SetWriteDeadline(t) }

func pipe(t *testing.T) (*sets, *Deadlines) {
	near, far := net.Pipe()
	t.Cleanup(func() { _, _ = near.Close(), far.Close() })
	s := &sets{Conn: near}
	return s, &Deadlines{Conn: s, Clock: New(nil)}
}

func TestDeadlinesAreSetNoMoreOftenThanNeeded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, d := pipe(t)
		for range 1000 {
			if d.ArmRead(30*time.Second) != nil || d.ArmWrite(30*time.Second) != nil {
				t.Fatal("a deadline was refused")
			}
			time.Sleep(10 * time.Millisecond)
		}
		if s.read > 11 || s.write > 11 {
			t.Errorf("set %d and %d times in ten seconds", s.read, s.write)
		}
		before := time.Now()
		if d.ArmRead(time.Second) != nil { // sooner than what stands
			t.Fatal("a deadline was refused")
		}
		if _, err := s.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(before) != time.Second {
			t.Errorf("%v after %v, want a second", err, time.Since(before))
		}
		if d.ArmReadUntil(d.Clock.Now()+5*time.Second, 0) != nil {
			t.Fatal("a deadline was refused")
		}
		if _, err := s.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(before) != 6*time.Second {
			t.Errorf("%v after %v, want six seconds", err, time.Since(before))
		}
	})
}

func TestHoldAndCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, d := pipe(t)
		read := func() error {
			if err := d.ArmRead(time.Hour); err != nil {
				return err
			}
			_, err := s.Read(make([]byte, 1))
			return err
		}
		for _, end := range []func(){d.Hold, d.Cut} {
			got := make(chan error)
			go func() { got <- read() }()
			synctest.Wait()
			end()
			if err := <-got; !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("the read that waited: %v", err)
			}
			if err := read(); !errors.Is(err, os.ErrDeadlineExceeded) || !d.Held() {
				t.Errorf("a read that came later: %v", err)
			}
			d.Free()
			if d.Held() != d.Gone() {
				t.Error("Free took back what it may not, or not what it should")
			}
		}
		if err := d.ArmWrite(time.Hour); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a write behind Cut: %v", err)
		}
	})
}
