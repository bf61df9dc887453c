package feed

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/selvage-edge/selvage/internal/pipes"
)

// replica is a partial replica below relays.
type replica struct {
	*Replica
	*edge
	stop func()
}

// replica runs node n as a partial replica on a disk.
func (w *world) replica(wires *network, n int, disk vfs.FS, bytes int64, parents ...string) *replica {
	w.t.Helper()
	return w.replicaOf(wires, n, disk, bytes, parents, parents...)
}

// replicaOf is replica with other relays for values than parents of the feed.
func (w *world) replicaOf(wires *network, n int, disk vfs.FS, bytes int64, parents []string, relays ...string) *replica {
	w.t.Helper()
	c, err := OpenCopy("copy", CopyOptions{FS: disk, NoSync: true, Thin: "zone/"})
	if err != nil {
		w.t.Fatal(err)
	}
	r := &replica{}
	var id *Identity
	r.edge = w.edgeOn(n, c, func(cfg *SubscriberConfig) {
		cfg.Parents, cfg.Dial = parents, wires.dial
		id = cfg.Identity
	})
	r.Replica = NewReplica(ReplicaConfig{Copy: c, Parents: relays, Dial: wires.dial, Identity: id, Bytes: bytes})
	ctx, cancel := context.WithCancel(w.t.Context())
	var work sync.WaitGroup
	work.Go(func() { r.Run(ctx) })
	r.stop = sync.OnceFunc(func() {
		cancel()
		work.Wait()
		r.edge.stop()
	})
	w.t.Cleanup(r.stop)
	return r
}

// Run is the replica's.
func (r *replica) Run(ctx context.Context) { r.Replica.Run(ctx) }

// scan reads a zone, as "key=value key=value".
func (r *replica) scan(zone string) (string, error) {
	var all []string
	err := r.Scan("zone/"+zone+"/", func(key string, value []byte, _ uint64) error {
		all = append(all, strings.TrimPrefix(key, "zone/"+zone+"/")+"="+string(value))
		return nil
	})
	return strings.Join(all, " "), err
}

func (r *replica) reads(zone, want string) {
	r.t.Helper()
	if got, err := r.scan(zone); got != want || err != nil {
		r.t.Errorf("zone %s is %q, %v; want %q", zone, got, err, want)
	}
}

// settles waits until what was fetched is stored.
func (r *replica) settles() {
	for {
		synctest.Wait()
		r.Replica.mu.Lock()
		open := len(r.Replica.open)
		r.Replica.mu.Unlock()
		if open == 0 {
			return
		}
		<-time.After(time.Millisecond)
	}
}

func (r *replica) lacks(zone string, want bool) {
	r.t.Helper()
	if got, err := r.Lacks("zone/" + zone + "/"); got != want || err != nil {
		r.t.Errorf("lacks values of %s: %t, %v; want %t", zone, got, err, want)
	}
}

// sums compares what is stored with what must be.
func (r *replica) sums() {
	r.t.Helper()
	if err := r.copy.Verify(r.t.Context(), 0); err != nil {
		r.t.Errorf("the copy's sums: %v", err)
	}
}

func (r *replica) fetches(want uint64) {
	r.t.Helper()
	if got := r.Replica.counters.fetched.Load(); got != want {
		r.t.Errorf("%d reads fetched, want %d", got, want)
	}
}

// zones sets a name and three rows of each zone.
func (w *world) zones(names ...string) {
	for _, z := range names {
		w.log.put(Change{Set, "name/" + z, []byte(z)},
			Change{Set, "zone/" + z + "/meta", []byte("m-" + z)},
			Change{Set, "zone/" + z + "/dns/www", []byte("d-" + z)},
			Change{Set, "zone/" + z + "/settings", []byte("s-" + z)})
	}
}

func whole(z string) string { return "dns/www=d-" + z + " meta=m-" + z + " settings=s-" + z }

