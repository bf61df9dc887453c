package cache

import (
	"strings"
	"testing"

	"github.com/selvage-edge/selvage/edge/request"
	"github.com/selvage-edge/selvage/internal/arena"
	"github.com/selvage-edge/selvage/wire/msg"
	"github.com/selvage-edge/selvage/zone"
)

const (
	chrome  = "Accept: image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8"
	firefox = "Accept: image/avif,image/webp,image/png,image/svg+xml,image/*;q=0.8,*/*;q=0.5"
	webp    = "Accept: image/webp,*/*"
	old     = "Accept: image/png,image/*;q=0.8,*/*;q=0.5"
)

// pictures is an origin that sends the best type of those that it has.
func pictures(has ...string) func(*request.Request) error {
	return func(r *request.Request) error {
		accept := string(r.In.Fields.Get(msg.Accept))
		kind := "image/jpeg"
		for _, t := range has {
			if strings.Contains(accept, t) {
				kind = t
				break
			}
		}
		return reply(r, 200, kind+" for "+accept, "Cache-Control: max-age=60", "Vary: Accept", "Content-Type: "+kind)
	}
}

func TestVariantsAreSharedByWhatVisitorsAccept(t *testing.T) {
	g := newRig(t, Config{}, pictures("image/avif", "image/webp"))
	g.configure("", zone.Settings{settingVariants: []byte(`{"jpg":["image/webp","image/avif"],"png":[]}`)})
	both, one, none := "image/avif for image/webp,image/avif", "image/webp for image/webp", "image/jpeg for */*"
	g.want(g.run("GET /a.jpg", chrome), 200, "MISS", both)
	g.want(g.run("GET /a.jpg", firefox), 200, "HIT", both)
	g.want(g.run("GET /a.jpg", "Accept: IMAGE/AVIF ; q=0.1, x/y", "Accept: image/webp"), 200, "HIT", both)
	g.want(g.run("GET /a.jpg", webp), 200, "MISS", one)
	g.want(g.run("GET /a.jpg", "Accept: image/webp, image/avif;q=0.00"), 200, "HIT", one)
	g.want(g.run("GET /a.jpg", old), 200, "MISS", none)
	g.want(g.run("GET /a.jpg"), 200, "HIT", none)
	g.want(g.run("GET /a.jpg", "Accept: */*"), 200, "HIT", none)
	g.want(g.run("HEAD /a.jpg", webp), 200, "HIT", "")
	part := g.run("GET /a.jpg", webp, "Range: bytes=0-9")
	g.want(part, 206, "HIT", "image/webp")
	g.wantFetches(3)
	g.want(g.run("GET /A.JPG", chrome), 200, "MISS", both)
	// Other extensions, and those without types, are chosen by Accept as it is.
	g.want(g.run("GET /a.gif", webp), 200, "MISS", "image/webp for image/webp,*/*")
	g.want(g.run("GET /a.gif", "Accept: image/webp"), 200, "MISS", "image/webp for image/webp")
	g.want(g.run("GET /a.png", webp), 200, "MISS", "image/webp for image/webp,*/*")
	g.want(g.run("GET /jpg?a.jpg", webp), 200, "MISS", "image/webp for image/webp,*/*")

	// A purge by URL takes all variants along.
	if err := g.e.Purge(testZone, 5, zone.Purge{Files: []string{"https://www.example.com/a.jpg"}}); err != nil {
		t.Fatal(err)
	}
	g.e.Advance(5)
	g.want(g.run("GET /a.jpg", chrome), 200, "MISS", both)
	g.want(g.run("GET /a.jpg", webp), 200, "MISS", one)
	// Fewer types count at once.
	g.configure("", zone.Settings{settingVariants: []byte(`{"jpg":["image/webp"]}`)})
	g.want(g.run("GET /a.jpg", chrome), 200, "HIT", one)
}

