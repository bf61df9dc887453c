package cache

import (
	"strings"
	"testing"
	"time"

	"github.com/selvage-edge/selvage/edge/phase/cache/mark"
	"github.com/selvage-edge/selvage/edge/phase/cache/reserve"
	"github.com/selvage-edge/selvage/edge/request"
	"github.com/selvage-edge/selvage/wire/msg"
	"github.com/selvage-edge/selvage/zone"
)

// farRig is a rig with a reserve.
type farRig struct {
	*rig
	marks  *mark.Ledger
	dir    *reserve.Dir
	bytes  int64 // of memory; 0 = the default
	asked  int   // of the origin
	origin func(*request.Request) error
}

func newFarRig(t *testing.T, origin func(*request.Request) error) *farRig {
	f := &farRig{rig: &rig{t: t}, marks: mark.NewLasting(), origin: origin}
	var err error
	if f.dir, err = reserve.OpenDir(t.TempDir(), 1<<30); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.dir.Close() })
	f.start()
	return f
}

func (f *farRig) start() {
	f.rig = newRig(f.t, Config{Marks: f.marks, Bytes: f.bytes}, func(r *request.Request) error {
		if f.e.Reserved(r) {
			return nil
		}
		f.asked++
		r.Tried.Status = 200
		return f.origin(r)
	})
	f.plan.base = &bases{plain: ruled{policy: policy{reserve: reserveRule{allowed: true, eligible: true}}}}
	spool, err := f.dir.Spool()
	if err != nil {
		f.t.Fatal(err)
	}
	store := reserve.New(reserve.Config{Store: f.dir, Spool: spool, Ctx: f.t.Context()})
	f.e.UseReserve(store, 0)
	f.t.Cleanup(store.Close)
}

// forget drops what memory holds.
func (f *farRig) forget() {
	for i := range f.e.shards {
		for s := &f.e.shards[i]; f.e.evictFrom(s) > 0; {
		}
	}
}

func (f *farRig) settle() {
	f.t.Helper()
	waitFor(f.t, func() bool { return f.e.far.store.Stats().QueuedBytes == 0 })
}

func (f *farRig) get(path string, tier request.Tier, asked int, lines ...string) *answer {
	f.t.Helper()
	a := f.run("GET "+path, lines...)
	f.settle()
	if a.note.Tier != tier || f.asked != asked {
		f.t.Errorf("answered by %s with %d requests to the origin, want %s and %d", a.note.Tier, f.asked, tier, asked)
	}
	return a
}

func TestReserveAnswersForTheOrigin(t *testing.T) {
	f := newFarRig(t, always(200, "hello", "Cache-Control: max-age=72000", "X-A: b", "ETag: \"v\""))
	f.get("/a", request.TierOrigin, 1)
	f.forget()
	f.sleep(time.Hour)
	a := f.get("/a", request.TierReserve, 1)
	f.want(a, 200, "MISS", "hello")
	if a.get("X-A") != "b" || a.get("Age") != "3600" {
		t.Errorf("fields %v", a.fields.All())
	}
	f.get("/a", request.TierRAM, 1)
	f.sleep(20 * time.Hour)
	f.forget()
	f.get("/a", request.TierOrigin, 2) // stale by now
	f.forget()
	f.get("/a", request.TierReserve, 2)
}

func TestReserveKeepsWhatIsWorthIt(t *testing.T) {
	f := newFarRig(t, always(200, "hello", "Cache-Control: max-age=35999"))
	f.get("/short", request.TierOrigin, 1)
	f.origin = always(404, "hello", "Cache-Control: max-age=360000")
	f.get("/missing", request.TierOrigin, 2)
	f.origin = always(200, "hello", "Cache-Control: max-age=360000")
	f.plan.base.plain.policy.reserve.least = 6
	f.get("/small", request.TierOrigin, 3)
	f.plan.base.plain.policy.reserve = reserveRule{}
	f.get("/off", request.TierOrigin, 4)
	if n := f.e.far.store.Stats().Written; n != 0 {
		t.Errorf("%d objects were written", n)
	}
}

func TestReserveLeavesToOthersWhatTheyFetched(t *testing.T) {
	f := newFarRig(t, nil)
	f.origin = func(r *request.Request) error {
		r.Tried = request.OriginNote{} // another edge asked
		return reply(r, 200, "hello", "Cache-Control: max-age=72000")
	}
	f.get("/a", request.TierOrigin, 1)
	f.origin = always(200, "hello", "Cache-Control: max-age=72000")
	f.get("/b", request.TierOrigin, 2)
	if n := f.e.far.store.Stats().Written; n != 1 {
		t.Errorf("%d objects were written, want that which was fetched here", n)
	}
}

