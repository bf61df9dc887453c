package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// A client that asks and never reads is cut when the drain's time is up, and
// nothing of the server is left behind.
func TestDrainCutsWhoDoesNotRead(t *testing.T) {
	udp, l, err := Listen(t.Context(), "127.0.0.1:0", 1)
	if err != nil {
		t.Fatal(err)
	}
	s := New(Config{IdleTimeout: time.Hour})
	s.Set("example.com", mustCompile(t, testSpec()))
	errs := make(chan error, 2)
	go func() { errs <- s.ServeUDP(udp[0]) }()
	go func() { errs <- s.ServeTCP(l) }()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	wire := packed(t, question("huge.example.com", dns.TypeTXT))
	query := append(binary.BigEndian.AppendUint16(nil, uint16(len(wire))), wire...)
	// When our own write blocks, the server has stopped reading because its
	// writes block.
	for {
		if err := conn.SetWriteDeadline(time.Now().Add(300 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write(query); err != nil {
			if timeout, ok := errors.AsType[net.Error](err); !ok || !timeout.Timeout() {
				t.Fatal(err)
			}
			break
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := s.Drain(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("drain: %v, want that its time was up", err)
	}
	for range 2 {
		if err := <-errs; err != nil {
			t.Errorf("serve: %v", err)
		}
	}
	if n := s.openConns.Load(); n != 0 {
		t.Errorf("%d connections left", n)
	}
}

// A zone may be replaced while it is asked; every answer is of one plan or of
// the other.
func TestSetWhileServing(t *testing.T) {
	first, second := testSpec(), testSpec()
	second.Records = nil
	second.RecordsSeq = 99
	plans := []*Plan{mustCompile(t, first), mustCompile(t, second)}
	s, address := start(t, Config{}, map[string]*Plan{"example.com": plans[0]})
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				s.Set("example.com", plans[i%2])
			}
		}
	}()
	for range 300 {
		r := exchange(t, "udp", address, question("mail.example.com", dns.TypeA))
		whole := len(r.Answer) == 1 && r.Rcode == dns.RcodeSuccess
		none := len(r.Answer) == 0 && r.Rcode == dns.RcodeNameError && r.Ns[0].(*dns.SOA).Serial == 99
		if !whole && !none {
			t.Fatalf("neither the one nor the other: %v", r)
		}
	}
	close(stop)
	<-done
}