// TestPartialReplicaFetchesOnceAndFollows: a zone comes when it is asked for,
// once, and what changes of it afterwards comes by the feed alone.
func TestPartialReplicaFetchesOnceAndFollows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		wires := newNetwork(w)
		w.zones("a", "b")
		relay := w.relay(wires, 1, "relay", "root")
		relay.reaches(2)
		r := w.replica(wires, 2, vfs.NewMem(), 0, "relay")
		r.reaches(2)
		r.has("name/a", "a")
		if _, _, _, err := r.copy.Get("zone/a/meta"); !errors.Is(err, ErrElsewhere) {
			t.Errorf("a value came with the snapshot: %v", err)
		}
		r.lacks("a", true)
		r.reads("a", whole("a"))
		r.settles()
		r.reads("a", whole("a"))
		r.fetches(1)
		r.lacks("a", false)
		r.lacks("never", false)
		w.log.set("zone/a/meta", "m2")
		w.log.set("zone/b/meta", "m2")
		r.reaches(4)
		r.reads("a", "dns/www=d-a meta=m2 settings=s-a")
		r.fetches(1)
		r.reads("b", "dns/www=d-b meta=m2 settings=s-b")
		r.fetches(2)
		r.settles()
		w.log.put(Change{Op: Delete, Key: "zone/b/meta"}, Change{Op: Delete, Key: "zone/b/dns/www"})
		r.reaches(5)
		r.reads("b", "settings=s-b")
		w.log.put(Change{Op: Delete, Key: "zone/b/settings"})
		r.reaches(6)
		r.reads("b", "")
		r.reads("never", "")
		if v, seq, ok, err := r.Replica.Get("zone/a/meta"); string(v) != "m2" || seq != 3 || !ok || err != nil {
			t.Errorf("get %q %d %t %v", v, seq, ok, err)
		}
		for _, prefix := range []string{"", "zone/", "zo"} {
			if err := r.Scan(prefix, nil); err == nil {
				t.Errorf("%q was scanned", prefix)
			}
		}
		n := 0
		if err := r.Scan("name/", func(string, []byte, uint64) error { n++; return nil }); n != 2 || err != nil {
			t.Errorf("%d names, %v", n, err)
		}
	})
}

// TestPartialReplicaServesWhatItHoldsWithoutParent, also after a restart, and
// says so of the rest without waiting each time.
func TestPartialReplicaServesWhatItHoldsWithoutParent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		wires := newNetwork(w)
		w.zones("a", "b", "c")
		w.relay(wires, 1, "one", "root").reaches(3)
		second := w.relay(wires, 3, "two", "root")
		second.reaches(3)
		disk := vfs.NewMem()
		r := w.replica(wires, 2, disk, 0, "one", "two", "root")
		r.reaches(3)
		r.reads("a", whole("a"))
		wires.cut("one", true)
		for range fetchers { // its connection is there until it is cut as well
			r.reads("b", whole("b"))
		}
		r.settles()
		r.stop()
		second.stop()
		wires.cut("two", true)
		wires.cut("root", true)
		r = w.replica(wires, 2, disk, 0, "one", "two", "root")
		r.reads("a", whole("a"))
		r.reads("b", whole("b"))
		start := time.Now()
		for range 100 {
			if _, err := r.scan("c"); !errors.Is(err, ErrElsewhere) {
				t.Fatalf("zone c: %v", err)
			}
		}
		if took := time.Since(start); took > time.Second {
			t.Errorf("100 reads of what cannot be had took %s", took)
		}
		if groups, held := r.copy.held.size(); groups != 2 || held < 2*groupCost+6*valueCost {
			t.Errorf("%d groups of %d bytes after the restart", groups, held)
		}
		wires.cut("root", false) // which is no relay
		time.Sleep(2 * time.Second)
		if _, err := r.scan("c"); !Refused(err, ReasonNoCopy) {
			t.Errorf("zone c of the root: %v", err)
		}
	})
}

