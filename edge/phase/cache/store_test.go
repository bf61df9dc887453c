package cache

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/selvage-edge/selvage/edge/request"
	"github.com/selvage-edge/selvage/wire/msg"
	"github.com/selvage-edge/selvage/zone"
)

func TestPurge(t *testing.T) {
	const yes, no = "HIT", "MISS"
	for _, test := range []struct {
		name  string
		purge zone.Purge
		zone  string
		seq   uint64
		want  [3]string // /a?x=1&y=2, /b on https, /b on http
	}{
		{"url", zone.Purge{Files: []string{"https://www.example.com/b"}}, testZone, 6, [3]string{yes, no, no}},
		{"url of the other scheme", zone.Purge{Files: []string{"http://WWW.example.com./b#frag"}}, testZone, 6, [3]string{yes, no, no}},
		{"url with port", zone.Purge{Files: []string{"https://www.example.com:8443/b"}}, testZone, 6, [3]string{yes, no, no}},
		{"query in another order", zone.Purge{Files: []string{"https://www.example.com/%61?y=2&x=%31"}}, testZone, 6, [3]string{no, yes, yes}},
		{"two urls", zone.Purge{Files: []string{"https://www.example.com/b", "https://www.example.com/a?x=1&y=2"}}, testZone, 6, [3]string{no, no, no}},
		{"other host", zone.Purge{Files: []string{"https://example.com/b"}}, testZone, 6, [3]string{yes, yes, yes}},
		{"other zone", zone.Purge{Everything: true}, "other", 6, [3]string{yes, yes, yes}},
		{"everything", zone.Purge{Everything: true}, testZone, 6, [3]string{no, no, no}},
		{"older than the objects", zone.Purge{Everything: true, Files: []string{"https://www.example.com/b"}}, testZone, 5, [3]string{yes, yes, yes}},
	} {
		t.Run(test.name, func(t *testing.T) {
			g := newRig(t, Config{}, always(200, "x", "Cache-Control: max-age=60"))
			g.e.Advance(5)
			requests := func() (list [3]*request.Request) {
				list = [3]*request.Request{ask(t.Context(), "GET /a?x=1&y=2"), ask(t.Context(), "GET /b"), ask(t.Context(), "GET /b")}
				list[2].In.Scheme = msg.HTTP
				return list
			}
			for _, r := range requests() {
				g.do(r)
			}
			if err := g.e.Purge(test.zone, test.seq, test.purge); err != nil {
				t.Fatal(err)
			}
			for i, r := range requests() {
				if a := g.do(r); a.cache != test.want[i] {
					t.Errorf("object %d: %s, want %s", i, a.cache, test.want[i])
				}
			}
		})
	}
}

func TestPurgeCoversAllVariants(t *testing.T) {
	g := newRig(t, Config{}, always(200, "x", "Cache-Control: max-age=60", "Vary: Accept"))
	g.run("GET /a", "Accept: a")
	g.run("GET /a", "Accept: b")
	g.e.work.Wait()
	if err := g.e.Purge(testZone, 1, zone.Purge{Files: []string{"https://www.example.com/a"}}); err != nil {
		t.Fatal(err)
	}
	if st := g.e.Stats(); st.Objects != 0 || st.Bytes != 0 || st.Pinned != 0 {
		t.Errorf("left: %+v", st)
	}
}

func TestPurgeRefusesWhatIsNoURL(t *testing.T) {
	g := newRig(t, Config{}, always(200, "x", "Cache-Control: max-age=60"))
	g.run("GET /a")
	for _, bad := range []string{"/a", "www.example.com/a", "ftp://www.example.com/a", "https:///a", "https://u:p@www.example.com/a", "https://www.example.com/%zz", ""} {
		err := g.e.Purge(testZone, 9, zone.Purge{Files: []string{"https://www.example.com/a", bad}})
		if err == nil || !strings.Contains(err.Error(), "files[1]") {
			t.Errorf("%q: error %v", bad, err)
		}
	}
	g.want(g.run("GET /a"), 200, "HIT", "x")
}

