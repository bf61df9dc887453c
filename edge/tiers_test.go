package edge

import (
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/selvage-edge/selvage/edge/request"
	"github.com/selvage-edge/selvage/edge/tier"
	"github.com/selvage-edge/selvage/internal/figure"
	"github.com/selvage-edge/selvage/wire/msg"
	"github.com/selvage-edge/selvage/zone"
)

// fakeOrigin counts requests by path.
type fakeOrigin struct {
	mu     sync.Mutex
	counts map[string]int // guarded by mu
	answer func(w http.ResponseWriter, r *http.Request)
}

func newOrigin(answer func(http.ResponseWriter, *http.Request)) *fakeOrigin {
	return &fakeOrigin{counts: map[string]int{}, answer: answer}
}

func (o *fakeOrigin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	o.counts[r.URL.Path]++
	o.mu.Unlock()
	o.answer(w, r)
}

func (o *fakeOrigin) count(path string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.counts[path]
}

// page answers with a body that tells its path.
func page(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "max-age=600")
	w.Header().Set("Cache-Tag", "a,b")
	w.Header().Set("ETag", `"1"`)
	_, _ = io.WriteString(w, strings.Repeat(r.URL.Path+"\n", 100))
}

// topology is the site with a topology.
func topology(t zone.Topology) *zone.Spec {
	spec := site()
	for name, value := range t.Settings() {
		spec.Settings[name] = value
	}
	return spec
}

var smart = zone.Topology{Mode: zone.TopologySmart}

// nodes are n servers in each colo.
func nodes(n int, colos ...string) (all []tier.Node) {
	for _, colo := range colos {
		for range n {
			all = append(all, tier.Node{Colo: colo})
		}
	}
	return all
}

var dozen = []string{"FRA", "NRT", "SIN", "LHR", "IAD", "SYD", "GRU", "JNB", "AMS", "LAX", "CDG", "BOM"}

// together visits all edges at the same time.
func (c *cluster) together(path string) []visited {
	all := make([]visited, len(c.edges))
	var work sync.WaitGroup
	begin := make(chan struct{})
	for i, e := range c.edges {
		work.Go(func() {
			<-begin
			all[i] = e.visit(path)
		})
	}
	close(begin)
	work.Wait()
	return all
}

func TestColdEdgesFetchOnce(t *testing.T) {
	for name, all := range map[string][]tier.Node{
		"twelve data centers": nodes(1, dozen...), "one data center": nodes(12, "FRA"), "three data centers of four": nodes(4, dozen[:3]...),
	} {
		t.Run(name, func(t *testing.T) {
			release := make(chan struct{})
			o := newOrigin(func(w http.ResponseWriter, r *http.Request) {
				<-release
				page(w, r)
			})
			c := newCluster(t, topology(smart), all, o)
			for round := range 5 {
				path := fmt.Sprintf("/%d", round)
				if round == 1 {
					close(release)
				}
				if round == 0 {
					time.AfterFunc(300*time.Millisecond, func() { release <- struct{}{} })
				}
				for i, v := range c.together(path) {
					if v.status != 200 || v.err != nil || v.body != strings.Repeat(path+"\n", 100) {
						t.Errorf("edge %d: %d %s, %d bytes, %v", i, v.status, v.fault, len(v.body), v.err)
					}
				}
				if got := o.count(path); got != 1 {
					t.Errorf("%d requests at the origin for %s, want 1", got, path)
				}
			}
		})
	}
}