// TestPartialReplicaDropsTheUnused: the bound on values holds, and what goes is
// what was not used for longest.
func TestPartialReplicaDropsTheUnused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		wires := newNetwork(w)
		var names []string
		for i := range 40 {
			z := fmt.Sprintf("z%02d", i)
			names = append(names, z)
			w.log.set("zone/"+z+"/meta", strings.Repeat(z, 1000))
		}
		w.relay(wires, 1, "relay", "root").reaches(40)
		r := w.replica(wires, 2, vfs.NewMem(), 33000, "relay")
		r.reaches(40)
		for _, z := range names {
			if v, _, ok, err := r.Replica.Get("zone/" + z + "/meta"); len(v) != 3000 || !ok || err != nil {
				t.Fatalf("%s: %d bytes, %t, %v", z, len(v), ok, err)
			}
			r.settles()
			r.Touch("zone/z00/")
		}
		groups, held := r.copy.held.size()
		if groups < 8 || held > 33000 {
			t.Errorf("%d groups of %d bytes are held", groups, held)
		}
		r.fetches(40)
		for _, z := range []string{"z00", "z39"} {
			if _, _, _, err := r.copy.Get("zone/" + z + "/meta"); err != nil {
				t.Errorf("%s was dropped: %v", z, err)
			}
		}
		if _, _, _, err := r.copy.Get("zone/z10/meta"); !errors.Is(err, ErrElsewhere) {
			t.Errorf("z10: %v", err)
		}
		r.sums()
		// What was dropped and changes stays a stub, and is had again.
		w.log.set("zone/z10/meta", "new")
		r.reaches(41)
		if v, _, _, err := r.Replica.Get("zone/z10/meta"); string(v) != "new" || err != nil {
			t.Errorf("z10 is %q, %v", v, err)
		}
	})
}

// TestReplicaSwitches from whole to partial and back on one folder.
func TestReplicaSwitches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		wires := newNetwork(w)
		w.zones("a", "b", "c")
		w.relay(wires, 1, "relay", "root").reaches(3)
		disk := vfs.NewMem()
		full := func() *edge {
			c, err := OpenCopy("copy", CopyOptions{FS: disk, NoSync: true})
			if err != nil {
				t.Fatal(err)
			}
			return w.edgeOn(2, c, func(cfg *SubscriberConfig) { cfg.Parents, cfg.Dial = []string{"relay"}, wires.dial })
		}
		e := full()
		e.reaches(3)
		e.stop()

		r := w.replica(wires, 2, disk, 2*groupCost, "relay")
		if groups, _ := r.copy.held.size(); groups != 3 {
			t.Errorf("%d groups of a whole copy", groups)
		}
		w.log.set("zone/a/meta", "m2")
		r.reaches(4)
		<-time.After(2 * keepEvery)
		synctest.Wait()
		if groups, _ := r.copy.held.size(); groups > 1 {
			t.Errorf("%d groups are held over the bound", groups)
		}
		r.reads("b", whole("b"))
		r.stop()

		e = full()
		if e.copy.Cursor().Seq != 4 {
			t.Errorf("it stands at %d before the snapshot", e.copy.Cursor().Seq)
		}
		for range 100 {
			synctest.Wait()
			if _, snapshots := e.heard(); len(snapshots) > 0 {
				break
			}
			<-time.After(10 * time.Millisecond)
		}
		e.has("zone/a/meta", "m2")
		e.has("zone/c/settings", "s-c")
		e.stop()
		e = full()
		w.log.set("zone/a/meta", "m3")
		e.reaches(5)
		if _, snapshots := e.heard(); len(snapshots) != 0 {
			t.Errorf("a whole copy took a snapshot")
		}
	})
}

// TestPartialReplicaKeepsValuesOverSnapshot: one after a compacted log brings
// stubs, of which the held ones keep their values.
func TestPartialReplicaKeepsValuesOverSnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		wires := newNetwork(w)
		w.zones("a", "b")
		relay := w.relay(wires, 1, "relay", "root")
		relay.reaches(2)
		disk := vfs.NewMem()
		r := w.replica(wires, 2, disk, 0, "relay", "root")
		r.reaches(2)
		r.reads("a", whole("a"))
		r.settles()
		r.stop()
		w.log.set("zone/a/meta", "m2")
		w.log.set("zone/b/meta", "m2")
		w.log.compact(4)
		relay.stop()
		wires.cut("relay", true)
		r = w.replica(wires, 2, disk, 0, "relay", "root")
		r.reaches(4)
		for key, want := range map[string]string{"zone/a/settings": "s-a", "zone/a/dns/www": "d-a"} {
			if v, _, _, err := r.copy.Get(key); string(v) != want || err != nil {
				t.Errorf("%s is %q, %v", key, v, err)
			}
		}
		for _, key := range []string{"zone/a/meta", "zone/b/settings"} {
			if _, _, _, err := r.copy.Get(key); !errors.Is(err, ErrElsewhere) {
				t.Errorf("%s: %v", key, err)
			}
		}
		r.sums()
	})
}

