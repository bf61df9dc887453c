package h1

import (
	"io"
	"net"
	"testing"
	"time"

	"github.com/selvage-edge/selvage/wire/msg"
	"github.com/selvage-edge/selvage/wire/msg/msgtest"
)

// TestDescriptorWayReadsTheSame runs every request case over TCP, where the
// wait for a request is another one than in memory.
func TestDescriptorWayReadsTheSame(t *testing.T) {
	for name, h := range map[string]msg.Handler{"waiting": &msgtest.Site{Answer: msgtest.Describe}, "stepping": &steps{Site: msgtest.Site{Answer: msgtest.Describe}}} {
		t.Run(name, func(t *testing.T) { readsTheSame(t, h) })
	}
}

func readsTheSame(t *testing.T, h msg.Handler) {
	srv := NewServer(h, limited)
	srv.settle = 10 * time.Millisecond
	addr := listen(t, srv, nil)
	for _, tc := range requestCases {
		nc, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := nc.(*net.TCPConn); !ok {
			t.Fatal("not TCP")
		}
		send(t, nc, tc.in)
		_ = nc.(*net.TCPConn).CloseWrite()
		out, err := io.ReadAll(nc)
		if err != nil || statusOf(string(out)) != tc.status {
			t.Errorf("%s: err %v, got %q, want status %d", tc.name, err, out, tc.status)
		}
		_ = nc.Close()
	}
}

func TestIdleTCPConnectionsEnd(t *testing.T) {
	s := &msgtest.Site{Answer: msgtest.Describe}
	for name, end := range map[string]func(*Server) error{
		"time-out": func(*Server) error { return nil },
		"drain":    func(s *Server) error { return s.Drain(t.Context()) },
	} {
		srv := NewServer(s, Limits{IdleTimeout: 200 * time.Millisecond})
		nc, err := net.Dial("tcp", listen(t, srv, nil))
		if err != nil {
			t.Fatal(err)
		}
		if err := nc.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		for range 3 { // waits between requests
			send(t, nc, get)
			if _, err := nc.Read(make([]byte, 1000)); err != nil {
				t.Fatal(err)
			}
		}
		if err := end(srv); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if rest, err := io.ReadAll(nc); err != nil || len(rest) > 0 {
			t.Errorf("%s: %q, %v", name, rest, err)
		}
		_ = nc.Close()
	}
}

// TestIdleConnectionHoldsNoBuffer looks at a connection between requests.
func TestIdleConnectionHoldsNoBuffer(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	visitor, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer visitor.Close()
	nc, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	c := newConn(NewServer(&msgtest.Site{Answer: msgtest.Describe}, Limits{IdleTimeout: 50 * time.Millisecond}), nc, new(msg.Conn))
	if err := c.idle.fill(); err == nil || c.rd.own != nil {
		t.Errorf("err %v, buffer %v", err, c.rd.own)
	}
	send(t, visitor, get)
	c.s.l.IdleTimeout = 10 * time.Second
	if err := c.idle.fill(); err != nil || string(c.rd.buffered()) != get {
		t.Errorf("err %v: %q", err, c.rd.buffered())
	}
	c.rd.close()
	_ = nc.Close()
}
