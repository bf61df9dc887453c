package cache

import (
	"testing"
	"time"

	"github.com/selvage-edge/selvage/edge/phase/cache/mark"
	"github.com/selvage-edge/selvage/edge/phase/cache/reserve"
	"github.com/selvage-edge/selvage/edge/request"
	"github.com/selvage-edge/selvage/zone"
)

// farRig is a rig with a reserve.
type farRig struct {
	*rig
	marks  *mark.Ledger
	dir    *reserve.Dir
	asked  int // of the origin
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
	f.rig = newRig(f.t, Config{Marks: f.marks}, func(r *request.Request) error {
		if f.e.Reserved(r) {
			return nil
		}
		f.asked++
		r.Tried.Status = 200
		return f.origin(r)
	})
	f.plan.base = &bases{plain: ruled{policy: policy{reserve: reserveRule{allowed: true, eligible: true}}}}
	store := reserve.New(reserve.Config{Store: f.dir, Ctx: f.t.Context()})
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