// An origin that does not send what it was asked for, or another type to those
// who name none, is not stored; one that does not vary is one object.
func TestVariantsThatTheOriginDoesNotServe(t *testing.T) {
	g := newRig(t, Config{}, pictures())
	setting := zone.Settings{settingVariants: []byte(`{"jpg":["image/webp"],"png":["image/webp"]}`)}
	g.configure("", setting)
	for range 2 {
		g.want(g.run("GET /a.jpg", webp), 200, "BYPASS", "image/jpeg for image/webp")
	}
	g.want(g.run("GET /b.png"), 200, "BYPASS", "image/jpeg for */*")
	g.want(g.run("GET /c.jpg"), 200, "MISS", "image/jpeg for */*")
	g.serve = always(404, "gone", "Cache-Control: max-age=60", "Vary: Accept", "Content-Type: text/html")
	g.want(g.run("GET /d.jpg", webp), 404, "MISS", "gone")
	g.want(g.run("GET /d.jpg", webp), 404, "HIT", "gone")
	g.serve = always(200, "one", "Cache-Control: max-age=60", "Content-Type: image/jpeg")
	g.want(g.run("GET /e.jpg", webp), 200, "MISS", "one")
	g.want(g.run("GET /e.jpg", old), 200, "HIT", "one")
	// What is not cached is asked for as the visitor asks.
	g.serve = func(r *request.Request) error { return reply(r, 200, string(r.In.Fields.Get(msg.Accept))) }
	g.want(g.run("POST /f.jpg", webp), 200, "DYNAMIC", "image/webp,*/*")
	setting["development_mode"] = []byte(`"on"`)
	g.configure("", setting)
	g.want(g.run("GET /f.jpg", webp), 200, "BYPASS", "image/webp,*/*")
}

func TestVariantsInTheReserve(t *testing.T) {
	f := newFarRig(t, func(r *request.Request) error {
		kind := strings.Replace(string(r.In.Fields.Get(msg.Accept)), "*/*", "image/jpeg", 1)
		return reply(r, 200, kind, "Cache-Control: max-age=72000", "Vary: Accept", "Content-Type: "+kind)
	})
	f.plan.base.plain.policy.variants = variantsOf(zone.Settings{settingVariants: []byte(`{"jpg":["image/webp"]}`)})
	f.want(f.get("/a.jpg", request.TierOrigin, 1, webp), 200, "MISS", "image/webp")
	f.want(f.get("/a.jpg", request.TierOrigin, 2, old), 200, "MISS", "image/jpeg")
	f.forget()
	f.want(f.get("/a.jpg", request.TierReserve, 2, chrome), 200, "MISS", "image/webp")
	f.want(f.get("/a.jpg", request.TierReserve, 2), 200, "MISS", "image/jpeg")
}

// Narrowing twice is narrowing once, leaves nothing but what was named, and does
// not allocate.
func FuzzNarrow(f *testing.F) {
	for _, seed := range []string{chrome, firefox, webp, old, "Accept: ,;q=0,image/webp;;Q=0.", "Accept:"} {
		f.Add(strings.TrimPrefix(seed, "Accept:"))
	}
	v := variantsOf(zone.Settings{settingVariants: []byte(`{"jpg":["image/webp","image/avif","image/jpeg"]}`)})
	f.Fuzz(func(t *testing.T, accept string) {
		r := &request.Request{In: &msg.Request{Method: msg.GET, Path: []byte("/a.jpg")}, Arena: new(arena.Arena)}
		r.In.Fields.Add([]byte("Accept"), []byte(accept))
		v.narrow(r)
		once := string(r.In.Fields.Get(msg.Accept))
		v.narrow(r)
		if again := string(r.In.Fields.Get(msg.Accept)); again != once || r.In.Fields.Count(msg.Accept) != 1 {
			t.Errorf("%q becomes %q, then %q", accept, once, again)
		}
		for kind := range strings.SplitSeq(once, ",") {
			if kind != "*/*" && !strings.Contains(strings.ToLower(accept), kind) {
				t.Errorf("%q becomes %q", accept, once)
			}
		}
	})
}

func BenchmarkNarrow(b *testing.B) {
	v := variantsOf(zone.Settings{settingVariants: []byte(`{"jpg":["image/webp","image/avif"]}`)})
	r := &request.Request{In: &msg.Request{Method: msg.GET, Path: []byte("/a.jpg")}, Arena: new(arena.Arena)}
	line := []byte(strings.TrimPrefix(chrome, "Accept: "))
	b.ReportAllocs()
	for b.Loop() {
		r.Arena.Reset()
		r.In.Fields.Reset()
		r.In.Fields.AddID(msg.Accept, line)
		v.narrow(r)
	}
}
