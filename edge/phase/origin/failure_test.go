package origin

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/selvage-edge/selvage/fault"
)

func TestKindsOfFailure(t *testing.T) {
	say := func(text string) func() (net.Conn, error) {
		return scripted(t, func(_ int, nc net.Conn) {
			_, _ = http.ReadRequest(bufio.NewReader(nc))
			_, _ = io.WriteString(nc, text)
		})
	}
	w := &world{hosts: map[string]func() (net.Conn, error){
		"nonsense.test:80": say("SSH-2.0-OpenSSH\r\n\r\n"),
		"silent.test:80":   say(""),
		"half.test:80":     say("HTTP/1.1 200 OK\r\nContent-"),
		"both.test:80":     say("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"),
		"huge.test:80":     say("HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 1<<20) + "\r\n\r\n"),
		"switch.test:80":   say("HTTP/1.1 101 Switching Protocols\r\n\r\n"),
	}}
	e := newEngine(t, w, nil)
	for host, kind := range map[string]fault.Kind{
		"gone.test": fault.Refused, "nonsense.test": fault.Malformed, "silent.test": fault.Closed,
		"half.test": fault.Closed, "both.test": fault.Malformed, "huge.test": fault.Malformed, "switch.test": fault.Malformed,
	} {
		_, err := e.Run(plan(t, "flexible", host), ask(t, "GET", "/", nil))
		f, ok := errors.AsType[*fault.Error](err)
		if !ok || f.Side != fault.Origin || f.Kind != kind {
			t.Errorf("%s: got %v, want kind %s", host, err, kind)
		}
	}
	r := ask(t, "GET", "/", nil)
	r.Host = []byte("unknown.test")
	_, err := e.Run(plan(t, "flexible", addr), r)
	wantKind(t, err, fault.Origin, fault.NotFound)
	_, err = e.Run(nil, r)
	wantKind(t, err, fault.Origin, fault.NotFound)
	_, err = e.Run(plan(t, "flexible", addr), ask(t, "CONNECT", "/", nil))
	wantKind(t, err, fault.Visitor, fault.Malformed)
	if got := metric(t, e, "selvage_origin_failures_total", "malformed"); got != 5 {
		t.Errorf("failures{malformed} %v, want 5", got)
	}
}

func TestAnOriginThatStopsInMidBody(t *testing.T) {
	origin := scripted(t, func(_ int, nc net.Conn) {
		_, _ = http.ReadRequest(bufio.NewReader(nc))
		_, _ = io.WriteString(nc, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
	})
	e := newEngine(t, &world{hosts: map[string]func() (net.Conn, error){addr + ":80": origin}}, nil)
	r := ask(t, "GET", "/", nil)
	if _, err := e.Run(plan(t, "flexible", addr), r); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(r.Out.Body)
	r.Out.Close()
	if string(got) != "half" {
		t.Errorf("got %q", got)
	}
	wantKind(t, err, fault.Origin, fault.Closed)
	wantConns(t, e, 0, 0)
}

// wantConns waits for nothing: releases are synchronous.
func wantConns(t *testing.T, e *Engine, open, idle int) {
	t.Helper()
	gotOpen, gotIdle := 0, 0
	for _, p := range e.list() {
		p.mu.Lock()
		gotOpen += p.open
		gotIdle += len(p.idle)
		p.mu.Unlock()
	}
	if gotOpen != open || gotIdle != idle {
		t.Errorf("%d connections, %d idle; want %d, %d", gotOpen, gotIdle, open, idle)
	}
}

func TestTimeouts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stuck := scripted(t, func(_ int, nc net.Conn) { _, _ = io.Copy(io.Discard, nc) })
		stalls := scripted(t, func(_ int, nc net.Conn) {
			_, _ = http.ReadRequest(bufio.NewReader(nc))
			_, _ = io.WriteString(nc, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
			_, _ = io.Copy(io.Discard, nc)
		})
		e := New(Config{Dial: (&world{hosts: map[string]func() (net.Conn, error){"stuck.test:80": stuck, "stalls.test:80": stalls}}).Dial})
		defer e.Close()
		start := time.Now()
		_, err := e.Run(plan(t, "flexible", "stuck.test"), ask(t, "GET", "/", nil))
		wantKind(t, err, fault.Origin, fault.Timeout)
		if took := time.Since(start); took < 75*time.Second || took > 101*time.Second {
			t.Errorf("waited %s for a head, want about 100 s", took)
		}
		r := ask(t, "GET", "/", nil)
		if _, err := e.Run(plan(t, "flexible", "stalls.test"), r); err != nil {
			t.Fatal(err)
		}
		start = time.Now()
		_, err = io.ReadAll(r.Out.Body)
		wantKind(t, err, fault.Origin, fault.Timeout)
		if took := time.Since(start); took < 75*time.Second || took > 101*time.Second {
			t.Errorf("waited %s for the body, want about 100 s", took)
		}
		r.Out.Close()
	})
}

