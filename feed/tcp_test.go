package feed

import (
	"fmt"
	"net"
	"path/filepath"
	"testing"
	"time"
)

// Over real sockets and a real disk, with syncs: 50 changes, each waited for.
func TestOverTCPAndDisk(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ca, log := newTestCA(t), newMemLog()
	server := NewServer(ServerConfig{Log: log, Identity: ca.identity("control", "")})
	ctx := t.Context()
	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx, ln) }()
	t.Cleanup(func() {
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	c, err := OpenCopy(filepath.Join(t.TempDir(), "copy"), CopyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	applied := make(chan uint64, 1)
	s := NewSubscriber(SubscriberConfig{
		Parents: []string{ln.Addr().String()}, Identity: ca.identity(nodeID(1), "FRA"), Copy: c,
		OnEntry:    func(e *Entry) error { applied <- e.Seq; return nil },
		OnSnapshot: func(seq uint64) error { applied <- seq; return nil },
	})
	ran := make(chan error, 1)
	go func() { ran <- s.Run(ctx) }()
	t.Cleanup(func() {
		if err := <-ran; err != nil {
			t.Error(err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	log.set("first", "x")
	<-applied
	var total, worst time.Duration
	for i := range 50 {
		start := time.Now()
		e := log.set("zone/1/dns/www", fmt.Sprint(i))
		if got := <-applied; got != e.Seq {
			t.Fatalf("applied %d, want %d", got, e.Seq)
		}
		d := time.Since(start)
		total, worst = total+d, max(worst, d)
	}
	t.Logf("change to applied: mean %s, worst %s", total/50, worst)
}
