package h1

import (
	"bufio"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/selvage-edge/selvage/wire/msg"
	"github.com/selvage-edge/selvage/wire/msg/msgtest"
)

const upgrade = "GET /ws HTTP/1.1\r\n" + h + "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n"

// echo answers an upgrade with an in-memory tunnel whose far end sends back
// what it gets.
func echo(window int) *msgtest.Site {
	return &msgtest.Site{Answer: func(req *msg.Request, res *msg.Response) {
		if string(req.Upgrade) != "websocket" {
			res.Status = 426
			return
		}
		near, far := msgtest.Conns(window)
		go func() {
			_, _ = io.Copy(far, far)
			_ = far.CloseWrite()
		}()
		res.Status, res.Tunnel = 101, near
		res.Fields.AddID(msg.SecWebSocketAccept, []byte("y"))
	}}
}

func TestUpgradeEchoes(t *testing.T) {
	s := echo(1000)
	visitor, ended := start(t, NewServer(s, Limits{}), 1<<20)
	want := strings.Repeat("hello ", 20000)
	send(t, visitor, upgrade+want[:3]) // the tunnel's first bytes come with the head
	r := bufio.NewReader(visitor)
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != 101 || res.Header.Get("Connection") != "Upgrade" || res.Header.Get("Upgrade") != "websocket" || res.Header.Get("Sec-WebSocket-Accept") != "y" {
		t.Errorf("head: %v", res)
	}
	send(t, visitor, want[3:])
	_ = visitor.CloseWrite() // and the rest still comes back
	got, err := io.ReadAll(r)
	if err != nil || string(got) != want {
		t.Errorf("%d bytes, err %v, want %d", len(got), err, len(want))
	}
	<-ended
	if s.Err != nil || s.Sent != int64(len(want)) {
		t.Errorf("Done: sent %d, err %v", s.Sent, s.Err)
	}
}

func TestUpgradeThatIsNotTaken(t *testing.T) {
	for _, in := range []string{
		"GET /ws HTTP/1.1\r\n" + h + "Upgrade: websocket\r\n\r\n",
		"GET /ws HTTP/1.0\r\n" + h + "Connection: upgrade\r\nUpgrade: websocket\r\n\r\n",
		"GET /ws HTTP/1.1\r\n" + h + "Connection: upgrade\r\nUpgrade: h2c\r\n\r\n",
		"GET /ws HTTP/1.1\r\n" + h + "Connection: upgrade\r\nUpgrade: H2C-14\r\n\r\n",
		"GET /ws HTTP/1.1\r\n" + h + "Connection: upgrade\r\nUpgrade: HTTP/2.0\r\n\r\n",
		"GET /ws HTTP/1.1\r\n" + h + "Connection: upgrade\r\nUpgrade: TLS/1.0\r\n\r\n",
		"GET /ws HTTP/1.1\r\n" + h + "Connection: upgrade\r\nUpgrade: websocket, h2c\r\n\r\n",
		"POST /ws HTTP/1.1\r\n" + h + "Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 1\r\n\r\nx",
	} {
		if out := talk(t, echo(10), Limits{}, in); statusOf(out) != 426 {
			t.Errorf("%q: %q", in, out)
		}
	}
	s := &msgtest.Site{Answer: func(_ *msg.Request, res *msg.Response) { res.Status, res.Tunnel = 101, new(msgtest.Conn) }}
	s.Answer = func(_ *msg.Request, res *msg.Response) {
		near, _ := msgtest.Conns(10)
		res.Status, res.Tunnel = 101, near
	}
	if out := talk(t, s, Limits{}, get); statusOf(out) != 500 {
		t.Errorf("101 unasked: %q", out)
	}
}

func TestIdleTunnelEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := echo(1000)
		visitor, ended := start(t, NewServer(s, Limits{IdleTimeout: time.Minute}), 1<<20)
		send(t, visitor, upgrade)
		for range 5 { // activity keeps it
			<-time.After(50 * time.Second)
			send(t, visitor, "x")
		}
		began := time.Now()
		<-ended
		if took := time.Since(began); took < 58*time.Second || took > 61*time.Second {
			t.Errorf("ended after %v", took)
		}
	})
}

// TestTunnelEndsWhenTheFarSideDoes: an end that cannot be half-passed on ends
// both ways.
func TestTunnelEndsWhenTheFarSideDoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		far := make(chan *msgtest.Conn, 1)
		s := &msgtest.Site{Answer: func(_ *msg.Request, res *msg.Response) {
			a, b := msgtest.Conns(100)
			far <- b
			res.Status, res.Tunnel = 101, a
		}}
		visitor, ended := start(t, NewServer(s, Limits{}), 1<<20)
		send(t, visitor, upgrade)
		b := <-far
		send(t, b, "bye")
		_ = b.CloseWrite()
		out, err := io.ReadAll(visitor)
		if err != nil || !strings.HasSuffix(string(out), "bye") {
			t.Errorf("err %v: %q", err, out)
		}
		send(t, visitor, "still here")
		synctest.Wait()
		p := make([]byte, 100)
		if n, err := b.Read(p); err != nil || string(p[:n]) != "still here" {
			t.Errorf("%q, %v", p[:n], err)
		}
		_ = b.Close()
		send(t, visitor, "x")
		<-ended
	})
}

func TestUpgradeThroughClientAndServer(t *testing.T) {
	inner, _ := start(t, NewServer(echo(1000), Limits{}), 1<<20)
	outer := &msgtest.Site{Answer: func(req *msg.Request, res *msg.Response) {
		c := NewClient(inner, ClientLimits{})
		if err := c.Do(t.Context(), req, nil, res); err != nil {
			t.Error(err)
		}
	}}
	visitor, ended := start(t, NewServer(outer, Limits{}), 1<<20)
	send(t, visitor, upgrade+"abc")
	_ = visitor.CloseWrite()
	out, err := io.ReadAll(visitor)
	if err != nil || !strings.HasSuffix(string(out), "\r\n\r\nabc") || strings.Count(string(out), "Upgrade: websocket") != 1 {
		t.Errorf("err %v: %q", err, out)
	}
	<-ended
}

// TestTunnelThatTakesNothingEnds: a far side that does not read is idle too.
func TestTunnelThatTakesNothingEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &msgtest.Site{Answer: func(_ *msg.Request, res *msg.Response) {
			near, _ := msgtest.Conns(10)
			res.Status, res.Tunnel = 101, near
		}}
		visitor, ended := start(t, NewServer(s, Limits{IdleTimeout: time.Minute}), 1<<20)
		began := time.Now()
		send(t, visitor, upgrade+strings.Repeat("x", 100))
		<-ended
		if took := time.Since(began); took > 61*time.Second || s.Err == nil {
			t.Errorf("ended after %v, err %v", took, s.Err)
		}
	})
}