func TestSweeperFreesWhatWasPurged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, Config{Shards: 4}, always(200, "x", "Cache-Control: max-age=60"))
		for i := range 1000 {
			g.run(fmt.Sprintf("GET /%d", i))
		}
		reading := ask(t.Context(), "GET /7")
		_, _ = g.e.Run(&g.plan, reading)
		g.e.PurgeAll(1, 0)
		synctest.Wait()
		st := g.e.Stats()
		if st.Objects != 0 || st.Bytes != 0 || st.Pinned == 0 {
			t.Errorf("after the sweep: %+v", st)
		}
		if string(reading.Out.Bytes) != "x" {
			t.Errorf("the reader lost its bytes")
		}
		reading.Out.Close()
		if st := g.e.Stats(); st.Pinned != 0 {
			t.Errorf("pinned after the last reader: %+v", st)
		}
		if n := g.e.marks.Zones(); n != 0 {
			t.Errorf("%d zone states without an object", n)
		}
	})
}

// After a restore of the control plane the feed's numbers begin anew, lower.
func TestPurgesHoldWhereTheFeedGoesBack(t *testing.T) {
	g := newRig(t, Config{}, always(200, "x", "Cache-Control: max-age=60"))
	purge := func(seq uint64, p zone.Purge) {
		if err := g.e.Purge(testZone, seq, p); err != nil {
			t.Error(err)
		}
	}
	for _, step := range []struct {
		name string
		do   func()
		want string
	}{
		{"at 100", func() { g.e.Advance(100) }, "MISS"},
		{"nothing", func() {}, "HIT"},
		{"another history, at 100 too", func() { g.e.PurgeAll(100, 0) }, "MISS"},
		{"back to 5", func() { g.e.PurgeAll(5, 0) }, "MISS"},
		{"a change", func() { g.e.Advance(6) }, "HIT"},
		{"purge by URL at 7", func() { purge(7, zone.Purge{Files: []string{"https://www.example.com/a"}}) }, "MISS"},
		{"the same again", func() { purge(7, zone.Purge{Everything: true}) }, "HIT"},
		{"purge of everything at 8", func() { purge(8, zone.Purge{Everything: true}) }, "MISS"},
		{"forward, to 500", func() { g.e.PurgeAll(500, 0) }, "MISS"},
		{"purge of everything at 501", func() { purge(501, zone.Purge{Everything: true}) }, "MISS"},
		{"nothing more", func() { g.e.Advance(502) }, "HIT"},
	} {
		step.do()
		if got := g.run("GET /a").cache; got != step.want {
			t.Errorf("%s: %s, want %s", step.name, got, step.want)
		}
	}
}

func TestBudgetHoldsUnderChurn(t *testing.T) {
	const budget = 1 << 20
	g := newRig(t, Config{Bytes: budget, MaxObject: 100 << 10, Shards: 8}, nil)
	g.serve = func(r *request.Request) error {
		n := 100 + int(r.In.Path[len(r.In.Path)-1]-'0')*5000
		return reply(r, 200, strings.Repeat("x", n), "Cache-Control: max-age=600")
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(1, uint64(g.fetches.Load())))
			for range 1500 {
				g.run(fmt.Sprintf("GET /%d", rng.IntN(2000)))
				if used := g.e.used.Load(); used > budget+4*(50<<10) { // four may be about to store
					t.Errorf("%d bytes used of %d", used, budget)
				}
			}
		})
	}
	wg.Wait()
	g.e.Close()
	st := g.e.Stats()
	if st.Bytes > budget || st.Bytes < budget/2 || st.Evictions == 0 || st.Pinned != 0 {
		t.Errorf("stats %+v", st)
	}
	checkStore(t, g.e)
}

// checkStore recounts what the engine says it holds.
func checkStore(t *testing.T, e *Engine) {
	t.Helper()
	var used int64
	for i := range e.shards {
		s := &e.shards[i]
		held, bytes := 0, int64(0)
		for o := range s.all() {
			held++
			used += o.size()
			bytes += o.size()
			if !o.Held() || o.refs.Load() != 1 {
				t.Errorf("stored object in queue %v with %d references", o.Held(), o.refs.Load())
			}
		}
		if held != s.queues.Len() || bytes != s.queues.Bytes() || len(s.fills) != 0 {
			t.Errorf("shard %d: %d held, %d queued, %d fills", i, held, s.queues.Len(), len(s.fills))
		}
	}
	if used != e.used.Load() {
		t.Errorf("used says %d, is %d", e.used.Load(), used)
	}
}

func TestObjectLargerThanAShardsShareIsHeld(t *testing.T) {
	g := newRig(t, Config{Bytes: 1 << 20, Shards: 64, MaxObject: 200 << 10}, nil)
	g.serve = always(200, strings.Repeat("x", 150<<10), "Cache-Control: max-age=60")
	for i := range 20 {
		g.run(fmt.Sprintf("GET /%d", i))
		if a := g.run(fmt.Sprintf("GET /%d", i)); a.cache != "HIT" {
			t.Errorf("object %d: %s", i, a.cache)
		}
	}
	checkStore(t, g.e)
}