func TestLogNamesTheTierThatAnswered(t *testing.T) {
	o := newOrigin(page)
	all := nodes(1, "FRA", "AMS", "CDG", "NRT")
	for i := range all {
		if all[i].Colo != "NRT" {
			all[i].Region, all[i].Hub = "eu", all[i].Colo == "AMS"
		}
	}
	c := newCluster(t, topology(zone.Topology{Mode: zone.TopologyCustom, Regional: true, Parents: []string{"NRT"}}), all, o)
	visit := func(colo, want, cacheStatus string) {
		t.Helper()
		v := c.of(colo)[0].visit("/a")
		if v.status != 200 || v.tier != want || v.cache != cacheStatus {
			t.Errorf("%s: %d %s from %s, want %s from %s; %s", colo, v.status, v.cache, v.tier, cacheStatus, want, v.fault)
		}
		for _, name := range []string{"Selvage-Tier", "Selvage-Fault", "Selvage-Age"} {
			if v.fields.Lookup(name) != nil {
				t.Errorf("%s: a visitor is told %s", colo, name)
			}
		}
		if n := v.fields.Count(msg.CFRay) + v.fields.Count(msg.Server) + v.fields.Count(msg.CFCacheStatus); n != 3 {
			t.Errorf("%s: CF-Ray, Server and CF-Cache-Status are there %d times in all", colo, n)
		}
	}
	visit("FRA", "origin", "MISS")
	visit("FRA", "ram", "HIT")
	visit("CDG", "region", "MISS")
	visit("AMS", "ram", "HIT")
	visit("NRT", "ram", "HIT")
	for _, e := range c.of("AMS") {
		e.pipes.Kill()
	}
	if v := c.of("FRA")[0].visit("/b"); v.status != 200 || v.tier != "origin" {
		t.Errorf("without the hub: %d from %s", v.status, v.tier)
	}
	if v := c.of("CDG")[0].visit("/b"); v.status != 200 || v.tier != "upper" {
		t.Errorf("without the hub: %d from %s", v.status, v.tier)
	}
	if o.count("/a") != 1 || o.count("/b") != 1 {
		t.Errorf("origin saw %d and %d", o.count("/a"), o.count("/b"))
	}
}

var figuresFile = flag.String("figures", "", "file to which figures are appended, one a line")

// A tier of three: 330 edges in ten regions, all cold at the same time.
func TestThreeTiersOf330EdgesFetchOnce(t *testing.T) {
	const edges, regions = 330, 10
	o := newOrigin(page)
	var all []tier.Node
	for i := range edges {
		colo := string([]byte{'A' + byte(i/26/26), 'A' + byte(i/26%26), 'A' + byte(i%26)})
		all = append(all, tier.Node{Colo: colo, Region: fmt.Sprintf("region-%d", i%regions)})
	}
	c := newCluster(t, topology(zone.Topology{Mode: zone.TopologySmart, Regional: true}), all, o)
	for i, v := range c.together("/a") {
		if v.status != 200 || v.err != nil {
			t.Errorf("edge %d: %d %s %v", i, v.status, v.fault, v.err)
		}
	}
	if got := o.count("/a"); got != 1 {
		t.Errorf("%d requests at the origin, want 1", got)
	}
	asked, held, lost := map[request.Role]uint64{}, 0, uint64(0)
	for i, v := range c.together("/a") {
		if v.tier == "ram" && v.cache == "HIT" {
			held++
		} else {
			t.Errorf("edge %d does not hold it: %s from %s", i, v.cache, v.tier)
		}
		for role := request.RoleOwner; role <= request.RoleUpper; role++ {
			for outcome := range int(outcomes) {
				n := c.edges[i].asks.outcomes[role][outcome].Load()
				if asked[role] += n; outcome != askAnswered && n > 0 {
					lost += n
					t.Logf("edge %d as %s: %d times %s", i, roleNames[role], n, outcomeNames[outcome])
				}
			}
		}
	}
	if *figuresFile != "" {
		for _, f := range []figure.Figure{
			figure.Count("origin fetches, 330 edges cold at the same time in three tiers", "fetches", o.count("/a"), 1),
			figure.Count("edges of 330 that do not hold the object behind that", "edges", edges-held, 0),
		} {
			if err := figure.Append(*figuresFile, f); err != nil {
				t.Error(err)
			}
		}
	}
	// All but the hubs and the upper tier ask a hub, the hubs the upper tier, and
	// so do those whom a hub did not answer: a crowded machine may miss a probe.
	if asked[request.RoleRegion] < edges-2*regions-40 || asked[request.RoleUpper] < regions-1 || asked[request.RoleUpper] > 80+lost {
		t.Errorf("asked by role: %v", asked)
	}
}