func TestReserveMindsVary(t *testing.T) {
	f := newFarRig(t, func(r *request.Request) error {
		return reply(r, 200, "for "+string(r.In.Fields.Lookup("X-Kind")), "Cache-Control: max-age=72000", "Vary: X-Kind")
	})
	f.get("/v", request.TierOrigin, 1, "X-Kind: a")
	f.forget()
	f.want(f.get("/v", request.TierOrigin, 2, "X-Kind: b"), 200, "MISS", "for b")
	f.forget()
	f.want(f.get("/v", request.TierReserve, 2, "X-Kind: b"), 200, "MISS", "for b")
	f.forget()
	f.want(f.get("/v", request.TierReserve, 2, "X-Kind: a"), 200, "MISS", "for a")
	f.want(f.get("/v", request.TierOrigin, 3), 200, "MISS", "for ") // without the field
	f.forget()
	f.get("/v", request.TierReserve, 3)
	// All variants go with the URL, also where only the reserve had them.
	f.e.Advance(5)
	f.forget()
	if err := f.e.Purge(testZone, 6, zone.Purge{Files: []string{"https://www.example.com/v"}}); err != nil {
		t.Fatal(err)
	}
	f.settle()
	f.get("/v", request.TierOrigin, 4, "X-Kind: a")
	f.forget()
	f.get("/v", request.TierOrigin, 5, "X-Kind: b")
	f.forget()
	f.get("/v", request.TierReserve, 5, "X-Kind: a")
	f.forget()
	f.run("POST /v")
	f.settle()
	f.asked = 0
	f.get("/v", request.TierOrigin, 1, "X-Kind: a")
}

// What an origin's answers are chosen by may change.
func TestReserveFollowsAChangedVary(t *testing.T) {
	by := "X-Kind"
	f := newFarRig(t, func(r *request.Request) error {
		lines := []string{"Cache-Control: max-age=72000", "Vary: " + by}
		if by == "" {
			lines = lines[:1]
		}
		return reply(r, 200, "by "+by, lines...)
	})
	for i, names := range []string{"X-Kind", "X-Other", "", "X-Kind"} {
		by = names
		f.forget()
		f.e.Advance(uint64(10 * i))
		if err := f.e.Purge(testZone, uint64(10*i+1), zone.Purge{Everything: true}); err != nil {
			t.Fatal(err)
		}
		for _, kind := range []string{"a", "b"} {
			f.asked = 0
			f.want(f.get("/v", request.TierOrigin, 1, "X-Kind: "+kind, "X-Other: "+kind), 200, "MISS", "by "+by)
			f.forget()
			f.want(f.get("/v", request.TierReserve, 1, "X-Kind: "+kind, "X-Other: "+kind), 200, "MISS", "by "+by)
			f.forget()
			if by == "" {
				break
			}
		}
	}
}

func TestReserveAnswersRanges(t *testing.T) {
	body := strings.Repeat("0123456789", 30000)
	f := newFarRig(t, always(200, body, "Cache-Control: max-age=72000", `ETag: "v"`))
	f.get("/a", request.TierOrigin, 1)
	for _, c := range []struct{ span, has, want string }{
		{"bytes=10-19", "bytes 10-19/300000", body[10:20]},
		{"bytes=65530-131080", "bytes 65530-131080/300000", body[65530:131081]},
		{"bytes=-7", "bytes 299993-299999/300000", body[299993:]},
	} {
		f.forget()
		a := f.get("/a", request.TierReserve, 1, "Range: "+c.span)
		f.want(a, 206, "MISS", c.want)
		if a.get("Content-Range") != c.has || a.get("ETag") != `"v"` {
			t.Errorf("%s: %v", c.span, a.fields.All())
		}
		f.want(f.get("/a", request.TierRAM, 1, "Range: "+c.span), 206, "HIT", c.want)
	}
	// What memory lacks of it comes from there too.
	f.want(f.get("/a", request.TierReserve, 1), 200, "MISS", body)
	f.want(f.get("/a", request.TierRAM, 1), 200, "HIT", body)
	f.forget()
	f.get("/a", request.TierOrigin, 2, "Range: bytes=300000-") // beyond its end: the origin says so
	f.forget()
	f.get("/a", request.TierOrigin, 3, "Range: bytes=1-2,4-5")
	f.forget()
	f.get("/a", request.TierOrigin, 4, "Range: bytes=1-2", `If-Range: "other"`)
	f.forget()
	f.e.Advance(5)
	if err := f.e.Purge(testZone, 6, zone.Purge{Everything: true}); err != nil {
		t.Fatal(err)
	}
	f.get("/a", request.TierOrigin, 5, "Range: bytes=1-2")
}

