package feed

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

func TestChangesReachTheCopyInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		e := w.edge(1, nil)
		synctest.Wait()
		w.log.set("a", "1")
		w.log.put(Change{Op: Set, Key: "a", Value: []byte("2")}, Change{Op: Set, Key: "b", Value: []byte("3")}, Change{Op: Signal, Key: "purge/z"})
		w.log.put(Change{Op: Delete, Key: "b"})
		e.reaches(3)
		e.has("a", "2")
		e.has("b", "")
		e.has("purge/z", "")
		if seqs, _ := e.heard(); !slices.Equal(seqs, []uint64{1, 2, 3}) {
			t.Errorf("heard %v, want 1 2 3", seqs)
		}
	})
}

func TestLoneChangeIsNotHeldByTheGatherWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		e := w.edge(1, nil)
		synctest.Wait()
		<-time.After(100 * time.Millisecond)
		start := time.Now()
		w.log.set("a", "1")
		synctest.Wait()
		if got := e.copy.Cursor().Seq; got != 1 || time.Since(start) != 0 {
			t.Errorf("cursor %d after %s, want 1 at once", got, time.Since(start))
		}
	})
}

// A purge right behind another batch is not held, one behind a change that is
// held is, since order is meaning.
func TestPurgeSkipsTheGatherWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		e := w.edge(1, nil)
		purge := Change{Op: Signal, Key: "purge/z"}
		synctest.Wait()
		w.log.set("a", "1")
		synctest.Wait()
		start := time.Now()
		expect := func(want uint64, after time.Duration) {
			t.Helper()
			synctest.Wait()
			if got := e.copy.Cursor().Seq; got != want || time.Since(start) != after {
				t.Errorf("cursor %d after %s, want %d after %s", got, time.Since(start), want, after)
			}
		}
		w.log.put(purge)
		expect(2, 0)
		w.log.put(purge, purge)
		expect(3, 0)
		w.log.set("a", "2")
		expect(3, 0)
		w.log.put(purge)
		expect(3, 0)
		<-time.After(19 * time.Millisecond)
		expect(3, 19*time.Millisecond)
		<-time.After(time.Millisecond)
		expect(5, 20*time.Millisecond)
		w.log.put(purge, Change{Op: Set, Key: "a", Value: []byte("3")})
		expect(5, 20*time.Millisecond)
		<-time.After(20 * time.Millisecond)
		expect(6, 40*time.Millisecond)
	})
}

func TestPeersShowWhoHasWhat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		e := w.edge(1, nil)
		w.log.set("a", "1")
		e.reaches(1)
		synctest.Wait()
		peers := w.server.Peers()
		if len(peers) != 1 || peers[0].Node != nodeID(1) || peers[0].Colo != "FRA" || peers[0].Acked != 1 {
			t.Errorf("peers %+v, want node 1 in FRA at 1", peers)
		}
		e.stop()
		synctest.Wait()
		if peers := w.server.Peers(); len(peers) != 0 {
			t.Errorf("peers %+v after the edge went, want none", peers)
		}
	})
}

func TestResumeFromTheCursorRepeatsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		var mu sync.Mutex
		var last net.Conn
		e := w.edge(1, func(c *SubscriberConfig) {
			c.Dial = func(ctx context.Context, addr string) (net.Conn, error) {
				conn, err := w.dial(ctx, addr)
				mu.Lock()
				defer mu.Unlock()
				last = conn
				return conn, err
			}
		})
		synctest.Wait()
		for i := range uint64(5) {
			w.log.set("k", fmt.Sprint(i))
			e.reaches(i + 1)
			mu.Lock()
			_ = last.Close()
			mu.Unlock()
		}
		w.log.set("k", "end")
		e.reaches(6)
		seqs, snapshots := e.heard()
		if !slices.Equal(seqs, []uint64{1, 2, 3, 4, 5, 6}) || len(snapshots) > 0 {
			t.Errorf("heard %v and snapshots %v, want 1 to 6 once each and no snapshot", seqs, snapshots)
		}
	})
}

