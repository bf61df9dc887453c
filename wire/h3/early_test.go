package h3

import (
	"context"
	"crypto/tls"
	"net"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/selvage-edge/selvage/wire/h3/h3test"
	"github.com/selvage-edge/selvage/wire/msg"
)

func TestEarlyRequestsAreMarked(t *testing.T) {
	early := make(chan bool, 10)
	h := &handler{step: inline(func(req *msg.Request, res *msg.Response) {
		early <- req.Early
		res.Status = 200
	})}
	r := start(t, h, Limits{})
	config := clientTLS()
	config.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	dial := func(hold bool) (*peer, *h3test.EarlyConn) {
		udp, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		c := &h3test.EarlyConn{PacketConn: udp}
		c.Hold.Store(hold)
		tr := &quic.Transport{Conn: c}
		ctx, cancel := context.WithTimeout(t.Context(), peerWait)
		defer cancel()
		qc, err := tr.DialEarly(ctx, r.addr, config, &quic.Config{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = qc.CloseWithError(0, "")
			_ = tr.Close()
			_ = udp.Close()
		})
		return &peer{t, qc}, c
	}
	p, _ := dial(false)
	answer(t, p.whole(head3("GET", "/")))
	if <-early {
		t.Error("a request of a full handshake is early")
	}
	put := make(chan struct{})
	go func() { // the ticket comes after the answer
		for tick := time.NewTicker(time.Millisecond); ; <-tick.C {
			if _, ok := config.ClientSessionCache.Get("h3.test"); ok {
				close(put)
				return
			}
		}
	}()
	<-put
	p, c := dial(true)
	if f, _ := answer(t, p.whole(head3("GET", "/"))); f[":status"] != "200" {
		t.Errorf("%v", f)
	}
	if !<-early {
		t.Error("a request of early data is not")
	}
	c.Hold.Store(false)
	select {
	case <-p.qc.HandshakeComplete():
	case <-time.After(peerWait):
		t.Fatal("no handshake")
	}
	if !p.qc.ConnectionState().Used0RTT {
		t.Error("early data was not used")
	}
	// The server's handshake ends with a packet of ours.
	until(t, func() bool {
		answer(t, p.whole(head3("GET", "/")))
		return !<-early
	})
	if r.Stats().Early < 1 {
		t.Errorf("%+v", r.Stats())
	}
}
