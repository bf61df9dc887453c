package script

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// counting is an origin that counts requests by path.
type counting struct {
	*httptest.Server
	mu     sync.Mutex
	counts map[string]int // guarded by mu
}

func newCounting(t *testing.T, answer http.HandlerFunc) *counting {
	t.Helper()
	o := &counting{counts: map[string]int{}}
	o.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o.mu.Lock()
		o.counts[r.URL.Path]++
		o.mu.Unlock()
		answer(w, r)
	}))
	t.Cleanup(o.Close)
	return o
}

func (o *counting) count(path string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.counts[path]
}

func (o *counting) all() (sum int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, n := range o.counts {
		sum += n
	}
	return sum
}

// server is an edge of a fleet.
type server struct {
	*process
	edgeInfo
}

// fleet is a control plane with edges as processes of their own.
type fleet struct {
	network
	edges []*server
}

// startFleet starts an edge for each colo.
func startFleet(t *testing.T, colos ...string) *fleet {
	t.Helper()
	a := &apart{dir: t.TempDir(), feed: "127.0.0.1:0"}
	a.startControl(t)
	f := &fleet{network: *a.network()}
	for i, colo := range colos {
		fields := strings.Fields(strings.TrimSpace(f.cli(t, "control", "token", "--join")))
		state := filepath.Join(a.dir, fmt.Sprintf("edge-%d", i))
		f.edges = append(f.edges, &server{process: start(t,
			"edge", "--state", state, "--colo", colo, "--parent", a.feed, "--join", fields[len(fields)-1],
			"--http", "127.0.0.1:0", "--https", "127.0.0.1:0", "--dns", "127.0.0.1:0", "--metrics", "127.0.0.1:0", "--peer", "127.0.0.1:0",
			"--advertise", "127.0.0.1", "--allow-origins", "127.0.0.0/8", "--access-log", "off", "--cache-bytes", "16MiB")})
	}
	for i, e := range f.edges {
		waitJSON(t, filepath.Join(a.dir, fmt.Sprintf("edge-%d", i), "edge.json"), &e.edgeInfo)
	}
	for _, e := range f.edges {
		eventually(t, 20*time.Second, "edges to know each other", func() error {
			if up := e.metric(t, `selvage_tier_nodes{state="up"}`); up != len(f.edges)-1 {
				return fmt.Errorf("%d others are known", up)
			}
			return nil
		})
	}
	return f
}

// metric reads a number of an edge; -1 = it is not there.
func (e *edgeInfo) metric(t *testing.T, name string) int {
	t.Helper()
	res, err := http.Get("http://" + e.Metrics + "/metrics")
	if err != nil {
		return -1
	}
	defer res.Body.Close()
	for lines := bufio.NewScanner(res.Body); lines.Scan(); {
		if value, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			n, err := strconv.ParseFloat(value, 64)
			if err != nil {
				t.Error(err)
			}
			return int(n)
		}
	}
	return -1
}

// Three servers of one data center, one of which is killed under load: no
// visitor of the others sees it, and what it had is elsewhere within a second.
func TestServerKilledUnderLoadIsNotSeen(t *testing.T) {
	o := newCounting(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=600")
		w.Header().Set("ETag", `"1"`)
		_, _ = io.WriteString(w, strings.Repeat(r.URL.Path+"\n", 2000))
	})
	f := startFleet(t, "FRA", "FRA", "FRA")
	f.cli(t, "zone", "add", "site.test", "--origin", o.URL)
	var sent, failed, next atomic.Int64
	var work sync.WaitGroup
	stop := make(chan struct{})
	for i := range 8 {
		c := visitor(t, f.edges[i%2].HTTP, "")
		work.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				path := fmt.Sprintf("/%d", rand.N(max(next.Add(1)/2, 1))) // new ones and old ones
				a, err := fetch(c, "http://site.test"+path)
				if sent.Add(1); err != nil || a.Status != 200 || a.Body != strings.Repeat(path+"\n", 2000) {
					if failed.Add(1) < 10 {
						t.Errorf("%s: %d, %d bytes, %v", path, a.Status, len(a.Body), err)
					}
				}
			}
		})
	}
	eventually(t, 20*time.Second, "some load", func() error {
		if sent.Load() < 500 {
			return errors.New("not yet")
		}
		return nil
	})
	f.edges[2].kill(t)
	killed := time.Now()
	for _, e := range f.edges[:2] {
		eventually(t, 20*time.Second, "the killed server to be out", func() error {
			if gone := e.metric(t, `selvage_tier_nodes{state="gone"}`); gone != 1 {
				return fmt.Errorf("%d are gone", gone)
			}
			return nil
		})
	}
	t.Logf("out after %s", time.Since(killed).Round(time.Millisecond))
	before := sent.Load()
	eventually(t, 20*time.Second, "more load", func() error {
		if sent.Load() < before+500 {
			return errors.New("not yet")
		}
		return nil
	})
	close(stop)
	work.Wait()
	t.Logf("%d requests, %d failed, %d at the origin", sent.Load(), failed.Load(), o.all())
}