func TestRestartOfBothSidesKeepsTheCursor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := vfs.NewMem()
		w := newWorld(t, nil)
		first := w.edgeOn(1, memCopy(t, disk), nil)
		w.log.set("a", "1")
		first.reaches(1)
		first.stop()
		w.stop()
		w.log.set("b", "2")
		w.start(nil)
		second := w.edgeOn(1, memCopy(t, disk), nil)
		second.reaches(2)
		second.has("a", "1")
		if seqs, snapshots := second.heard(); !slices.Equal(seqs, []uint64{2}) || len(snapshots) > 0 {
			t.Errorf("heard %v and snapshots %v, want 2 alone", seqs, snapshots)
		}
	})
}

func TestSnapshotWhenTheTailCannotBeHad(t *testing.T) {
	cases := []struct {
		name   string
		resume Resume
		before func(w *world) // between the edge's two connections
	}{
		{"below the floor", ResumeCompacted, func(w *world) {
			w.log.set("b", "2")
			w.log.set("c", "3")
			w.log.compact(2)
		}},
		{"chain fork", ResumeFork, func(w *world) {
			w.log = newMemLog()
			w.log.set("b", "other")
			w.log.set("c", "3")
			w.log.set("d", "4")
		}},
		{"fork at the head", ResumeFork, func(w *world) {
			w.log = newMemLog()
			w.log.set("c", "3")
		}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				disk := vfs.NewMem()
				w := newWorld(t, nil)
				first := w.edgeOn(1, memCopy(t, disk), nil)
				w.log.set("a", "1")
				first.reaches(1)
				first.stop()
				w.stop()
				c.before(w)
				w.start(nil)
				second := w.edgeOn(1, memCopy(t, disk), nil)
				head, _ := w.log.Head()
				second.reaches(head)
				if got := second.Status().Resume; got != c.resume {
					t.Errorf("resume %s, want %s", got, c.resume)
				}
				if c.resume == ResumeFork {
					second.has("a", "")
				}
				second.has("c", "3")
				w.log.set("tail", "follows")
				second.reaches(head + 1)
				second.has("tail", "follows")
				seqs, snapshots := second.heard()
				if !slices.Equal(snapshots, []uint64{head}) || !slices.Equal(seqs, []uint64{head + 1}) {
					t.Errorf("snapshots %v then %v, want %d then %d", snapshots, seqs, head, head+1)
				}
			})
		})
	}
}

func TestLargeSnapshotArrivesWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		for i := range 40 {
			changes := make([]Change, 100)
			for j := range changes {
				changes[j] = Change{Op: Set, Key: fmt.Sprintf("zone/%02d/%03d", i, j), Value: []byte(strings.Repeat("v", 700))}
			}
			w.log.put(changes...)
		}
		e := w.edge(1, nil)
		e.reaches(40)
		rows := 0
		if err := e.copy.Scan("zone/", func(string, []byte, uint64) error { rows++; return nil }); err != nil || rows != 4000 {
			t.Errorf("%d rows, %v; want 4000", rows, err)
		}
	})
}

// A control plane restored from an older backup: its edges are ahead of its log.
func TestCursorAheadGetsTheOlderStateAndIsNotAcknowledgedBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := memCopy(t, vfs.NewMem())
		other := newMemLog()
		for range 3 {
			e := other.set("a", "kept")
			if err := c.Apply(&e); err != nil {
				t.Fatal(err)
			}
		}
		var high atomic.Uint64
		note := func(n NodeInfo, seq uint64) { high.Store(max(high.Load(), seq, n.Acked)) }
		w := newWorld(t, func(c *ServerConfig) {
			c.OnAck = func(n NodeInfo, seq uint64, _ string) { note(n, seq) }
			c.Connected = func(n NodeInfo) { note(n, 0) }
		})
		w.log.set("x", "1")
		e := w.edgeOn(1, c, nil)
		<-time.After(time.Second)
		e.has("a", "kept") // it might be that this control plane has not heard yet
		e.reaches(1)
		e.has("a", "")
		e.has("x", "1")
		if st := e.Status(); st.Resume != ResumeAhead || st.Applied != 1 || st.Head != 1 {
			t.Errorf("status %+v; want applied 1 of 1, ahead", st)
		}
		if got := high.Load(); got != 1 {
			t.Errorf("number %d was acknowledged; the log ends at 1", got)
		}
		for range 3 {
			w.log.set("x", "2") // numbers that the lost history had as well
		}
		e.reaches(4)
		e.has("x", "2")
	})
}