// A scan of objects that are asked for once must not drive out what is asked
// for again and again. LRU of the same size loses all of it.
func TestEvictionKeepsTheHotSet(t *testing.T) {
	g := newRig(t, Config{Bytes: 200 * 2048, Shards: 1}, always(200, strings.Repeat("x", 1024), "Cache-Control: max-age=600"))
	hot := func() (hits int) {
		for i := range 50 {
			if g.run(fmt.Sprintf("GET /hot%d", i)).cache == "HIT" {
				hits++
			}
		}
		return hits
	}
	for range 4 {
		hot()
	}
	for i := range 5000 {
		g.run(fmt.Sprintf("GET /scan%d", i))
		if i%500 == 0 {
			hot()
		}
	}
	if n := hot(); n < 45 {
		t.Errorf("%d of 50 hot objects left after the scan", n)
	}
}

func TestMarkersAreBounded(t *testing.T) {
	var s shard
	s.open(nil, 1)
	for h := range uint64(3 * maxPasses) {
		s.mark(h, 10)
	}
	if len(s.passes) != maxPasses || !s.marked(3*maxPasses-1, 9) || s.marked(3*maxPasses-1, 10) {
		t.Errorf("%d markers", len(s.passes))
	}
}

// Requests, purges, failures and evictions at once; the store must add up.
func TestEverythingAtOnce(t *testing.T) {
	g := newRig(t, Config{Bytes: 256 << 10, MaxObject: 20 << 10, Shards: 4}, nil)
	g.serve = func(r *request.Request) error {
		switch rand.IntN(8) {
		case 0:
			return originFault(1)
		case 1:
			return reply(r, 200, "private", "Cache-Control: private")
		case 2:
			return reply(r, 200, strings.Repeat("y", 40<<10), "Cache-Control: max-age=60")
		case 3:
			r.Out.Length = msg.LengthUnknown
			err := reply(r, 200, strings.Repeat("y", 30<<10), "Cache-Control: max-age=60")
			r.Out.Length = msg.LengthUnknown
			return err
		case 4:
			if r.In.Fields.Has(msg.IfNoneMatch) {
				return reply(r, 304, "", `ETag: "1"`)
			}
		}
		return reply(r, 200, strings.Repeat("x", rand.IntN(10<<10)), "Cache-Control: max-age=0, stale-while-revalidate=1", `ETag: "1"`, "Vary: X-V")
	}
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 400 {
				g.run(fmt.Sprintf("GET /%d", rand.IntN(40)), fmt.Sprintf("X-V: %d", rand.IntN(3)))
				if w == 0 && i%20 == 0 {
					_ = g.e.Purge(testZone, uint64(i), zone.Purge{Everything: i%40 == 0, Files: []string{fmt.Sprintf("https://www.example.com/%d", rand.IntN(40))}})
				}
			}
		})
	}
	wg.Wait()
	g.e.Close()
	checkStore(t, g.e)
	if st := g.e.Stats(); st.Fills != 0 || st.Filling != 0 || st.Pinned != 0 {
		t.Errorf("stats %+v", st)
	}
}

func TestCollector(t *testing.T) {
	g := newRig(t, Config{}, always(200, "x", "Cache-Control: max-age=60"))
	g.run("GET /a")
	g.run("GET /a")
	registry := prometheus.NewPedanticRegistry()
	if err := registry.Register(g.e); err != nil {
		t.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += " " + l.GetValue()
			}
			got[name] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	for name, want := range map[string]float64{
		"selvage_cache_objects": 1, "selvage_cache_requests_total HIT": 1, "selvage_cache_requests_total MISS": 1,
		"selvage_cache_requests_total STALE": 0, "selvage_cache_fills": 0, "selvage_cache_budget_bytes": DefaultBytes,
		"selvage_cache_coalesced_total": 0, "selvage_cache_evictions_total": 0,
	} {
		if v, ok := got[name]; !ok || v != want {
			t.Errorf("%s = %v (%v), want %v", name, v, ok, want)
		}
	}
	if got["selvage_cache_bytes"] < float64(objectSize) {
		t.Errorf("bytes %v", got["selvage_cache_bytes"])
	}
}
