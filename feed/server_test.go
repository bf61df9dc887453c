package feed

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestFiftySubscribersShareOneEncoding(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		edges := make([]*edge, 50)
		for i := range edges {
			edges[i] = w.edge(i, nil)
		}
		synctest.Wait()
		<-time.After(time.Second)
		for i := range 10 {
			w.log.set("a", fmt.Sprint(i))
			<-time.After(time.Second)
		}
		for _, e := range edges {
			e.reaches(10)
			e.has("a", "9")
		}
		if got := w.server.counters.encodes.Load(); got != 10 {
			t.Errorf("%d encodings of 10 changes for 50 subscribers, want 10", got)
		}
	})
}

func TestBurstSharesBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		e := w.edge(1, nil)
		synctest.Wait()
		for range 300 {
			w.log.set("a", "x")
			<-time.After(time.Second / 300)
		}
		e.reaches(300)
		if got := w.server.counters.encodes.Load(); got > 52 {
			t.Errorf("%d batches for 300 changes in a second, want at most 52 (20 ms each)", got)
		}
	})
}

// stranger speaks the subscriber's side by hand.
func stranger(t *testing.T, w *world, id *Identity, h hello) *tls.Conn {
	t.Helper()
	raw, err := w.dial(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = raw.Close() })
	conn := tls.Client(raw, id.ClientTLS(ALPNFeed))
	if err := writeFrame(conn, frameHello, h.append(nil)); err != nil {
		t.Fatal(err)
	}
	return conn
}

func refusal(t *testing.T, conn *tls.Conn) error {
	t.Helper()
	kind, p, err := readFrame(conn, nil, maxDownFrame)
	if err != nil {
		return err
	}
	if kind != frameError {
		t.Fatalf("frame of type %d, want an error", kind)
	}
	return decodeRefusal(p)
}

func TestHelloIsJudged(t *testing.T) {
	cases := []struct {
		name   string
		hello  hello
		known  error
		reason Reason
	}{
		{name: "wrong version", hello: hello{version: 9, node: nodeID(1), colo: "FRA"}, reason: ReasonVersion},
		{name: "another node's name", hello: hello{version: 2, node: nodeID(2), colo: "FRA"}, reason: ReasonUnknown},
		{name: "colo in small letters", hello: hello{version: 2, node: nodeID(1), colo: "fra"}, reason: ReasonMalformed},
		{name: "revoked", hello: hello{version: 2, node: nodeID(1), colo: "FRA"}, known: Refuse(ReasonRevoked, "x"), reason: ReasonRevoked},
		{name: "unknown", hello: hello{version: 2, node: nodeID(1), colo: "FRA"}, known: Refuse(ReasonUnknown, "x"), reason: ReasonUnknown},
		{name: "store down", hello: hello{version: 2, node: nodeID(1), colo: "FRA"}, known: errors.New("disk"), reason: ReasonInternal},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, func(cfg *ServerConfig) {
					cfg.Known = func(context.Context, string) error { return c.known }
				})
				conn := stranger(t, w, w.ca.identity(nodeID(1), "FRA"), c.hello)
				if err := refusal(t, conn); !Refused(err, c.reason) {
					t.Errorf("told %v, want %s", err, c.reason)
				}
				if peers := w.server.Peers(); len(peers) != 0 {
					t.Errorf("peers %v, want none", peers)
				}
			})
		})
	}
}

func TestOversizedHelloIsRefusedUnread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		raw, err := w.dial(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = raw.Close() }()
		conn := tls.Client(raw, w.ca.identity(nodeID(1), "FRA").ClientTLS(ALPNFeed))
		if _, err := conn.Write([]byte{0x7f, 0, 0, 0, frameHello}); err != nil {
			t.Fatal(err)
		}
		if err := refusal(t, conn); !Refused(err, ReasonMalformed) {
			t.Errorf("told %v, want malformed", err)
		}
	})
}

func TestStrangersCertificatesAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		other := newTestCA(t)
		try := func(config *tls.Config) error {
			raw, err := w.dial(t.Context(), "")
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = raw.Close() }()
			conn := tls.Client(raw, config)
			if err := conn.Handshake(); err != nil {
				return err
			}
			_, err = conn.Read(make([]byte, 1)) // a server's refusal arrives with the first read in TLS 1.3
			return err
		}
		stranger := other.identity(nodeID(1), "FRA")
		config := stranger.ClientTLS(ALPNFeed)
		config.VerifyConnection = nil
		if err := try(config); err == nil || !strings.Contains(err.Error(), "certificate") {
			t.Errorf("node of another CA: %v, want a certificate alert", err)
		}
		config = w.ca.identity(nodeID(1), "FRA").ClientTLS(ALPNFeed)
		config.GetClientCertificate = nil
		if err := try(config); err == nil || !strings.Contains(err.Error(), "certificate") {
			t.Errorf("no certificate: %v, want a certificate alert", err)
		}
		if err := try(stranger.ClientTLS(ALPNFeed)); err == nil || !strings.Contains(err.Error(), "not of our CA") {
			t.Errorf("server of another CA: %v, want the client to refuse", err)
		}
		config = w.ca.identity(nodeID(1), "FRA").ClientTLS("h2")
		if err := try(config); err == nil {
			t.Errorf("another protocol was admitted")
		}
	})
}