func TestRejectedEntryIsReportedAndTheFeedGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		e := w.edge(1, func(c *SubscriberConfig) {
			c.OnEntry = func(e *Entry) error {
				if e.Seq == 2 {
					return errors.New("zone x: no meta")
				}
				return nil
			}
		})
		synctest.Wait()
		for range 3 {
			w.log.set("a", "1")
		}
		e.reaches(3)
		synctest.Wait()
		w.mu.Lock()
		defer w.mu.Unlock()
		if !slices.Equal(w.acks, []string{"FRA 2 zone x: no meta"}) {
			t.Errorf("control heard %q, want the rejection of 2", w.acks)
		}
	})
}

// Entries that come together are settled once, and acknowledged after that.
func TestBatchIsSettledOnceBeforeItIsAcknowledged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		var batches, noted int
		e := w.edge(1, func(c *SubscriberConfig) {
			c.OnEntry = func(*Entry) error { noted++; return nil }
			c.OnBatch = func(reject func(uint64, error)) {
				batches++
				for _, p := range w.server.Peers() {
					if p.Acked > 0 {
						t.Errorf("%d is acknowledged before it is settled", p.Acked)
					}
				}
				reject(2, errors.New("zone x: no meta"))
				reject(3, errors.New("zone y: no meta"))
			}
		})
		synctest.Wait()
		w.log.setTogether(4, "a", "1")
		e.reaches(4)
		synctest.Wait()
		w.mu.Lock()
		defer w.mu.Unlock()
		if want := []string{"FRA 2 zone x: no meta", "FRA 3 zone y: no meta"}; batches != 1 || noted != 4 || !slices.Equal(w.acks, want) {
			t.Errorf("%d entries in %d batches, control heard %q; want 4 in 1, %q", noted, batches, w.acks, want)
		}
	})
}

// A subscriber that was away gets what was sent one by one meanwhile as one.
func TestWhoWasAwaySettlesOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := vfs.NewMem()
		w := newWorld(t, nil)
		e := w.edgeOn(1, memCopy(t, fs), nil)
		synctest.Wait()
		w.log.set("a", "0")
		e.reaches(1)
		e.stop()
		for i := range 20 {
			w.log.set("a", fmt.Sprint(i))
			<-time.After(time.Second)
		}
		batches := 0
		e = w.edgeOn(1, memCopy(t, fs), func(c *SubscriberConfig) { c.OnBatch = func(func(uint64, error)) { batches++ } })
		e.reaches(21)
		e.has("a", "19")
		if batches != 1 {
			t.Errorf("%d batches, want 1", batches)
		}
	})
}

func TestSilentParentIsLeftForTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		silent := fakeParent(w, func(conn *tls.Conn, _ hello) {
			_ = writeFrame(conn, frameWelcome, welcome{resume: ResumeTail}.append(nil))
			<-w.t.Context().Done()
		})
		e := w.edge(1, func(c *SubscriberConfig) {
			c.Parents = []string{"silent", "parent"}
			c.Dial = func(ctx context.Context, addr string) (net.Conn, error) {
				if addr == "silent" {
					return silent(ctx, addr)
				}
				return w.dial(ctx, addr)
			}
		})
		start := time.Now()
		w.log.set("a", "1")
		e.reaches(1)
		if d := time.Since(start); d < 2*time.Second || d > 3*time.Second {
			t.Errorf("next parent after %s, want 2 to 3 s", d)
		}
	})
}