// A clearing of the reserve takes what is there and leaves what memory has.
func TestReserveIsCleared(t *testing.T) {
	f := newFarRig(t, always(200, "hello", "Cache-Control: max-age=72000"))
	f.e.Advance(5)
	f.get("/a", request.TierOrigin, 1)
	if err := f.e.Purge(testZone, 6, zone.Purge{Reserve: true}); err != nil {
		t.Fatal(err)
	}
	f.get("/a", request.TierRAM, 1)
	f.forget()
	f.get("/a", request.TierOrigin, 2)
	f.forget()
	f.get("/a", request.TierReserve, 2)
	if st := f.e.far.store.Stats(); st.Deleted != 1 {
		t.Errorf("%d objects were deleted", st.Deleted)
	}
}

func TestPurgesReachTheReserve(t *testing.T) {
	for name, p := range map[string]zone.Purge{
		"everything": {Everything: true},
		"url":        {Files: []string{"https://www.example.com/a"}},
		"tag":        {Tags: []string{"T1"}},
		"host":       {Hosts: []string{"www.example.com"}},
		"prefix":     {Prefixes: []string{"www.example.com/a"}},
		"soft":       {Tags: []string{"t2"}, Soft: true},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFarRig(t, always(200, "hello", "Cache-Control: max-age=72000", "Cache-Tag: t1,t2"))
			f.e.Advance(5)
			f.get("/a", request.TierOrigin, 1)
			if err := f.e.Purge(testZone, 6, p); err != nil {
				t.Fatal(err)
			}
			f.forget()
			f.get("/a", request.TierOrigin, 2)
			f.forget()
			f.get("/a", request.TierReserve, 2)
		})
	}
	f := newFarRig(t, always(200, "hello", "Cache-Control: max-age=72000"))
	f.get("/a", request.TierOrigin, 1)
	f.run("POST /a")
	f.get("/a", request.TierOrigin, 3)
}

// What is too large for memory goes to the reserve as it comes, whether its length
// is known or not, and comes from there, whole and in parts, through a window.
func TestReserveKeepsWhatIsTooLargeForMemory(t *testing.T) {
	body := strings.Repeat("0123456789abcdef", 3<<20/16)
	f := newFarRig(t, nil)
	f.bytes = 4 << 20
	f.start()
	known := true
	f.origin = func(r *request.Request) error {
		err := reply(r, 200, body, "Cache-Control: max-age=72000", `ETag: "v"`)
		if !known {
			r.Out.Length = msg.LengthUnknown
		}
		return err
	}
	for i, path := range []string{"/known", "/unknown"} {
		known = i == 0
		f.want(f.get(path, request.TierOrigin, i+1), 200, "MISS", body)
		waitFor(t, func() bool { return f.e.far.store.Stats().Written == uint64(i+1) })
		for range 2 {
			a := f.get(path, request.TierReserve, i+1)
			if a.status != 200 || a.body != body {
				t.Errorf("%s: %d, %d bytes", path, a.status, len(a.body))
			}
			a = f.get(path, request.TierReserve, i+1, "Range: bytes=1000000-2999999")
			if a.status != 206 || a.body != body[1000000:3000000] {
				t.Errorf("%s: part: %d, %d bytes", path, a.status, len(a.body))
			}
		}
		if err := f.e.Purge(testZone, uint64(10+i), zone.Purge{Files: []string{"https://www.example.com" + path}}); err != nil {
			t.Fatal(err)
		}
		f.settle()
		f.e.Advance(uint64(10 + i))
		if got := f.e.far.store.Look(t.Context(), f.e.farName(testZone, recordKey([]byte(testZone+" https://www.example.com"+path)))); got != nil {
			t.Errorf("%s: it is there after its purge", path)
		}
	}
	if st := f.e.far.store.Stats(); st.Spooled != 0 || st.Failed != 0 || f.e.filling.Load() != 0 {
		t.Errorf("stats %+v, %d bytes on their way", st, f.e.filling.Load())
	}
}

// What another edge fetched and is too large for memory goes past this one, and the
// next who asks goes to that edge again: it may have kept it.
func TestLargeAnswersOfAnotherEdgeAreAskedForThere(t *testing.T) {
	body := strings.Repeat("0123456789abcdef", 3<<20/16)
	f := newFarRig(t, nil)
	f.bytes = 4 << 20
	f.start()
	known, elsewhere := true, true
	f.origin = func(r *request.Request) error {
		if elsewhere {
			r.Tried = request.OriginNote{}
		}
		err := reply(r, 200, body, "Cache-Control: max-age=72000")
		if !known {
			r.Out.Length = msg.LengthUnknown
		}
		return err
	}
	for i, path := range []string{"/known", "/unknown"} {
		known, elsewhere = i == 0, true
		for j := range 2 {
			f.want(f.get(path, request.TierOrigin, 3*i+j+1), 200, "MISS", body)
		}
		// It can be kept here as soon as this edge asks itself.
		elsewhere = false
		f.want(f.get(path, request.TierOrigin, 3*i+3), 200, "MISS", body)
		waitFor(t, func() bool { return f.e.far.store.Stats().Written == uint64(i+1) })
		f.get(path, request.TierReserve, 3*i+3)
	}
}