// Twelve data centers, cold at the same time, and a purge of everything.
func TestTwelveEdgesFetchOnceAndPurgeAtOnce(t *testing.T) {
	var version atomic.Int64
	o := newCounting(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "max-age=600")
		_, _ = fmt.Fprint(w, version.Load())
	})
	n := dev(t, t.TempDir(), "--no-demo", "--edges", "12", "--cache-bytes", "16MiB")
	for _, e := range n.Edges {
		eventually(t, 20*time.Second, "edges to know each other", func() error {
			if up := e.metric(t, `selvage_tier_nodes{state="up"}`); up != 11 {
				return fmt.Errorf("%d others are known", up)
			}
			return nil
		})
	}
	n.cli(t, "zone", "add", "site.test", "--origin", o.URL)
	clients := make([]*http.Client, len(n.Edges))
	for i, e := range n.Edges {
		clients[i] = visitor(t, e.HTTP, "")
	}
	// all visits every edge at once and returns what they say.
	all := func(path string) (bodies []string) {
		bodies = make([]string, len(clients))
		var work sync.WaitGroup
		for i, c := range clients {
			work.Go(func() {
				a, err := fetch(c, "http://site.test"+path)
				if bodies[i] = a.Body; err != nil || a.Status != 200 {
					t.Errorf("%s: %s answers %d, %v", path, n.Edges[i].Colo, a.Status, err)
				}
			})
		}
		work.Wait()
		return bodies
	}
	for k := range 10 {
		path := fmt.Sprintf("/%d", k)
		if all(path); o.count(path) != 1 {
			t.Errorf("%s: %d requests at the origin, want 1", path, o.count(path))
		}
	}
	var took []time.Duration
	zone := n.zoneID(t, "site.test")
	base := strings.TrimSuffix(n.API, "/client/v4")
	for k := range 10 {
		version.Add(1)
		began := time.Now()
		_, seq := n.call(t, "POST", "/zones/"+zone+"/purge_cache", map[string]any{"purge_everything": true})
		at := network{API: base, Token: n.Token}
		eventually(t, 10*time.Second, "the purge on all edges", func() error {
			var c struct{ Pending []struct{ Colo string } }
			unmarshal(t, first(at.call(t, "GET", "/selvage/v1/changes/"+seq, nil)), &c)
			if len(c.Pending) > 0 {
				return fmt.Errorf("%d edges wait", len(c.Pending))
			}
			return nil
		})
		took = append(took, time.Since(began))
		path := fmt.Sprintf("/%d", k)
		for i, body := range all(path) {
			if body != strconv.FormatInt(version.Load(), 10) {
				t.Errorf("%s: %s serves %q after the purge of version %d was acknowledged", path, n.Edges[i].Colo, body, version.Load()-1)
			}
		}
		if o.count(path) != 2 {
			t.Errorf("%s: %d requests at the origin, want one before and one after its purge", path, o.count(path))
		}
	}
	slices.Sort(took)
	t.Logf("purge of 12 edges acknowledged after %s to %s, median %s", took[0], took[len(took)-1], took[len(took)/2])
}