func TestVisitorWhoLeavesEndsTheExchange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cut := make(chan struct{})
		origin := scripted(t, func(_ int, nc net.Conn) {
			_, _ = io.Copy(io.Discard, nc)
			close(cut)
		})
		e := New(Config{Dial: (&world{hosts: map[string]func() (net.Conn, error){addr + ":80": origin}}).Dial})
		defer e.Close()
		r := ask(t, "GET", "/", nil)
		ctx, leave := context.WithCancel(t.Context())
		r.Ctx = ctx
		var work sync.WaitGroup
		work.Go(func() {
			_, err := e.Run(plan(t, "flexible", addr), r)
			wantKind(t, err, fault.Visitor, fault.Closed)
		})
		synctest.Wait()
		leave()
		work.Wait()
		<-cut
		wantConns(t, e, 0, 0)
	})
}

func TestBodyThatTheVisitorBreaksOffIsTheVisitorsFault(t *testing.T) {
	origin := scripted(t, func(_ int, nc net.Conn) { _, _ = io.Copy(io.Discard, nc) })
	e := newEngine(t, &world{hosts: map[string]func() (net.Conn, error){addr + ":80": origin}}, nil)
	r := ask(t, "POST", "/", io.MultiReader(strings.NewReader("start"), brokenReader{}))
	_, err := e.Run(plan(t, "flexible", addr), r)
	wantKind(t, err, fault.Visitor, fault.Closed)
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestConnectionsAreBoundedAndTheQueueToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		var open, most atomic.Int32
		origin := scripted(t, func(_ int, nc net.Conn) {
			most.Store(max(most.Load(), open.Add(1)))
			defer open.Add(-1)
			br := bufio.NewReader(nc)
			for {
				if _, err := http.ReadRequest(br); err != nil {
					return
				}
				<-gate
				_, _ = io.WriteString(nc, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			}
		})
		e := New(Config{Dial: (&world{hosts: map[string]func() (net.Conn, error){addr + ":80": origin}}).Dial, MaxConns: 2, MaxQueue: 3, QueueTime: 10 * time.Second})
		p := plan(t, "flexible", addr)
		var work sync.WaitGroup
		var good, limited atomic.Int32
		ask1 := func() {
			r := ask(t, "GET", "/", nil)
			_, err := e.Run(p, r)
			if fault.Is(err, fault.Limit) {
				limited.Add(1)
				return
			}
			if err == nil && read(t, r) == "ok" {
				good.Add(1)
			}
		}
		for range 6 {
			work.Go(ask1)
		}
		synctest.Wait()
		if limited.Load() != 1 {
			t.Errorf("%d refused at once, want 1 beyond 2 connections and 3 places", limited.Load())
		}
		<-time.After(11 * time.Second)
		synctest.Wait()
		if limited.Load() != 4 {
			t.Errorf("%d refused after the queue's time, want 4", limited.Load())
		}
		for range 3 {
			work.Go(ask1)
		}
		synctest.Wait()
		close(gate)
		work.Wait()
		if good.Load() != 5 || most.Load() != 2 {
			t.Errorf("%d answered over at most %d connections; want 5 over 2", good.Load(), most.Load())
		}
		wantConns(t, e, 2, 2)
		<-time.After(2 * time.Minute)
		synctest.Wait()
		wantConns(t, e, 0, 0)
		if got := len(e.list()); got != 0 {
			t.Errorf("%d pools kept for nobody", got)
		}
		e.Close()
	})
}
