package origin

import (
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/selvage-edge/selvage/fault"
)

// Many requests over few connections, of which the origin ends every fifth
// after its answer: each is answered with what belongs to it, and the bound
// holds throughout.
func TestManyRequestsShareFewConnections(t *testing.T) {
	const most, workers, each = 8, 40, 25
	var busy, peak, served atomic.Int32
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		peak.Store(max(peak.Load(), busy.Add(1)))
		defer busy.Add(-1)
		if served.Add(1)%5 == 0 {
			w.Header().Set("Connection", "close")
		}
		_, _ = io.WriteString(w, strings.Repeat(r.URL.Path, 100))
	})
	var opened atomic.Int32
	dial := serve(t, h)
	w := &world{hosts: map[string]func() (net.Conn, error){addr + ":80": func() (net.Conn, error) {
		opened.Add(1)
		return dial()
	}}}
	e := newEngine(t, w, func(c *Config) { c.MaxConns = most })
	p := plan(t, "flexible", addr)
	var work sync.WaitGroup
	for n := range workers {
		work.Go(func() {
			for i := range each {
				path := "/" + strconv.Itoa(n*each+i)
				r := ask(t, "GET", path, nil)
				if _, err := e.Run(p, r); err != nil {
					t.Errorf("%s: %v", path, err)
					continue
				}
				if i%7 == 3 { // leaves in the middle: the connection is not used again
					r.Out.Close()
					continue
				}
				b, err := io.ReadAll(r.Out.Body)
				r.Out.Close()
				if err != nil || string(b) != strings.Repeat(path, 100) {
					t.Errorf("%s: got %.60q, %v", path, b, err)
				}
			}
		})
	}
	work.Wait()
	if peak.Load() > most {
		t.Errorf("%d requests at a time, at most %d are allowed", peak.Load(), most)
	}
	if opened.Load() >= workers*each/2 {
		t.Errorf("%d connections for %d requests: they are not reused", opened.Load(), workers*each)
	}
	p0 := e.list()[0]
	p0.mu.Lock()
	defer p0.mu.Unlock()
	if p0.open != len(p0.idle) || len(p0.waiters) != 0 {
		t.Errorf("%d open, %d idle, %d waiting; want nothing in use", p0.open, len(p0.idle), len(p0.waiters))
	}
}

// What one zone does to an origin's connections does not touch another zone
// with the same origin.
func TestZonesDoNotShareConnections(t *testing.T) {
	w := &world{hosts: map[string]func() (net.Conn, error){addr + ":80": serve(t, echo)}}
	e := newEngine(t, w, func(c *Config) { c.MaxConns, c.MaxQueue = 1, 1 })
	p := plan(t, "flexible", addr)
	held := ask(t, "GET", "/", nil)
	if _, err := e.Run(p, held); err != nil {
		t.Fatal(err)
	}
	other := ask(t, "GET", "/", nil)
	other.ZoneID = "ffffffffffffffffffffffffffffffff"
	run(t, e, p, other)
	if other.Tried.Reused {
		t.Error("a connection of another zone was used")
	}
	held.Out.Close()
}

// A failed connect gives its place to the next in line instead of losing it.
func TestAFailedConnectFreesItsPlace(t *testing.T) {
	e := newEngine(t, &world{}, func(c *Config) { c.MaxConns = 2 })
	p := plan(t, "flexible", addr)
	var work sync.WaitGroup
	for range 20 {
		work.Go(func() {
			_, err := e.Run(p, ask(t, "GET", "/", nil))
			if !fault.Is(err, fault.Refused) {
				t.Errorf("got %v, want refused", err)
			}
		})
	}
	work.Wait()
	wantConns(t, e, 0, 0)
}