// TestReadersShareAFetch: many who ask at once cost the relay one question.
func TestReadersShareAFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		wires := newNetwork(w)
		w.zones("a")
		relay := w.relay(wires, 1, "relay", "root")
		relay.reaches(1)
		r := w.replica(wires, 2, vfs.NewMem(), 0, "relay")
		r.reaches(1)
		var readers sync.WaitGroup
		for range 200 {
			readers.Go(func() { r.reads("a", whole("a")) })
		}
		readers.Wait()
		if n := relay.server.counters.fetches.Load(); n != 1 {
			t.Errorf("the relay was asked %d times", n)
		}
	})
}

// values serves a copy of its own under a name, which follows nobody.
func (w *world) values(wires *network, n int, name string, entries ...Entry) *Copy {
	w.t.Helper()
	c, err := OpenCopy("copy", CopyOptions{FS: vfs.NewMem(), NoSync: true})
	if err != nil {
		w.t.Fatal(err)
	}
	for i := range entries {
		if err := c.Apply(&entries[i]); err != nil {
			w.t.Fatal(err)
		}
	}
	server := NewServer(ServerConfig{Log: NewRelayLog(c), Copy: c, Identity: w.ca.identity(nodeID(n), "AMS"+relaySuffix)})
	ln := pipes.New()
	wires.set(name, ln)
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan error, 1)
	go func() { done <- server.Serve(ctx, ln) }()
	w.t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-done, c.Close()); err != nil {
			w.t.Errorf("values: %v", err)
		}
	})
	return c
}

// TestReplicaAheadOfItsRelay has what did not change since from a relay that
// stands before it, and waits for the rest.
func TestReplicaAheadOfItsRelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		wires := newNetwork(w)
		w.zones("a", "b")
		behind := w.values(wires, 1, "behind", w.log.entries...)
		next := w.log.set("zone/a/meta", "m2")
		r := w.replica(wires, 2, vfs.NewMem(), 0, "root", "behind")
		r.reaches(3)
		r.reads("b", whole("b"))
		if _, err := r.scan("a"); !errors.Is(err, ErrElsewhere) {
			t.Errorf("zone a: %v", err)
		}
		go func() {
			time.Sleep(time.Second)
			if err := behind.Apply(&next); err != nil {
				t.Error(err)
			}
			behind.moved()
		}()
		r.reads("a", "dns/www=d-a meta=m2 settings=s-a")
	})
}

// TestWrongValueIsRefused: a relay that answers with another value is not
// believed, and the next is asked.
func TestWrongValueIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		wires := newNetwork(w)
		w.zones("a")
		w.values(wires, 1, "liar", Seal([32]byte{}, 1, time.Now(), []Change{
			{Set, "zone/a/meta", []byte("wrong")}, {Set, "zone/a/dns/www", []byte("d-a")}, {Set, "zone/a/settings", []byte("s-a")},
		}))
		w.values(wires, 3, "relay", w.log.entries...)
		r := w.replicaOf(wires, 2, vfs.NewMem(), 0, []string{"root"}, "liar", "relay")
		r.reaches(1)
		r.reads("a", whole("a"))
		if n := r.Replica.counters.away.Load(); n != 1 {
			t.Errorf("%d parents were found wanting, want the liar", n)
		}
	})
}