func TestANodeIsNoParent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		impostor := w.ca.identity(nodeID(7), "AMS")
		said := make(chan error, 64)
		w.edge(1, func(c *SubscriberConfig) {
			c.Dial = func(context.Context, string) (net.Conn, error) {
				a, b := net.Pipe()
				go func() {
					defer func() { _ = a.Close() }()
					conn := tls.Server(a, impostor.ServerTLS(ALPNFeed))
					_, _, err := readFrame(conn, nil, maxUpFrame)
					said <- err
				}()
				return b, nil
			}
		})
		if err := <-said; err == nil {
			t.Errorf("the subscriber said hello to a node that is not the control plane")
		}
	})
}

func TestSlowSubscriberCostsOnlyItsCursor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(c *ServerConfig) { c.RingBytes = 4 << 20 })
		fast := w.edge(1, nil)
		stranger(t, w, w.ca.identity(nodeID(2), "AMS"), hello{version: 2, node: nodeID(2), colo: "AMS"})
		synctest.Wait()
		if n := len(w.server.Peers()); n != 2 {
			t.Fatalf("%d peers, want 2", n)
		}
		value := strings.Repeat("v", 100<<10)
		start := time.Now()
		for i := range uint64(100) {
			w.log.set("a", value)
			fast.reaches(i + 1)
		}
		if d := time.Since(start); d > 5*time.Second {
			t.Errorf("the fast one took %s beside a slow one", d)
		}
		w.server.tail.mu.Lock()
		if got := w.server.tail.bytes; got > 4<<20 {
			t.Errorf("ring holds %d bytes for a slow subscriber, want at most 4 MiB", got)
		}
		w.server.tail.mu.Unlock()
		<-time.After(11 * time.Second)
		if peers := w.server.Peers(); len(peers) != 1 || peers[0].Node != nodeID(1) {
			t.Errorf("peers %+v, want the slow one cut off", peers)
		}
	})
}

func TestMutedSubscriberIsNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		conn := stranger(t, w, w.ca.identity(nodeID(2), "AMS"), hello{version: 2, node: nodeID(2), colo: "AMS"})
		var last error
		for last == nil { // it reads all, and never acknowledges
			_, _, last = readFrame(conn, nil, maxDownFrame)
		}
		synctest.Wait()
		if peers := w.server.Peers(); len(peers) != 0 {
			t.Errorf("peers %+v, want none", peers)
		}
	})
}

func TestDropTellsWhy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		conn := stranger(t, w, w.ca.identity(nodeID(2), "AMS"), hello{version: 2, node: nodeID(2), colo: "AMS"})
		if kind, _, err := readFrame(conn, nil, maxDownFrame); err != nil || kind != frameWelcome {
			t.Fatalf("frame %d, %v; want a welcome", kind, err)
		}
		synctest.Wait()
		w.server.Drop(nodeID(2), ReasonRevoked)
		if err := refusal(t, conn); !Refused(err, ReasonRevoked) {
			t.Errorf("told %v, want revoked", err)
		}
	})
}

func TestNodeThatConnectsAgainReplacesItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		id := w.ca.identity(nodeID(2), "AMS")
		h := hello{version: 2, node: nodeID(2), colo: "AMS"}
		first := stranger(t, w, id, h)
		if _, _, err := readFrame(first, nil, maxDownFrame); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		second := stranger(t, w, id, h)
		if _, _, err := readFrame(second, nil, maxDownFrame); err != nil {
			t.Fatal(err)
		}
		if err := refusal(t, first); !Refused(err, ReasonReplaced) {
			t.Errorf("told %v, want replaced", err)
		}
		synctest.Wait()
		if peers := w.server.Peers(); len(peers) != 1 {
			t.Errorf("peers %+v, want one", peers)
		}
	})
}

func TestLogThatCannotBeReadIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		e := w.edge(1, nil)
		synctest.Wait()
		w.log.mu.Lock()
		w.log.broken = errors.New("disk")
		w.log.mu.Unlock()
		w.log.set("a", "1")
		<-time.After(5 * time.Second)
		if got := e.copy.Cursor().Seq; got != 0 || !e.Status().Connected {
			t.Errorf("cursor %d, connected %t; want 0, true", got, e.Status().Connected)
		}
		w.log.mu.Lock()
		w.log.broken = nil
		w.log.mu.Unlock()
		e.reaches(1)
	})
}

func TestTooManyConnectionsAreClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(c *ServerConfig) { c.MaxConns = 2 })
		var conns []net.Conn
		for range 3 {
			c, err := w.dial(t.Context(), "")
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = c.Close() }()
			conns = append(conns, c)
			synctest.Wait()
		}
		if _, err := conns[2].Read(make([]byte, 1)); err == nil {
			t.Errorf("third connection of two is served")
		}
	})
}

func TestManyWhoComeBackGetSnapshotsInTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(c *ServerConfig) { c.MaxSnapshots = 1 })
		for range 20 {
			w.log.set("a", "1")
		}
		edges := make([]*edge, 12)
		for i := range edges {
			edges[i] = w.edge(i, nil)
		}
		for _, e := range edges {
			e.reaches(20)
			if _, snapshots := e.heard(); !slices.Equal(snapshots, []uint64{20}) {
				t.Errorf("snapshots %v, want 20", snapshots)
			}
		}
	})
}
