package cache

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/selvage-edge/selvage/edge/phase/cache/mark"
	"github.com/selvage-edge/selvage/edge/phase/cache/ssd"
	"github.com/selvage-edge/selvage/edge/request"
	"github.com/selvage-edge/selvage/wire/msg"
	"github.com/selvage-edge/selvage/zone"
)

// diskRig is a rig with a disk, that can be started again.
type diskRig struct {
	*rig
	dir   string
	c     Config
	marks *mark.Ledger
	store *ssd.Store
}

func newDiskRig(t *testing.T, c Config, serve func(*request.Request) error) *diskRig {
	d := &diskRig{rig: &rig{t: t}, dir: t.TempDir(), c: c}
	d.start(serve)
	return d
}

func (d *diskRig) start(serve func(*request.Request) error) {
	d.t.Helper()
	var err error
	if d.marks, _, err = mark.Open(d.dir); err != nil {
		d.t.Fatal(err)
	}
	if d.store, err = ssd.Open(ssd.Config{Dir: d.dir + "/cache", Bytes: 64 << 20, Scrub: -1}); err != nil {
		d.t.Fatal(err)
	}
	c := d.c
	c.Marks = d.marks
	skew := d.skew
	d.rig = newRig(d.t, c, serve)
	d.skew = skew
	d.e.UseDisk(d.store)
	d.t.Cleanup(func() { d.store.Close() })
}

// restart ends the engine as a drain does and starts it again.
func (d *diskRig) restart() {
	d.t.Helper()
	d.e.Close()
	if err := d.store.Close(); err != nil {
		d.t.Fatal(err)
	}
	if err := d.marks.Close(); err != nil {
		d.t.Fatal(err)
	}
	d.start(d.serve)
}

// forget drops what memory holds, as eviction does.
func (d *diskRig) forget() {
	d.store.Flush()
	for i := range d.e.shards {
		for s := &d.e.shards[i]; d.e.evictFrom(s) > 0; {
		}
	}
	d.store.Flush()
}

func (d *diskRig) wantTier(a *answer, cache, body string, tier request.Tier) {
	d.t.Helper()
	d.want(a, 200, cache, body)
	if a.note.Tier != tier {
		d.t.Errorf("answered by %s, want %s", a.note.Tier, tier)
	}
}

// twice asks until an object is worth storing: fetched, then hit.
func (d *diskRig) twice(line string, lines ...string) {
	d.t.Helper()
	d.run(line, lines...)
	d.run(line, lines...)
}

func TestDiskAnswersWhatMemoryLost(t *testing.T) {
	d := newDiskRig(t, Config{}, always(200, "hello", "Cache-Control: max-age=600", "ETag: \"a\"", "X-A: b"))
	d.twice("GET /a")
	d.forget()
	a := d.run("GET /a")
	d.wantTier(a, "HIT", "hello", request.TierSSD)
	if a.get("X-A") != "b" || a.get("ETag") != `"a"` || a.get("Age") != "0" || a.get("Date") == "" {
		t.Errorf("fields are %v", a.fields.All())
	}
	d.wantTier(d.run("GET /a"), "HIT", "hello", request.TierRAM)
	d.wantFetches(1)
	d.sleep(time.Minute)
	d.forget()
	if a := d.run("GET /a"); a.get("Age") != "60" {
		t.Errorf("Age is %s, want 60", a.get("Age"))
	}
	d.restart()
	d.wantTier(d.run("GET /a"), "HIT", "hello", request.TierSSD)
	if a := d.run("GET /a", `If-None-Match: "a"`); a.status != 304 {
		t.Errorf("status %d, want 304", a.status)
	}
	d.wantFetches(0)
}

func TestOneHitWondersAreNotWritten(t *testing.T) {
	d := newDiskRig(t, Config{}, always(200, "hello", "Cache-Control: max-age=600"))
	d.run("GET /a")
	d.forget()
	if n := d.store.Stats().Records; n != 0 {
		t.Errorf("%d records after one request", n)
	}
	d.run("GET /a") // came back: the second time it leaves it is written
	d.forget()
	d.wantTier(d.run("GET /a"), "HIT", "hello", request.TierSSD)
	d.wantFetches(2)
}

func TestHotObjectsOutliveADrain(t *testing.T) {
	d := newDiskRig(t, Config{}, always(200, "hello", "Cache-Control: max-age=600"))
	for i := range 50 {
		d.twice(fmt.Sprintf("GET /%d", i))
	}
	d.restart()
	for i := range 50 {
		d.wantTier(d.run(fmt.Sprintf("GET /%d", i)), "HIT", "hello", request.TierSSD)
	}
	d.wantFetches(0)
}