// TestStrangeQuestions are refused by name, with bounded work, and do not end
// what others are served.
func TestStrangeQuestions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		wires := newNetwork(w)
		w.zones("a", "b")
		relay := w.relay(wires, 1, "relay", "root")
		relay.reaches(2)
		say := func(kind byte, p []byte) (byte, []byte) {
			t.Helper()
			conn := w.fetching(wires, "relay", 2)
			defer conn.Close()
			if err := writeFrame(conn, kind, p); err != nil {
				t.Fatal(err)
			}
			kind, p, err := readFrame(conn, nil, maxFetchFrame)
			if err != nil {
				t.Fatal(err)
			}
			return kind, p
		}
		for name, c := range map[string]struct {
			kind byte
			p    []byte
			want Reason
		}{
			"everything":  {frameFetch, ask{2, false, ""}.append(nil), ReasonWide},
			"all zones":   {frameFetch, ask{2, false, "zone/"}.append(nil), ReasonWide},
			"some zones":  {frameFetch, ask{2, false, "zone/a"}.append(nil), ReasonWide},
			"no key":      {frameFetch, ask{2, true, ""}.append(nil), ReasonWide},
			"NUL":         {frameFetch, ask{2, true, "zone/a/\x00"}.append(nil), ReasonMalformed},
			"cut off":     {frameFetch, []byte{0, 0}, ReasonMalformed},
			"long key":    {frameFetch, ask{2, true, strings.Repeat("k", MaxKeyBytes+1)}.append(nil), ReasonMalformed},
			"behind it":   {frameFetch, append(ask{2, true, "zone/a/meta"}.append(nil), 0), ReasonMalformed},
			"other frame": {frameHello, nil, ReasonMalformed},
		} {
			kind, p := say(c.kind, c.p)
			if err := decodeRefusal(p); kind != frameError || !Refused(err, c.want) {
				t.Errorf("%s: frame %d, %v; want %v", name, kind, err, c.want)
			}
		}
		large := w.fetching(wires, "relay", 2)
		defer large.Close()
		if _, err := large.Write([]byte{0, 0, maxHelloFrame >> 8, 1, frameFetch}); err != nil {
			t.Fatal(err)
		}
		if kind, p, err := readFrame(large, nil, maxFetchFrame); err != nil || kind != frameError || !Refused(decodeRefusal(p), ReasonMalformed) {
			t.Errorf("a large frame: frame %d, %v", kind, err)
		}
		// A number that never was is answered, without rows.
		start := time.Now()
		kind, p := say(frameFetch, ask{1 << 63, false, "zone/a/"}.append(nil))
		if f, err := decodeFetched(p); kind != frameFetched || err != nil || f.status != fetchBehind || f.rows != 0 {
			t.Errorf("a number ahead: frame %d, %+v, %v", kind, f, err)
		}
		if time.Since(start) > time.Second {
			t.Errorf("a number ahead was waited for %s", time.Since(start))
		}
		var all []net.Conn
		for range maxNodeFetchers {
			conn := w.fetching(wires, "relay", 2)
			defer conn.Close()
			all = append(all, conn)
		}
		synctest.Wait()
		if kind, p := say(frameFetch, ask{2, false, "zone/a/"}.append(nil)); kind != frameError || !Refused(decodeRefusal(p), ReasonBusy) {
			t.Errorf("one connection too many: frame %d, %v", kind, decodeRefusal(p))
		}
		// One that was shut out meanwhile is told so.
		w.log.set(RevokedKey(nodeID(2)), "now")
		relay.reaches(3)
		if err := writeFrame(all[0], frameFetch, ask{2, false, "zone/a/"}.append(nil)); err != nil {
			t.Fatal(err)
		}
		kind, p, err := readFrame(all[0], nil, maxFetchFrame)
		if err != nil || kind != frameError || !Refused(decodeRefusal(p), ReasonRevoked) {
			t.Errorf("a node that was shut out: frame %d, %v, %v", kind, decodeRefusal(p), err)
		}
	})
}

