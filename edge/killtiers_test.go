package edge

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/selvage-edge/selvage/edge/tier"
	"github.com/selvage-edge/selvage/wire/msg"
)

// alone is one edge before an origin of answers that are fresh for a day.
func alone(t *testing.T, settings ...string) (*clusterEdge, *fakeOrigin) {
	t.Helper()
	spec := site()
	for _, name := range settings {
		spec.Settings[name] = json.RawMessage(`"on"`)
	}
	o := newOrigin(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/page" || r.URL.Path == "/other" {
			w.Header().Set("Content-Type", "text/html")
			w.Header().Set("Cache-Control", "no-cache")
			w.Header().Set("Link", "</style.css>; rel=preload; as=style")
		} else {
			w.Header().Set("Cache-Control", "max-age=86400")
		}
		_, _ = io.WriteString(w, strings.Repeat("x", 100))
	})
	return newCluster(t, spec, []tier.Node{{Colo: "FRA"}}, o).edges[0], o
}

// answered fails unless one more visit is answered by a tier.
func (e *clusterEdge) answered(t *testing.T, o *fakeOrigin, path, by string) {
	t.Helper()
	before := o.count(path)
	v := e.visit(path)
	asked, want := o.count(path)-before, 0
	if by == "origin" {
		want = 1
	}
	if v.status != 200 || v.tier != by || asked != want {
		t.Errorf("%s: %d by %q, origin asked %d times; want 200 by %q and %d", path, v.status, v.tier, asked, by, want)
	}
}

func TestWithoutDiskNothingIsReadAndNothingWritten(t *testing.T) {
	e, o := alone(t)
	e.cfg.State, e.cfg.CacheDiskBytes = t.TempDir(), 64<<20
	e.openDisk()
	t.Cleanup(func() {
		e.off(t, "disk") // or what is hot is written at the engine's end, after this
		if err := e.closeDisk(); err != nil {
			t.Errorf("close the disk: %v", err)
		}
	})
	for range 3 {
		e.visit("/kept.css")
	}
	e.cache.Close() // writes what is hot
	e.disk.Flush()
	if e.disk.Stats().Records == 0 {
		t.Fatal("nothing is on the disk")
	}
	e.newCache()
	e.cache.UseDisk(e.disk)
	e.off(t, "disk")
	e.answered(t, o, "/kept.css", "origin")
	e.newCache()
	e.cache.UseDisk(e.disk)
	e.off(t)
	e.answered(t, o, "/kept.css", "ssd")

	e, o = alone(t)
	e.cfg.State, e.cfg.CacheDiskBytes = t.TempDir(), 64<<20
	e.openDisk()
	e.off(t, "disk")
	for range 3 {
		e.visit("/kept.css")
	}
	e.answered(t, o, "/kept.css", "ram")
	e.cache.Close()
	e.disk.Flush()
	if n := e.disk.Stats().Records; n != 0 {
		t.Errorf("disk off: %d objects are on it", n)
	}
	if err := e.closeDisk(); err != nil {
		t.Errorf("close the disk: %v", err)
	}
}

func TestWithoutReserveNothingIsReadAndNothingWritten(t *testing.T) {
	e, o := alone(t, "cache_reserve")
	e.cfg.State, e.cfg.CacheBytes, e.cfg.CacheReserveBytes = t.TempDir(), 16<<20, 64<<20
	e.openReserve()
	t.Cleanup(func() {
		if err := e.closeReserve(); err != nil {
			t.Errorf("close the reserve: %v", err)
		}
	})
	e.visit("/kept.css")
	settled(t, "the reserve to have it", func() bool { return e.reserve.Stats().Written == 1 })
	e.off(t, "reserve")
	e.visit("/not.css")
	e.cache.Close() // after all that fills have put
	settled(t, "what waits to be written", func() bool { return e.reserve.Stats().QueuedBytes == 0 })
	if n := e.reserve.Stats().Written; n != 1 {
		t.Errorf("reserve off: %d objects were written, want that of before", n)
	}
	e.newCache()
	e.cache.UseReserve(e.reserve, 0)
	e.answered(t, o, "/kept.css", "origin")
	e.newCache()
	e.cache.UseReserve(e.reserve, 0)
	e.off(t)
	e.answered(t, o, "/kept.css", "reserve")
	e.answered(t, o, "/not.css", "origin")
}

func TestWithoutEarlyHintsNoneAreSentAndNoneLearned(t *testing.T) {
	e, _ := alone(t, "early_hints")
	hinted := func(path string) (n int) {
		s := e.Open(conn())
		defer s.Close()
		in, out := ask(path), new(msg.Response)
		in.Proto = msg.HTTP2
		in.Interim = func(status int, f *msg.Fields) error {
			if status == 103 && strings.Contains(string(f.Get(msg.Link)), "/style.css") {
				n++
			}
			return nil
		}
		s.Serve(in, out)
		var size int64
		if out.Body != nil {
			size, _ = io.Copy(io.Discard, out.Body)
		}
		out.Close()
		s.Done(in, out, size, nil)
		if out.Status != 200 {
			t.Fatalf("%s: %d", path, out.Status)
		}
		return n
	}
	hinted("/page")
	if n := hinted("/page"); n != 1 {
		t.Fatalf("before: %d early hints with the page's link, want 1", n)
	}
	e.off(t, "early_hints")
	if n := hinted("/page") + hinted("/other"); n != 0 {
		t.Errorf("early_hints off: %d were sent", n)
	}
	e.off(t)
	if n := hinted("/other"); n != 0 {
		t.Errorf("%d early hints of a page that was seen while they were off", n)
	}
	if n := hinted("/page"); n != 1 {
		t.Errorf("early_hints on again: %d were sent, want 1", n)
	}
}
