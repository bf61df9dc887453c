package h1

import (
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/selvage-edge/selvage/wire/msg"
	"github.com/selvage-edge/selvage/wire/msg/msgtest"
)

// adopting serves TCP connections by Adopt and counts those that ended.
func adopting(t *testing.T, srv *Server) (addr string, ended *atomic.Int32) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended = new(atomic.Int32)
	go func() { // ends with the listener
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			go srv.Adopt(nc, new(msg.Conn), func() { ended.Add(1) })
		}
	}()
	t.Cleanup(func() {
		_ = ln.Close()
		if err := srv.Drain(t.Context()); err != nil && t.Context().Err() == nil {
			t.Error(err)
		}
	})
	return ln.Addr().String(), ended
}

func (s *Server) inPark() int {
	s.mu.Lock()
	p := s.park
	s.mu.Unlock()
	if p == nil {
		return 0
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.conns)
}

func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for until := time.Now().Add(20 * time.Second); !ok(); {
		if time.Now().After(until) {
			t.Fatal("waited in vain:", what)
		}
		<-time.After(time.Millisecond)
	}
}

func TestQuietConnectionsAreParkedAndServedOn(t *testing.T) {
	s := &steps{Site: msgtest.Site{Answer: msgtest.Describe}}
	srv := NewServer(s, Limits{})
	srv.settle = 10 * time.Millisecond
	addr, ended := adopting(t, srv)
	var all []*net.TCPConn
	for range 20 {
		all = append(all, dialTCP(t, addr))
	}
	for round := range 3 {
		await(t, "all are parked", func() bool { return srv.inPark() == len(all) })
		for i, nc := range all {
			path := []string{"/x", "/xy"}[(i+round)%2] // answered at once, and not
			send(t, nc, strings.Replace(get, "GET / ", "GET "+path+" ", 1))
			b := make([]byte, 1000)
			if n, err := nc.Read(b); err != nil || !strings.Contains(string(b[:n]), path) {
				t.Fatalf("%q, %v", b[:n], err)
			}
		}
	}
	await(t, "all are parked", func() bool { return srv.inPark() == len(all) })
	_ = all[0].Close() // never fails
	await(t, "one has ended", func() bool { return ended.Load() == 1 && srv.inPark() == len(all)-1 })
	if err := srv.Drain(t.Context()); err != nil {
		t.Error(err)
	}
	if n := ended.Load(); n != int32(len(all)) {
		t.Errorf("%d of %d have ended", n, len(all))
	}
	if rest, err := io.ReadAll(all[1]); err != nil || len(rest) > 0 {
		t.Errorf("%q, %v", rest, err)
	}
}

func TestParkedConnectionsTimeOut(t *testing.T) {
	srv := NewServer(&steps{Site: msgtest.Site{Answer: msgtest.Describe}}, Limits{IdleTimeout: 200 * time.Millisecond})
	srv.settle, srv.conns.Every = 10*time.Millisecond, 10*time.Millisecond
	addr, ended := adopting(t, srv)
	nc := dialTCP(t, addr)
	await(t, "it is parked", func() bool { return srv.inPark() == 1 })
	if rest, err := io.ReadAll(nc); err != nil || len(rest) > 0 {
		t.Errorf("%q, %v", rest, err)
	}
	await(t, "its end is told", func() bool { return ended.Load() == 1 })
}