// dying is an origin whose answer stops in the middle until it is told to go on.
type dying struct {
	half chan struct{} // closed when half of a body is out
	rest chan struct{} // closed to let it go on
	once sync.Once
}

const halves = 64 << 10

func (d *dying) answer(fields ...string) func(w http.ResponseWriter, r *http.Request) {
	return func(w http.ResponseWriter, r *http.Request) {
		body := strings.Repeat("a", halves) + strings.Repeat("b", halves)
		w.Header().Set("Cache-Control", "max-age=600")
		for i := 0; i < len(fields); i += 2 {
			w.Header().Set(fields[i], fields[i+1])
		}
		if r.Header.Get("Range") != "" {
			http.ServeContent(w, r, "", time.Time{}, strings.NewReader(body))
			return
		}
		first := false
		d.once.Do(func() { first = true })
		w.Header().Set("Content-Length", fmt.Sprint(len(body)))
		_, _ = io.WriteString(w, body[:halves])
		w.(http.Flusher).Flush()
		if first {
			close(d.half)
			<-d.rest
		}
		_, _ = io.WriteString(w, body[halves:])
	}
}

// dies kills the tier that a visitor's answer comes through, in the middle.
func dies(t *testing.T, topo zone.Topology, all []tier.Node, from int, fields ...string) (v visited, o *fakeOrigin) {
	t.Helper()
	d := &dying{half: make(chan struct{}), rest: make(chan struct{})}
	o = newOrigin(d.answer(fields...))
	c := newCluster(t, topology(topo), all, o)
	defer close(d.rest)
	got := make(chan visited)
	asker := c.edges[from]
	go func() { got <- asker.visit("/big") }()
	<-d.half
	var through *clusterEdge
	settled(t, "a peer to be asked", func() bool {
		for _, e := range c.edges {
			if e != asker && e.cache.Stats().Fills > 0 {
				through = e
			}
		}
		return through != nil
	})
	settled(t, "the first half to arrive", func() bool { return asker.cache.Stats().Filling >= halves })
	through.pipes.Kill()
	return <-got, o
}

func TestTierThatDiesInTheMiddleIsNotSeen(t *testing.T) {
	whole := strings.Repeat("a", halves) + strings.Repeat("b", halves)
	upper := zone.Topology{Mode: zone.TopologyCustom, Parents: []string{"NRT"}}
	v, o := dies(t, upper, nodes(1, "FRA", "NRT"), 0, "ETag", `"1"`)
	if v.status != 200 || v.err != nil || v.body != whole {
		t.Errorf("with an ETag: %d, %d bytes, %v", v.status, len(v.body), v.err)
	}
	if got := o.count("/big"); got != 2 {
		t.Errorf("%d requests at the origin, want 2: the whole and the rest", got)
	}
	old := time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat)
	if v, _ := dies(t, upper, nodes(1, "FRA", "NRT"), 0, "Last-Modified", old); v.err != nil || v.body != whole {
		t.Errorf("with Last-Modified: %d bytes, %v", len(v.body), v.err)
	}
	// Nothing proves that the rest would be of the same: no byte of it comes.
	for _, weak := range [][]string{{}, {"ETag", `W/"1"`}} {
		if v, _ := dies(t, upper, nodes(1, "FRA", "NRT"), 0, weak...); v.err == nil || v.body != whole[:len(v.body)] {
			t.Errorf("with %q: %d bytes, %v", weak, len(v.body), v.err)
		}
	}
}

// Each request whose tier is gone finds another way before anybody has noticed.
func TestTierThatIsGoneIsNotSeen(t *testing.T) {
	o := newOrigin(page)
	c := newCluster(t, topology(smart), nodes(3, "FRA", "NRT"), o)
	c.edges[1].pipes.Kill()
	c.edges[4].pipes.Kill()
	for i := range 60 {
		if v := c.edges[0].visit(fmt.Sprintf("/%d", i)); v.status != 200 || v.err != nil {
			t.Errorf("%d %s %v", v.status, v.fault, v.err)
		}
	}
}

