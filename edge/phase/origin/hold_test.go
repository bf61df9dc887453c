package origin

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// Visitors who take nothing hold every connection: whoever stands in line gets
// the place of one of them, and who keeps taking keeps theirs.
func TestSlowVisitorsGiveWayToThoseInLine(t *testing.T) {
	const size = 8 << 20
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/large" {
			_, _ = io.WriteString(w, strings.Repeat("L", size))
			return
		}
		_, _ = io.WriteString(w, "quick")
	})
	w := &world{hosts: map[string]func() (net.Conn, error){addr + ":80": serve(t, h)}}
	e := newEngine(t, w, func(c *Config) { c.MaxConns, c.HoldTime, c.QueueTime = 2, 20*time.Millisecond, 10*time.Second })
	p := plan(t, "flexible", addr)
	stalled, taking := ask(t, "GET", "/large", nil), ask(t, "GET", "/large", nil)
	if _, err := e.Run(p, stalled); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Run(p, taking); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		n, err := io.Copy(io.Discard, taking.Out.Body)
		if err == nil && n != size {
			err = io.ErrUnexpectedEOF
		}
		taking.Out.Close()
		done <- err
	}()
	for range 3 {
		quick := ask(t, "GET", "/quick", nil)
		if _, err := e.Run(p, quick); err != nil {
			t.Fatalf("a request behind slow visitors: %v", err)
		}
		b, err := io.ReadAll(quick.Out.Body)
		quick.Out.Close()
		if err != nil || string(b) != "quick" {
			t.Errorf("%q, %v", b, err)
		}
	}
	if err := <-done; err != nil {
		t.Errorf("who kept taking was cut: %v", err)
	}
	if got := metric(t, e, "selvage_origin_given_up_total", ""); got > 1 {
		t.Errorf("%v visitors were cut, at most the one who took nothing may be", got)
	}
	_, err := io.Copy(io.Discard, stalled.Out.Body)
	stalled.Out.Close()
	if cut := metric(t, e, "selvage_origin_given_up_total", "") == 1; cut != (err != nil) {
		t.Errorf("given up: %v, and its answer ends with %v", cut, err)
	}
	p0 := e.list()[0]
	p0.mu.Lock()
	defer p0.mu.Unlock()
	if p0.open != len(p0.idle) || len(p0.streaming) != 0 || len(p0.waiters) != 0 {
		t.Errorf("%d open, %d idle, %d streaming, %d waiting; want nothing in use", p0.open, len(p0.idle), len(p0.streaming), len(p0.waiters))
	}
}

// A place that was given up is not given back a second time.
func TestGivenUpPlacesAreCountedOnce(t *testing.T) {
	h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, strings.Repeat("x", 1<<20)) })
	w := &world{hosts: map[string]func() (net.Conn, error){addr + ":80": serve(t, h)}}
	e := newEngine(t, w, func(c *Config) { c.MaxConns, c.HoldTime = 1, time.Millisecond })
	p := plan(t, "flexible", addr)
	for range 5 {
		first, second := ask(t, "GET", "/", nil), ask(t, "GET", "/", nil)
		if _, err := e.Run(p, first); err != nil {
			t.Fatal(err)
		}
		if _, err := e.Run(p, second); err != nil {
			t.Fatal(err)
		}
		first.Out.Close()
		second.Out.Close()
	}
	if got := metric(t, e, "selvage_origin_given_up_total", ""); got != 5 {
		t.Errorf("%v given up, want 5", got)
	}
	wantConns(t, e, 0, 0)
}

// Whoever looks for a place after the line is empty cuts nobody.
func TestNobodyGivesWayToAnEmptyLine(t *testing.T) {
	h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, strings.Repeat("x", 1<<20)) })
	w := &world{hosts: map[string]func() (net.Conn, error){addr + ":80": serve(t, h)}}
	e := newEngine(t, w, nil)
	r := ask(t, "GET", "/", nil)
	if _, err := e.Run(plan(t, "flexible", addr), r); err != nil {
		t.Fatal(err)
	}
	e.list()[0].giveUp(time.Now().Add(time.Hour))
	b, err := io.ReadAll(r.Out.Body)
	r.Out.Close()
	if err != nil || len(b) != 1<<20 {
		t.Errorf("%d bytes, %v; want all of them", len(b), err)
	}
}

// A body tells how much of it needs no waiting, so that the head is
// sent together with it.
func TestPacedBodiesTellWhatIsBuffered(t *testing.T) {
	h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "one")
		_ = http.NewResponseController(w).Flush() // makes it chunked
	})
	w := &world{hosts: map[string]func() (net.Conn, error){addr + ":80": serve(t, h)}}
	e := newEngine(t, w, nil)
	r := ask(t, "GET", "/", nil)
	if _, err := e.Run(plan(t, "flexible", addr), r); err != nil {
		t.Fatal(err)
	}
	defer r.Out.Close()
	b, ok := r.Out.Body.(interface{ Buffered() int })
	if !ok {
		t.Fatal("the body does not tell what is buffered")
	}
	var first [1]byte
	if _, err := r.Out.Body.Read(first[:]); err != nil {
		t.Fatal(err)
	}
	if got := b.Buffered(); got < 2 {
		t.Errorf("%d bytes are buffered, want the 2 of the chunk's rest at least", got)
	}
}