func TestVariantsOnDisk(t *testing.T) {
	d := newDiskRig(t, Config{}, func(r *request.Request) error {
		return reply(r, 200, "for "+string(r.In.Fields.Lookup("X-Kind")), "Cache-Control: max-age=600", "Vary: X-Kind, Accept-Encoding")
	})
	for _, kind := range []string{"a", "b", ""} {
		line := "X-Kind: " + kind
		if kind == "" {
			line = "X-Other: 1"
		}
		d.twice("GET /v", line)
	}
	for range 2 {
		d.forget()
		d.wantTier(d.run("GET /v", "X-Kind: a"), "HIT", "for a", request.TierSSD)
		d.wantTier(d.run("GET /v", "X-Kind: b"), "HIT", "for b", request.TierSSD)
		d.wantTier(d.run("GET /v", "X-Other: 1"), "HIT", "for ", request.TierSSD)
		d.wantFetches(3)
		d.restart()
		d.fetches.Store(3)
	}
	d.want(d.run("GET /v", "X-Kind: c"), 200, "MISS", "for c")
	// An unsafe request drops them all, also when a new Vary record leads on.
	d.forget()
	d.want(d.run("POST /v"), 200, "DYNAMIC", "for ")
	d.twice("GET /v", "X-Kind: a")
	d.forget()
	d.want(d.run("GET /v", "X-Kind: b"), 200, "MISS", "for b")
	d.wantTier(d.run("GET /v", "X-Kind: a"), "HIT", "for a", request.TierSSD)
}

func TestPurgesReachTheDisk(t *testing.T) {
	purges := map[string]zone.Purge{
		"everything": {Everything: true},
		"url":        {Files: []string{"https://www.example.com/a"}},
		"tag":        {Tags: []string{"T1"}},
		"host":       {Hosts: []string{"www.example.com"}},
		"prefix":     {Prefixes: []string{"www.example.com/a"}},
	}
	for name, p := range purges {
		for _, restarted := range []bool{false, true} {
			t.Run(fmt.Sprint(name, restarted), func(t *testing.T) {
				d := newDiskRig(t, Config{}, always(200, "hello", "Cache-Control: max-age=600", "Cache-Tag: t1,t2"))
				d.e.Advance(5)
				d.twice("GET /a")
				d.forget()
				if err := d.e.Purge(testZone, 6, p); err != nil {
					t.Fatal(err)
				}
				if err := d.e.Sync(); err != nil {
					t.Fatal(err)
				}
				if restarted {
					d.restart()
				}
				d.want(d.run("GET /a"), 200, "MISS", "hello")
				d.run("GET /a")
				d.forget()
				d.wantTier(d.run("GET /a"), "HIT", "hello", request.TierSSD)
			})
		}
	}
	d := newDiskRig(t, Config{}, always(200, "hello", "Cache-Control: max-age=600, stale-while-revalidate=600"))
	d.e.Advance(5)
	d.twice("GET /a")
	d.forget()
	if err := d.e.Purge(testZone, 6, zone.Purge{Files: []string{"https://www.example.com/a"}, Soft: true}); err != nil {
		t.Fatal(err)
	}
	d.wantTier(d.run("GET /a"), "UPDATING", "hello", request.TierSSD)
}

// TestWithoutAJournalNothingIsKept: a ledger that is lost may have had purges.
func TestWithoutAJournalNothingIsKept(t *testing.T) {
	d := newDiskRig(t, Config{}, always(200, "hello", "Cache-Control: max-age=600"))
	d.twice("GET /a")
	d.restart()
	d.e.marks = mark.NewLasting()
	d.e.marks.Serve(d.e)
	d.want(d.run("GET /a"), 200, "MISS", "hello")
	d.wantFetches(1)
}

func TestStaleOnDisk(t *testing.T) {
	version := "one"
	down := false
	d := newDiskRig(t, Config{}, func(r *request.Request) error {
		if down {
			return reply(r, 503, "down")
		}
		if r.In.Fields.Lookup("If-None-Match") != nil && version == "one" {
			return reply(r, 304, "", "ETag: \"one\"", "Cache-Control: max-age=60")
		}
		return reply(r, 200, version, "Cache-Control: max-age=60, stale-if-error=600", "ETag: \""+version+"\"")
	})
	for _, path := range []string{"/a", "/b", "/c"} {
		d.twice("GET " + path)
	}
	d.forget()
	d.sleep(2 * time.Minute)
	d.wantTier(d.run("GET /a"), "REVALIDATED", "one", request.TierOrigin)
	d.wantTier(d.run("GET /a"), "HIT", "one", request.TierRAM)
	version = "two"
	d.wantTier(d.run("GET /b"), "EXPIRED", "two", request.TierOrigin)
	down = true
	d.wantTier(d.run("GET /c"), "STALE", "one", request.TierSSD)
	d.wantFetches(6)
}