// What a parent learned of a failing origin is not tried again by each child,
// and stale content stands in.
func TestOriginFailureIsPassedOn(t *testing.T) {
	var fails atomic.Bool
	o := newOrigin(func(w http.ResponseWriter, r *http.Request) {
		if fails.Load() {
			panic(http.ErrAbortHandler)
		}
		w.Header().Set("Cache-Control", "max-age=0, stale-if-error=600")
		w.Header().Set("ETag", `"1"`)
		_, _ = io.WriteString(w, "page")
	})
	c := newCluster(t, topology(zone.Topology{Mode: zone.TopologyCustom, Parents: []string{"NRT"}}), nodes(1, "FRA", "NRT"), o)
	if v := c.edges[0].visit("/a"); v.status != 200 {
		t.Fatalf("%d %s", v.status, v.fault)
	}
	fails.Store(true)
	if v := c.edges[0].visit("/a"); v.status != 200 || v.body != "page" {
		t.Errorf("stale: %d %s %s", v.status, v.cache, v.fault)
	}
	before := o.count("/b")
	if v := c.edges[0].visit("/b"); v.status != 520 || v.fault == "" {
		t.Errorf("nothing to stand in: %d %s", v.status, v.fault)
	}
	if got := o.count("/b") - before; got > 3 { // the parent's own attempts
		t.Errorf("%d requests at the origin", got)
	}
}

func TestFreshnessTravelsThroughTiers(t *testing.T) {
	var version atomic.Int64
	o := newOrigin(func(w http.ResponseWriter, r *http.Request) {
		tag := fmt.Sprintf(`"%d"`, version.Load())
		w.Header().Set("Cache-Control", "max-age=1")
		w.Header().Set("ETag", tag)
		if r.Header.Get("If-None-Match") == tag {
			w.WriteHeader(304)
			return
		}
		_, _ = io.WriteString(w, tag)
	})
	const seconds = 4
	c := newCluster(t, topology(smart), nodes(1, dozen...), o)
	end := time.Now().Add(seconds * time.Second)
	var work sync.WaitGroup
	for _, e := range c.edges {
		work.Go(func() {
			for time.Now().Before(end) {
				if v := e.visit("/a"); v.status != 200 || v.err != nil || v.body != `"0"` {
					t.Errorf("%d %q %s %v", v.status, v.body, v.fault, v.err)
					return
				}
				<-time.After(5 * time.Millisecond)
			}
		})
	}
	work.Wait()
	if got := o.count("/a"); got > seconds+1 || got < 2 {
		t.Errorf("%d requests at the origin in %d s of max-age=1 over 12 edges, want at most %d", got, seconds, seconds+1)
	}
	version.Store(1)
	settled(t, "the new version on each edge", func() bool {
		return !slices.ContainsFunc(c.edges, func(e *clusterEdge) bool { return e.visit("/a").body != `"1"` })
	})
}

// apply is what an entry with a purge does to an edge.
func (e *clusterEdge) apply(t *testing.T, seq uint64, what zone.Purge) {
	e.stand.begin(seq)
	if err := e.cache.Purge(site().ID, seq, what); err != nil {
		t.Error(err)
	}
	e.cache.Advance(seq)
	e.stand.reach(seq)
}