// fakeParent answers one connection's hello by a script of the test's.
func fakeParent(w *world, script func(conn *tls.Conn, h hello)) DialFunc {
	control := w.ca.identity("control", "")
	return func(context.Context, string) (net.Conn, error) {
		a, b := net.Pipe()
		go func() {
			defer func() { _ = a.Close() }()
			conn := tls.Server(a, control.ServerTLS(ALPNFeed))
			if conn.HandshakeContext(w.t.Context()) != nil {
				return
			}
			_, p, err := readFrame(conn, nil, maxUpFrame)
			if err != nil {
				return
			}
			h, err := decodeHello(p)
			if err != nil {
				return
			}
			go func() {
				for {
					if _, _, err := readFrame(conn, nil, maxUpFrame); err != nil {
						return
					}
				}
			}()
			script(conn, h)
		}()
		return b, nil
	}
}

// packedIf packs the payload of a kind that travels so.
func packedIf(kind int, p []byte) []byte {
	if kind != frameEntries && kind != frameRows {
		return p
	}
	return newPacker().frame(nil, byte(kind), p)[frameHead:]
}

// What a parent sends wrongly must leave the copy as it was, and the next
// connection must bring it up to date.
func TestBadFramesFromAParent(t *testing.T) {
	log := newMemLog()
	one, two, three := log.set("a", "1"), log.set("a", "2"), log.set("a", "3")
	forked := Seal([32]byte{9}, 2, time.Now(), nil)
	good := func(es ...*Entry) []byte {
		var p []byte
		for _, e := range es {
			p = AppendEntry(p, e)
		}
		return p
	}
	torn := good(&one, &two)
	torn[len(torn)-40] ^= 1
	row := appendRow(nil, "x", []byte("y"), 1)
	begin := snapshotBegin{ResumeFresh, false, Cursor{7, [32]byte{7}}}.append(nil)
	end := snapshotEnd{cursor: Cursor{7, [32]byte{7}}, rows: 1, sum: sha256.Sum256(row)}
	short := end
	short.rows = 2
	wrong := end
	wrong.sum[0] ^= 1
	bomb := packedIf(frameEntries, make([]byte, 1<<20))
	bomb[1] = 0 // of its length
	cases := []struct {
		name   string
		frames [][2]any
		raw    []byte
		seq    uint64 // where the copy stands after
	}{
		{name: "gap", frames: [][2]any{{frameEntries, good(&one, &three)}}, seq: 1},
		{name: "repeated entry", frames: [][2]any{{frameEntries, good(&one, &one)}}, seq: 1},
		{name: "fork", frames: [][2]any{{frameEntries, good(&one, &forked)}}, seq: 1},
		{name: "checksum mismatch", frames: [][2]any{{frameEntries, torn}}, seq: 1},
		{name: "half an entry", frames: [][2]any{{frameEntries, good(&one)[:50]}}},
		{name: "bytes after the entry", frames: [][2]any{{frameEntries, append(good(&one), 1)}}, seq: 1},
		{name: "unknown frame", frames: [][2]any{{77, []byte("x")}}},
		{name: "truncated frame", raw: []byte{0, 0, 1, 0, frameEntries, 1, 2, 3}},
		{name: "oversized frame", raw: []byte{0xff, 0xff, 0xff, 0xff, frameEntries}},
		{name: "rows without a snapshot", frames: [][2]any{{frameRows, row}}},
		{name: "end without a snapshot", frames: [][2]any{{frameEnd, end.append(nil)}}},
		{name: "entries within a snapshot", frames: [][2]any{{frameBegin, begin}, {frameEntries, good(&one)}}},
		{name: "snapshot cut off", frames: [][2]any{{frameBegin, begin}, {frameRows, row}}},
		{name: "snapshot with rows missing", frames: [][2]any{{frameBegin, begin}, {frameRows, row}, {frameEnd, short.append(nil)}}},
		{name: "snapshot with another sum", frames: [][2]any{{frameBegin, begin}, {frameRows, row}, {frameEnd, wrong.append(nil)}}},
		{name: "snapshot with half a row", frames: [][2]any{{frameBegin, begin}, {frameRows, row[:5]}}},
		{name: "rows out of order", frames: [][2]any{{frameBegin, begin}, {frameRows, append(row[:len(row):len(row)], row...)}}},
		{name: "snapshot goes on that was not begun", frames: [][2]any{{frameBegin, snapshotBegin{ResumeFresh, true, Cursor{}}.append(nil)}}},
		{name: "short begin", frames: [][2]any{{frameBegin, []byte{2}}}},
		{name: "not packed", raw: []byte{0, 0, 0, 6, frameEntries, 0, 0, 0, 2, 1, 2}},
		{name: "unpacks to more than it says", raw: append([]byte{0, 0, 0, byte(len(bomb)), frameEntries}, bomb...)},
		{name: "unpacks to more than is allowed", raw: []byte{0, 0, 0, 5, frameEntries, 0xff, 0, 0, 0, 0}},
		{name: "short heartbeat", frames: [][2]any{{frameHeartbeat, []byte("x")}}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &world{t: t, ca: newTestCA(t), log: newMemLog(), nodes: map[string]int{}}
				w.log.entries = log.entries
				w.start(nil)
				bad := fakeParent(w, func(conn *tls.Conn, _ hello) {
					_ = writeFrame(conn, frameWelcome, welcome{resume: ResumeTail}.append(nil))
					for _, f := range c.frames {
						_ = writeFrame(conn, byte(f[0].(int)), packedIf(f[0].(int), f[1].([]byte)))
					}
					_, _ = conn.Write(c.raw)
				})
				first := true
				e := w.edge(1, func(cfg *SubscriberConfig) {
					cp := cfg.Copy
					entry, noted, settled := cfg.OnEntry, uint64(0), uint64(0)
					cfg.OnEntry = func(e *Entry) error { noted = e.Seq; return entry(e) }
					cfg.OnBatch = func(func(uint64, error)) { settled = noted }
					cfg.Dial = func(ctx context.Context, addr string) (net.Conn, error) {
						if first {
							first = false
							return bad(ctx, addr)
						}
						if got := cp.Cursor().Seq; got != c.seq {
							t.Errorf("copy stands at %d after the bad frame, want %d", got, c.seq)
						}
						if settled != c.seq {
							t.Errorf("stored up to %d, settled up to %d", c.seq, settled)
						}
						return w.dial(ctx, addr)
					}
				})
				e.reaches(3)
				e.has("a", "3")
				e.has("x", "")
			})
		})
	}
}