// TestObjectsLargerThanMemory go to the disk as they come and are sent from
// there.
func TestObjectsLargerThanMemory(t *testing.T) {
	body := strings.Repeat("0123456789abcdef", 3<<20/16) // 3 MiB
	d := newDiskRig(t, Config{Bytes: 4 << 20}, func(r *request.Request) error {
		if r.In.Fields.Lookup("If-None-Match") != nil {
			return reply(r, 304, "", "ETag: \"v\"", "Cache-Control: max-age=60", "X-New: yes")
		}
		return reply(r, 200, body, "Cache-Control: max-age=60", "ETag: \"v\"")
	})
	d.want(d.run("GET /l"), 200, "MISS", body)
	stored := func() bool { d.store.Flush(); return d.store.Stats().Records == 2 }
	waitFor(t, stored)
	again := func(cache string, tier request.Tier) {
		t.Helper()
		d.wantTier(d.run("GET /l"), cache, body, tier)
		if a := d.run("GET /l", "Range: bytes=1048570-1048585"); a.status != 206 || a.body != body[1048570:1048586] ||
			a.get("Content-Range") != "bytes 1048570-1048585/3145728" {
			t.Errorf("part: %d %q %s", a.status, a.body, a.get("Content-Range"))
		}
		if a := d.run("GET /l", "Range: bytes=9999999-"); a.status != 416 || a.body != "" {
			t.Errorf("beyond the end: %d %q", a.status, a.body)
		}
		if a := d.run("HEAD /l"); a.status != 200 || a.get("Content-Length") != "3145728" || a.body != "" {
			t.Errorf("HEAD: %d, Content-Length %s", a.status, a.get("Content-Length"))
		}
		if a := d.run("GET /l", `If-None-Match: "v"`); a.status != 304 {
			t.Errorf("status %d, want 304", a.status)
		}
	}
	again("HIT", request.TierSSD)
	d.wantFetches(1)
	d.restart()
	again("HIT", request.TierSSD)
	d.wantFetches(0)
	d.sleep(2 * time.Minute)
	d.wantTier(d.run("GET /l"), "REVALIDATED", body, request.TierOrigin)
	d.store.Flush()
	again("HIT", request.TierSSD)
	if a := d.run("GET /l"); a.get("X-New") != "yes" {
		t.Error("the fields of the 304 are not stored")
	}
	d.wantFetches(1)
	if err := d.e.Purge(testZone, 6, zone.Purge{Files: []string{"https://www.example.com/l"}}); err != nil {
		t.Fatal(err)
	}
	d.want(d.run("GET /l"), 200, "MISS", body)
}

// A body of unknown length that outgrows memory is on the disk afterwards, and one
// that does not is in memory alone.
func TestBodiesThatOutgrowMemory(t *testing.T) {
	large, small := strings.Repeat("0123456789abcdef", 3<<20/16), strings.Repeat("0123456789abcdef", 700<<10/16)
	d := newDiskRig(t, Config{Bytes: 4 << 20}, func(r *request.Request) error {
		body := small
		if string(r.In.Path) == "/large" {
			body = large
		}
		err := reply(r, 200, body, "Cache-Control: max-age=60", "ETag: \"v\"")
		r.Out.Length = msg.LengthUnknown
		return err
	})
	d.want(d.run("GET /large"), 200, "MISS", large)
	waitFor(t, func() bool { d.store.Flush(); return d.store.Stats().Records == 2 })
	d.wantTier(d.run("GET /large"), "HIT", large, request.TierSSD)
	if a := d.run("GET /large", "Range: bytes=3145720-"); a.status != 206 || a.body != large[3145720:] {
		t.Errorf("part: %d %q", a.status, a.body)
	}
	d.want(d.run("GET /small"), 200, "MISS", small)
	d.wantTier(d.run("GET /small"), "HIT", small, request.TierRAM)
	d.wantFetches(2)
}