// A purge of everything reaches twelve edges one after the other, under load.
// What an edge asks for after it has obeyed must not come from one that has not.
func TestPurgeUnderLoadFetchesEachObjectOnce(t *testing.T) {
	const objects = 150
	var version atomic.Int64
	version.Store(1)
	o := newOrigin(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=600")
		_, _ = fmt.Fprintf(w, "%d", version.Load())
	})
	c := newCluster(t, topology(smart), nodes(2, dozen[:6]...), o)
	path := func(i int) string { return fmt.Sprintf("/%d", i) }
	for i := range objects {
		for _, e := range c.edges {
			e.visit(path(i))
		}
	}
	stop := make(chan struct{})
	var work sync.WaitGroup
	var purged [12]atomic.Bool
	for i, e := range c.edges {
		work.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(time.Millisecond):
				}
				obeys := purged[i].Load()
				if v := e.visit(path(rand.N(objects))); v.status != 200 || v.err != nil || obeys && v.body != "2" {
					t.Errorf("edge %d, purged %t: %d %q %s %v", i, obeys, v.status, v.body, v.fault, v.err)
				}
			}
		})
	}
	version.Store(2)
	for i, e := range c.edges {
		work.Go(func() {
			<-time.After(time.Duration(rand.N(60)) * time.Millisecond)
			e.apply(t, 2, zone.Purge{Everything: true})
			purged[i].Store(true)
		})
	}
	<-time.After(500 * time.Millisecond)
	close(stop)
	work.Wait()
	twice := 0
	for i := range objects {
		for _, e := range c.edges {
			if v := e.visit(path(i)); v.body != "2" {
				t.Errorf("%s holds %q after the purge", path(i), v.body)
			}
		}
		if n := o.count(path(i)); n > 2 {
			twice++
			t.Errorf("%s was fetched %d times, want once before and once after the purge", path(i), n)
		}
	}
}

// An edge that has not heard of a purge is not waited for long, and what it
// holds is not taken.
func TestEdgeThatLagsIsBypassed(t *testing.T) {
	o := newOrigin(page)
	c := newCluster(t, topology(zone.Topology{Mode: zone.TopologyCustom, Parents: []string{"NRT"}}), nodes(1, "FRA", "NRT"), o)
	c.edges[1].visit("/a")
	c.edges[0].apply(t, 2, zone.Purge{Everything: true})
	if v := c.edges[0].visit("/a"); v.status != 200 || v.tier != "origin" || o.count("/a") != 2 {
		t.Errorf("%d from %s, %d requests at the origin; want the origin's, 2", v.status, v.tier, o.count("/a"))
	}
	if got := c.edges[0].asks.outcomes[request.RoleUpper][askBusy].Load(); got != 1 {
		t.Errorf("%d edges were behind, want 1", got)
	}
}

// A lifetime that a rule of the zone gives begins when the first edge has the
// answer, not anew in each tier.
func TestEdgeTTLIsNotLengthenedByTiers(t *testing.T) {
	o := newOrigin(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Age", "1000")
		_, _ = io.WriteString(w, "page")
	})
	spec := topology(zone.Topology{Mode: zone.TopologyCustom, Parents: []string{"NRT"}})
	spec.Rulesets = append(spec.Rulesets, zone.Ruleset{Phase: "http_request_cache_settings", Body: []byte(
		`{"rules":[{"expression":"true","action":"set_cache_settings","action_parameters":{"cache":true,"edge_ttl":{"mode":"override_origin","default":2}}}]}`)})
	c := newCluster(t, spec, nodes(1, "FRA", "NRT"), o)
	if v := c.edges[1].visit("/a"); v.cache != "MISS" || v.left <= 0 || v.left > 2*time.Second {
		t.Fatalf("%d %s, fresh for %s; %s", v.status, v.cache, v.left, v.fault)
	}
	<-time.After(200 * time.Millisecond)
	if v := c.edges[0].visit("/a"); v.tier != "upper" || v.left > 1800*time.Millisecond {
		t.Errorf("%d %s from %s, fresh for %s, want at most 1.8 s", v.status, v.cache, v.tier, v.left)
	}
}

// Ages survive the way between edges, whatever they are.
func FuzzReadAge(f *testing.F) {
	f.Add([]byte("1500000 3500000"))
	f.Add([]byte("1 -9223372036854775808"))
	f.Fuzz(func(t *testing.T, text []byte) {
		held, left := readAge(text)
		if held < 0 || held > maxAge*time.Microsecond || left > maxAge*time.Microsecond || left < -maxAge*time.Microsecond || held == 0 && left != 0 {
			t.Errorf("%q: %s and %s", text, held, left)
		}
	})
}
