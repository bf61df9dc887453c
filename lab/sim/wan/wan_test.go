package wan

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

var (
	frankfurt = Place{"FRA", 50.03, 8.57}
	sydney    = Place{"SYD", -33.95, 151.18}
)

func TestPlacesAreWhereTheyAre(t *testing.T) {
	all, err := Places()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 330 {
		t.Errorf("%d places, want 330 at least", len(all))
	}
	seen := map[string]bool{}
	for _, p := range all {
		if len(p.Colo) != 3 || seen[p.Colo] || p.Lat < -90 || p.Lat > 90 || p.Lon < -180 || p.Lon > 180 {
			t.Errorf("place %+v", p)
		}
		seen[p.Colo] = true
	}
	if km := Km(frankfurt, sydney); km < 16_400 || km > 16_600 {
		t.Errorf("Frankfurt to Sydney: %.0f km, want about 16,500", km)
	}
	if d := Delay(frankfurt, sydney); d < 120*time.Millisecond || d > 140*time.Millisecond {
		t.Errorf("Frankfurt to Sydney: %s one way", d)
	}
	if d := Delay(frankfurt, frankfurt); d != local {
		t.Errorf("within Frankfurt: %s", d)
	}
}

// pairOf connects two machines.
func pairOf(t *testing.T) (n *Net, near, far net.Conn, hosts [2]*Host) {
	t.Helper()
	n = New()
	hosts = [2]*Host{n.Host("a", frankfurt), n.Host("b", sydney)}
	ln := hosts[1].Listen()
	t.Cleanup(func() { _ = ln.Close() })
	near, err := hosts[0].Dial(t.Context(), "b")
	if err != nil {
		t.Fatal(err)
	}
	if far, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	return n, near, far, hosts
}

func send(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if _, err := c.Write([]byte(text)); err != nil {
		t.Errorf("write %q: %v", text, err)
	}
}

func receive(t *testing.T, c net.Conn, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != want {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
}

func TestBytesArriveInOrderAfterTheDistance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		n, near, far, _ := pairOf(t)
		delay := Delay(frankfurt, sydney)
		if took := time.Since(began); took != 2*delay {
			t.Errorf("a connection took %s, want a round trip of %s", took, 2*delay)
		}
		began = time.Now()
		send(t, near, "one")
		n.Slow("a", "b", time.Second)
		send(t, near, "two")
		n.Slow("a", "b", 0)
		send(t, near, "three")
		receive(t, far, "one")
		if took := time.Since(began); took < delay || took > delay+time.Millisecond {
			t.Errorf("a byte took %s, want %s", took, delay)
		}
		receive(t, far, "twothree")
		if took := time.Since(began); took < delay+time.Second || took > delay+time.Second+time.Millisecond {
			t.Errorf("a byte on a slow line took %s", took)
		}
		if err := near.Close(); err != nil {
			t.Error(err)
		}
		if _, err := far.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("after the other side closed: %v", err)
		}
	})
}

func TestCutLineHoldsBytesUntilItIsMended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, near, far, hosts := pairOf(t)
		send(t, near, "one")
		n.Cut("a", "b", true)
		send(t, near, "two")
		if err := far.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := far.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("over a line that is cut: %v", err)
		}
		send(t, far, "back") // the other direction
		receive(t, near, "back")
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if _, err := hosts[0].Dial(ctx, "b"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("dialled over a line that is cut: %v", err)
		}
		if err := far.SetReadDeadline(time.Time{}); err != nil {
			t.Fatal(err)
		}
		n.Cut("a", "b", false)
		receive(t, far, "onetwo")
	})
}

func TestTwistsSpoilOneWrite(t *testing.T) {
	for how, want := range map[Twist]string{Twice: "oneonetwo", Swapped: "twoone", Flipped: "ooetwo", Missing: "two"} {
		t.Run(how.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n, near, far, _ := pairOf(t)
				n.Twist("a", "b", how)
				send(t, near, "one")
				send(t, near, "two")
				receive(t, far, want)
			})
		})
	}
}

func TestDeadMachines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, near, far, hosts := pairOf(t)
		send(t, far, "last words")
		hosts[1].Kill(true)
		if _, err := far.Read(make([]byte, 1)); err == nil {
			t.Error("a machine without power reads")
		}
		if n, err := far.Write([]byte("x")); n != 1 || err != nil {
			t.Errorf("its writes go nowhere: %d, %v", n, err)
		}
		send(t, near, "into the dark")
		receive(t, near, "last words")
		if err := near.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		if _, err := near.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("who is connected to it hears: %v", err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		_, near, _, hosts := pairOf(t)
		hosts[1].Kill(false)
		if _, err := near.Read(make([]byte, 1)); !errors.Is(err, errReset) {
			t.Errorf("who is connected to a process that was killed hears: %v", err)
		}
		if _, err := hosts[0].Dial(t.Context(), "b"); !errors.Is(err, errRefused) {
			t.Errorf("dialled a process that was killed: %v", err)
		}
	})
}

func TestSlowReaderHoldsUpTheWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, near, far, _ := pairOf(t)
		if err := near.SetWriteDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		block, sent := make([]byte, 64<<10), 0
		var err error
		for err == nil && sent <= 2*window {
			var n int
			n, err = near.Write(block)
			sent += n
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) || sent < window {
			t.Errorf("%d bytes were taken, %v; want %d and a deadline", sent, err, window)
		}
		if got, err := io.CopyN(io.Discard, far, int64(sent)); err != nil || int(got) != sent {
			t.Errorf("%d bytes arrived, %v; want %d", got, err, sent)
		}
	})
}