// fetching connects node n to a relay's values.
func (w *world) fetching(wires *network, relay string, n int) net.Conn {
	w.t.Helper()
	raw, err := wires.dial(w.t.Context(), relay)
	if err != nil {
		w.t.Fatal(err)
	}
	conn := tls.Client(raw, w.ca.identity(nodeID(n), "FRA").ClientTLS(ALPNFetch))
	if err := conn.HandshakeContext(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	return conn
}

// TestAnswersAreJudged: what breaks the protocol ends the answer.
func TestAnswersAreJudged(t *testing.T) {
	want := []piece{{key: "zone/a/b", seq: 2, sum: sumOf([]byte("v"))}, {key: "zone/a/d", seq: 3, sum: sumOf([]byte("w"))}}
	good := appendRow(appendRow(appendRow(nil, "zone/a/b", []byte("v"), 2), "zone/a/c", nil, 9), "zone/a/d", []byte("w"), 3)
	for name, c := range map[string]struct {
		rows []byte
		end  fetched
		want error
	}{
		"whole":       {good, fetched{rows: 3}, nil},
		"newer":       {appendRow(appendRow(nil, "zone/a/b", []byte("v"), 2), "zone/a/d", []byte("w"), 4), fetched{rows: 2}, errGone},
		"missing":     {appendRow(nil, "zone/a/d", []byte("w"), 3), fetched{rows: 1}, errGone},
		"none":        {nil, fetched{}, errGone},
		"other value": {appendRow(nil, "zone/a/b", []byte("x"), 2), fetched{rows: 1}, errWrong},
		"lost row":    {good, fetched{rows: 4}, ErrTorn},
		"order":       {appendRow(appendRow(nil, "zone/a/d", []byte("w"), 3), "zone/a/b", []byte("v"), 2), fetched{rows: 2}, errFrame},
		"stub":        {appendStub(nil, "zone/a/b", []byte("v"), 2), fetched{rows: 1}, errFrame},
		"behind":      {nil, fetched{status: fetchBehind}, errBehindHere},
		"absent":      {nil, fetched{status: fetchAbsent}, ErrElsewhere},
	} {
		m := matcher{want: want}
		err := m.take(c.rows)
		var found []piece
		if err == nil {
			found, err = m.end(c.end.append(nil))
		}
		if !errors.Is(err, c.want) || err == nil && len(found) != 2 {
			t.Errorf("%s: %d rows, %v; want %v", name, len(found), err, c.want)
		}
	}
}

// TestReadsAreOfOneMoment: while entries change all rows of a zone together, the
// relay is before or behind this server and values are dropped all the time, no
// read mixes two states or goes back.
func TestReadsAreOfOneMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		wires := newNetwork(w)
		const rows, last = 5, 60
		change := func(n int) {
			var all []Change
			for i := range rows {
				all = append(all, Change{Set, fmt.Sprintf("zone/a/row%d", i), fmt.Appendf(nil, "%d", n)})
			}
			w.log.put(all...)
		}
		change(1)
		w.relay(wires, 1, "relay", "root").reaches(1)
		r := w.replicaOf(wires, 2, vfs.NewMem(), 1, []string{"root"}, "relay")
		r.reaches(1)
		var work sync.WaitGroup
		for range 4 {
			work.Go(func() {
				seen := 0
				for seen < last {
					at := r.Cursor().Seq
					var values []string
					err := r.Scan("zone/a/", func(_ string, value []byte, _ uint64) error {
						values = append(values, string(value))
						return nil
					})
					if err != nil || len(values) != rows {
						t.Errorf("%q, %v", values, err)
						return
					}
					var n int
					if _, err := fmt.Sscan(values[0], &n); err != nil || n < seen || n < int(at) {
						t.Errorf("state %q after %d, at %d", values[0], seen, at)
						return
					}
					for _, v := range values {
						if v != values[0] {
							t.Errorf("a read mixes states: %q", values)
							return
						}
					}
					seen = n
					<-time.After(time.Millisecond)
				}
			})
		}
		for n := 2; n <= last; n++ {
			change(n)
			<-time.After(time.Duration(n%7) * time.Millisecond)
		}
		work.Wait()
		if n := r.Replica.counters.fetched.Load(); n == 0 {
			t.Error("nothing was fetched")
		}
		r.sums()
	})
}
