package feed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// lines is a log to count in.
type lines struct {
	mu  sync.Mutex
	all []byte // guarded by mu
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, p...)
	return len(p), nil
}

func (l *lines) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Count(l.all, []byte(text))
}

// cutAfter is a connection that ends after some bytes have arrived.
type cutAfter struct {
	net.Conn
	left int
	read *atomic.Int64
}

func (c *cutAfter) Read(p []byte) (int, error) {
	if c.left <= 0 {
		_ = c.Conn.Close()
		return 0, errors.New("cut")
	}
	n, err := c.Conn.Read(p[:min(len(p), c.left)])
	c.left -= n
	c.read.Add(int64(n))
	return n, err
}

func TestSnapshotGoesOnWhereItBroke(t *testing.T) {
	for _, compacted := range []bool{false, true} {
		t.Run(fmt.Sprintf("compacted=%t", compacted), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { snapshotBreaks(t, compacted) })
		})
	}
}

func snapshotBreaks(t *testing.T, compacted bool) {
	w := newWorld(t, nil)
	wires := newNetwork(w)
	noise := strings.Repeat("0123456789abcdef", 1<<8)
	for i := range 400 {
		value := fmt.Sprintf("%x", Seal([32]byte{}, uint64(i+1), time.Now(), nil).Hash)
		w.log.set(fmt.Sprintf("k/%03d", i), value+noise[:3<<10]+value)
	}
	r := w.relay(wires, 1, "one", "root") // the second half comes from there
	r.reaches(400)
	var dials atomic.Int32
	var read atomic.Int64
	var said lines
	e := w.edge(2, func(c *SubscriberConfig) {
		c.Log = slog.New(slog.NewTextHandler(&said, nil))
		c.Parents = []string{"root", "one"}
		c.Dial = func(ctx context.Context, addr string) (net.Conn, error) {
			raw, err := wires.dial(ctx, addr)
			if err != nil || dials.Add(1) > 2 {
				return raw, err
			}
			if dials.Load() == 2 {
				// What was sent before and what was not changes meanwhile.
				w.log.set("k/000", "changed")
				w.log.put(Change{Op: Delete, Key: "k/001"}, Change{Op: Set, Key: "k/0001", Value: []byte("new")})
				w.log.set("k/399", "changed")
				w.log.put(Change{Op: Delete, Key: "k/398"})
				w.log.set("z", "new")
				r.reaches(405)
				if compacted {
					r.copy.opts.Retain = Retention{Entries: 1}
					for range 2 * trimEvery {
						w.log.set("z", "newer")
					}
					r.reaches(405 + 2*trimEvery)
				}
			}
			return &cutAfter{raw, 12 << 10, &read}, nil
		}
	})
	head := uint64(405)
	if compacted {
		head += 2 * trimEvery
	}
	e.reaches(head)
	if !maps.Equal(e.state(), r.state()) {
		t.Errorf("state differs from the relay's")
	}
	if _, snapshots := e.heard(); len(snapshots) != 1 {
		t.Errorf("snapshots %v, want one", snapshots)
	}
	for text, want := range map[string]int{"snapshot begins": 1, "snapshot goes on": 2, "starts over": 0} {
		if compacted {
			want = map[string]int{"snapshot begins": 2, "snapshot goes on": 1, "starts over": 1}[text]
		}
		if got := said.count(text); got != want {
			t.Errorf("%q is said %d times, want %d", text, got, want)
		}
	}
	w.log.set("after", "1")
	e.reaches(head + 1)
	e.stop()
	again := memCopyOf(t, e.copy)
	if again.Cursor().Seq != head+1 {
		t.Errorf("copy opens at %d, want %d", again.Cursor().Seq, head+1)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}

// memCopyOf opens a copy that was closed once more, reading all of it.
func memCopyOf(t *testing.T, c *Copy) *Copy {
	t.Helper()
	again, err := OpenCopy(c.dir, CopyOptions{FS: c.opts.FS, NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	return again
}

func TestKeptEntries(t *testing.T) {
	disk := vfs.NewMem()
	open := func(r Retention) *Copy {
		c, err := OpenCopy("copy", CopyOptions{FS: disk, NoSync: true, Retain: r})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	log := newMemLog()
	apply := func(c *Copy, n int) {
		for range n {
			e := log.set("a", strings.Repeat("x", 100))
			if err := c.Apply(&e); err != nil {
				t.Fatal(err)
			}
		}
	}
	floor := func(c *Copy) uint64 {
		for after := range c.Cursor().Seq {
			if all, err := c.Kept(after, 1<<20); err == nil {
				if uint64(len(all)) != c.Cursor().Seq-after {
					t.Errorf("%d entries after %d, cursor %d", len(all), after, c.Cursor().Seq)
				}
				return after
			}
		}
		return c.Cursor().Seq
	}
	c := open(Retention{Entries: 100})
	apply(c, 90)
	if got := floor(c); got != 0 {
		t.Errorf("floor %d of 90 entries, 100 kept; want 0", got)
	}
	apply(c, 38) // the next look is at 128
	if got := floor(c); got != 28 {
		t.Errorf("floor %d, want 28", got)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	one := log.entries[0].Size()
	c = open(Retention{Bytes: int64(50 * one)})
	if got := floor(c); got != 28 {
		t.Errorf("floor %d after a restart, want 28", got)
	}
	apply(c, 64)
	if got := floor(c); got != 192-50 {
		t.Errorf("floor %d, want %d: 50 entries' bytes are kept", got, 192-50)
	}
	if _, err := c.Kept(193, 1); !errors.Is(err, ErrCompacted) {
		t.Errorf("past the end: %v, want compacted", err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	c = open(Retention{}) // a run that keeps none leaves a gap
	apply(c, 1)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	c = open(Retention{Entries: 100})
	apply(c, 2)
	if got := floor(c); got != 193 {
		t.Errorf("floor %d, want 193: what was kept before does not lead on", got)
	}
	w, err := c.BeginSnapshot()
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(t.Context(), Cursor{500, [32]byte{5}}); err != nil {
		t.Fatal(err)
	}
	if got := floor(c); got != 500 {
		t.Errorf("floor %d after a snapshot, want 500", got)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestKeptEntriesGoByAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, err := OpenCopy("copy", CopyOptions{FS: vfs.NewMem(), NoSync: true, Retain: Retention{Age: time.Hour}})
		if err != nil {
			t.Fatal(err)
		}
		log := newMemLog()
		for range trimEvery {
			e := log.set("a", "x")
			if err := c.Apply(&e); err != nil {
				t.Fatal(err)
			}
			<-time.After(2 * time.Minute)
		}
		if _, err := c.Kept(2, 1); !errors.Is(err, ErrCompacted) {
			t.Errorf("two hours old: %v, want compacted", err)
		}
		if all, err := c.Kept(trimEvery-20, 1<<20); err != nil || len(all) != 20 {
			t.Errorf("%d entries, %v; want the last 20", len(all), err)
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	})
}