// Lag counts from when the copy was last known to be up to date: while it is cut
// off, and while it has not stored what it heard of.
func TestLagIsHowLongTheHeadIsOutOfReach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.log.set("a", "1")
		hold := make(chan struct{})
		e := w.edge(1, func(c *SubscriberConfig) {
			c.OnEntry = func(x *Entry) error {
				if x.Seq == 2 {
					<-hold
				}
				return nil
			}
		})
		e.reaches(1)
		lag := func() time.Duration { return e.Status().Lag(time.Now()) }
		<-time.After(time.Minute)
		if got := lag(); got != 0 {
			t.Errorf("lag %s at the head, want 0", got)
		}
		w.log.set("a", "2")
		<-time.After(10 * time.Second)
		if got := e.Status(); got.Applied != 1 {
			t.Fatalf("applied %d", got.Applied)
		}
		if got := lag(); got < 9*time.Second || got > 12*time.Second {
			t.Errorf("lag %s where an entry takes 10 s, want about that", got)
		}
		close(hold)
		e.reaches(2)
		if got := lag(); got != 0 {
			t.Errorf("lag %s at the head again, want 0", got)
		}
		w.stop()
		<-time.After(time.Minute)
		if got := lag(); got < time.Minute || got > time.Minute+2*time.Second {
			t.Errorf("lag %s a minute after the parent went, want about that", got)
		}
	})
}