// TestMiddlingObjectsStayOnDisk: what is too large to be read at once is sent
// from the disk, and read whole to be revalidated.
func TestMiddlingObjectsStayOnDisk(t *testing.T) {
	body := strings.Repeat("0123456789abcdef", 100<<10/16)
	d := newDiskRig(t, Config{}, func(r *request.Request) error {
		if r.In.Fields.Lookup("If-None-Match") != nil {
			return reply(r, 304, "", "ETag: \"v\"", "Cache-Control: max-age=60")
		}
		return reply(r, 200, body, "Cache-Control: max-age=60", "ETag: \"v\"")
	})
	d.twice("GET /m")
	d.forget()
	for range 3 {
		d.wantTier(d.run("GET /m"), "HIT", body, request.TierSSD)
	}
	r := ask(t.Context(), "GET /m")
	if _, err := d.e.Run(&d.plan, r); err != nil {
		t.Fatal(err)
	}
	body2, ok := r.Out.Body.(*fileBody)
	if !ok {
		t.Fatalf("the body is a %T", r.Out.Body)
	}
	f, at, n, done := body2.File()
	if f == nil || n != int64(len(body)) {
		t.Fatal("no file to send from")
	}
	p := make([]byte, len(body))
	if _, err := f.ReadAt(p, at); err != nil || string(p) != body {
		t.Errorf("the file has other bytes: %v", err)
	}
	done()
	r.Out.Close()
	d.sleep(2 * time.Minute)
	d.wantTier(d.run("GET /m"), "REVALIDATED", body, request.TierOrigin)
	d.wantTier(d.run("GET /m"), "HIT", body, request.TierRAM)
}

func TestDiskIsReadOnceForAll(t *testing.T) {
	d := newDiskRig(t, Config{}, always(200, "hello", "Cache-Control: max-age=600"))
	d.twice("GET /a")
	d.forget()
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			r := ask(t.Context(), "GET /a")
			if _, err := d.e.Run(&d.plan, r); err != nil {
				t.Error(err)
			}
			if a := readAnswer(r); a.body != "hello" || a.cache != "HIT" {
				t.Errorf("got %s %q", a.cache, a.body)
			}
			r.Out.Close()
		})
	}
	all.Wait()
	if n := d.e.disk.restored.Load(); n != 1 {
		t.Errorf("the object was read %d times", n)
	}
	d.wantFetches(1)
}

func TestDiskIsNotReadWithoutWaiting(t *testing.T) {
	d := newDiskRig(t, Config{}, always(200, "hello", "Cache-Control: max-age=600"))
	d.twice("GET /a")
	d.forget()
	r := ask(t.Context(), "GET /a")
	r.NoWait = true
	if v, _ := d.e.Run(&d.plan, r); v != request.Wait {
		t.Errorf("verdict %d, want Wait", v)
	}
}

// TestBadRecordsAreMisses: what is in the store may be anything.
func TestBadRecordsAreMisses(t *testing.T) {
	h := storedSample()
	h.vary = nil
	short := h
	short.size = 3
	endless := h
	endless.kind = storedHead
	loop := stored{kind: storedVary, vary: []varyField{{name: []byte("x")}}}
	for name, meta := range map[string][]byte{
		"nothing": {}, "garbage": bytes.Repeat([]byte{7}, 100), "another size": short.append(nil), "another life": h.append(nil),
		"head without body": endless.append(nil), "vary of nothing": loop.append(nil),
	} {
		d := newDiskRig(t, Config{}, always(200, "hello", "Cache-Control: max-age=600"))
		k := d.e.keyOf(&d.plan, ask(t.Context(), "GET /a"))
		d.store.Put(recordKey(k.text), meta, []byte("x"), nil)
		d.store.Flush()
		if a := d.run("GET /a"); a.cache != "MISS" || a.body != "hello" {
			t.Errorf("%s: got %s %q", name, a.cache, a.body)
		}
	}
}

// waitFor polls, since the disk is written by another goroutine.
func waitFor(t testing.TB, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); <-time.After(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it did not happen within 20 s")
		}
	}
}

func BenchmarkDiskHit(b *testing.B) {
	for _, size := range []int{1 << 10, 100 << 10} {
		b.Run(fmt.Sprint(size>>10, "KiB"), func(b *testing.B) {
			g := newRig(b, Config{}, always(200, strings.Repeat("x", size), "Cache-Control: max-age=600"))
			store, err := ssd.Open(ssd.Config{Dir: b.TempDir(), Bytes: 64 << 20, Scrub: -1})
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { store.Close() })
			g.e.UseDisk(store)
			d := diskRig{rig: g, store: store}
			d.twice("GET /a")
			d.forget()
			r := ask(b.Context(), "GET /a")
			b.ReportAllocs()
			for b.Loop() {
				if _, err := g.e.Run(&g.plan, r); err != nil || r.Cache.Tier != request.TierSSD {
					b.Fatal(err, r.Cache)
				}
				if r.Out.Body != nil {
					if n, err := io.Copy(io.Discard, r.Out.Body); err != nil || int(n) != size {
						b.Fatal(n, err)
					}
				}
				r.Out.Close()
				r.Out.Reset()
				r.Reset()
				r.ZoneID, r.Host = testZone, []byte("www.example.com")
				for i := range g.e.shards {
					for s := &g.e.shards[i]; g.e.evictFrom(s) > 0; {
					}
				}
			}
		})
	}
}
