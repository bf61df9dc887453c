package feed

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/selvage-edge/selvage/internal/pipes"
)

// relay is an edge that serves others.
type relay struct {
	*edge
	server *Server
	up     *Up
	ln     *pipes.Listener
	stop   func()
}

var keepAll = Retention{Entries: 1000}

// at dials by name: "root" is the world's server, a node's is its relay.
type network struct {
	mu   sync.Mutex
	at   map[string]*pipes.Listener // guarded by mu
	down map[string]bool            // guarded by mu
}

func newNetwork(w *world) *network {
	return &network{at: map[string]*pipes.Listener{"root": w.ln}, down: map[string]bool{}}
}

func (n *network) set(name string, ln *pipes.Listener) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.at[name] = ln
}

func (n *network) cut(name string, down bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.down[name] = down
}

func (n *network) dial(ctx context.Context, addr string) (net.Conn, error) {
	n.mu.Lock()
	ln, down := n.at[addr], n.down[addr]
	n.mu.Unlock()
	if ln == nil || down {
		return nil, errors.New("refused")
	}
	return ln.Dial(ctx)
}

// relay runs node n as a relay by that name.
func (w *world) relay(wires *network, n int, name string, parents ...string) *relay {
	w.t.Helper()
	return w.relayOn(wires, n, name, vfs.NewMem(), parents...)
}

func (w *world) relayOn(wires *network, n int, name string, disk vfs.FS, parents ...string) *relay {
	w.t.Helper()
	c, err := OpenCopy("copy", CopyOptions{FS: disk, NoSync: true, Retain: keepAll})
	if err != nil {
		w.t.Fatal(err)
	}
	r := &relay{ln: pipes.New(), up: NewUp(nil)}
	id := w.ca.identity(nodeID(n), "AMS"+relaySuffix)
	var sub atomic.Pointer[Subscriber]
	r.server = NewServer(ServerConfig{
		Log: NewRelayLog(c), Copy: c, Identity: id, Gather: time.Millisecond, Pass: r.up,
		Upstream: func() Upstream {
			if s := sub.Load(); s != nil {
				return s.Upstream()
			}
			return Upstream{}
		},
		Known: func(_ context.Context, node string) error {
			if _, _, revoked, err := c.Get(RevokedKey(node)); err != nil || revoked {
				return errors.Join(err, Refuse(ReasonRevoked, "%s", node))
			}
			return nil
		},
	})
	r.edge = w.edgeOn(n, c, func(cfg *SubscriberConfig) {
		cfg.Identity, cfg.Parents, cfg.Dial, cfg.Relay = id, parents, wires.dial, r.server
		cfg.Signals = r.up
	})
	sub.Store(r.Subscriber)
	wires.set(name, r.ln)
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan error, 1)
	go func() { done <- r.server.Serve(ctx, r.ln) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Errorf("Serve: %v", err)
		}
		r.edge.stop()
	})
	w.t.Cleanup(r.stop)
	return r
}

// below runs node n as an edge with these parents.
func (w *world) below(wires *network, n int, parents ...string) *edge {
	return w.edge(n, func(c *SubscriberConfig) { c.Parents, c.Dial = parents, wires.dial })
}

// state is all rows of an edge's copy.
func (e *edge) state() map[string]string {
	e.t.Helper()
	rows := map[string]string{}
	if err := e.copy.Scan("", func(key string, value []byte, seq uint64) error {
		rows[key] = fmt.Sprint(seq, " ", string(value))
		return nil
	}); err != nil {
		e.t.Fatal(err)
	}
	return rows
}

func (w *world) peers() string {
	var all []string
	for _, p := range w.server.Peers() {
		via := "root"
		if p.Via != "" {
			via = p.Via[len(p.Via)-2:]
		}
		all = append(all, fmt.Sprintf("%s<%s@%d", p.Node[len(p.Node)-2:], via, p.Acked))
	}
	return strings.Join(all, " ")
}

func TestRelaysPassOnAndReportEverybody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		wires := newNetwork(w)
		w.log.set("a", "1")
		one := w.relay(wires, 1, "one", "root")
		two := w.relay(wires, 2, "two", "one")
		edges := []*edge{w.below(wires, 3, "one"), w.below(wires, 4, "two"), w.below(wires, 5, "two")}
		for i := range uint64(20) {
			w.log.set("a", fmt.Sprint(i))
		}
		for _, e := range append(edges, one.edge, two.edge) {
			e.reaches(21)
			e.has("a", "19")
			if e.copy.Cursor() != one.copy.Cursor() {
				t.Errorf("chain differs")
			}
		}
		<-time.After(time.Second)
		if got, want := w.peers(), "31<root@21 32<31@21 33<31@21 34<31@21 35<31@21"; got != want {
			t.Errorf("root knows %s, want %s", got, want)
		}
		if got := w.server.counters.snapshots.Load(); got != 1 {
			t.Errorf("%d snapshots of the root, want 1: the first relay's", got)
		}
		edges[2].stop()
		<-time.After(20 * time.Second)
		if got, want := w.peers(), "31<root@21 32<31@21 33<31@21 34<31@21"; got != want {
			t.Errorf("after one went the root knows %s, want %s", got, want)
		}
		one.stop()
		<-time.After(time.Second)
		if got := w.peers(); got != "" {
			t.Errorf("after the relay went the root knows %s, want nobody", got)
		}
	})
}

func TestRejectionBelowARelayReachesTheRoot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		wires := newNetwork(w)
		w.relay(wires, 1, "one", "root")
		e := w.edge(2, func(c *SubscriberConfig) {
			c.Parents, c.Dial = []string{"one"}, wires.dial
			c.Announce = &Announcement{Region: "eu"}
			c.OnEntry = func(e *Entry) error {
				if e.Seq == 2 {
					return errors.New("zone x: no meta")
				}
				return nil
			}
		})
		<-time.After(2 * time.Second)
		for range 3 {
			w.log.set("a", "1")
		}
		e.reaches(3)
		<-time.After(time.Second)
		w.mu.Lock()
		defer w.mu.Unlock()
		if fmt.Sprint(w.acks) != "[FRA 2 zone x: no meta]" {
			t.Errorf("control heard %q, want the rejection of 2", w.acks)
		}
		if w.nodes[nodeID(2)] != 1 {
			t.Errorf("control heard %d times that node 2 connected, want once", w.nodes[nodeID(2)])
		}
	})
}

func TestRelayThatIsBehindAsksToWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		wires := newNetwork(w)
		w.log.set("a", "1")
		disk, relayDisk := vfs.NewMem(), vfs.NewMem()
		first := w.relayOn(wires, 1, "one", relayDisk, "root")
		e := w.edgeOn(2, memCopy(t, disk), func(c *SubscriberConfig) { c.Parents, c.Dial = []string{"root"}, wires.dial })
		first.reaches(1)
		first.stop()
		for range 5 {
			w.log.set("a", "2")
		}
		e.reaches(6)
		e.stop()
		wires.cut("root", true)
		second := w.relayOn(wires, 1, "one", relayDisk, "root")
		e = w.edgeOn(2, memCopy(t, disk), func(c *SubscriberConfig) { c.Parents, c.Dial = []string{"one"}, wires.dial })
		<-time.After(30 * time.Second)
		if st := e.Status(); st.Connected || e.copy.Cursor().Seq != 6 {
			t.Errorf("edge %+v at %d, want it to wait at 6", st, e.copy.Cursor().Seq)
		}
		wires.cut("root", false)
		w.log.set("a", "3")
		second.reaches(7)
		e.reaches(7)
		if _, snapshots := e.heard(); len(snapshots) > 0 || e.Status().Resume != ResumeTail {
			t.Errorf("snapshots %v, resume %s; want the tail alone", snapshots, e.Status().Resume)
		}
	})
}

func TestNewEdgeWaitsForARelayThatHasNothingYet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		wires := newNetwork(w)
		w.log.set("a", "1")
		wires.cut("root", true)
		w.relay(wires, 1, "one", "root")
		e := w.below(wires, 2, "one")
		<-time.After(10 * time.Second)
		if st := e.Status(); st.Connected {
			t.Errorf("edge %+v of a relay without a state, want it to wait", st)
		}
		wires.cut("root", false)
		e.reaches(1)
		e.has("a", "1")
	})
}

// The root was restored from an older backup: its relays take over what it has,
// and those below them too.
func TestRestoredRootReachesThoseBelowRelays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		wires := newNetwork(w)
		one := w.relay(wires, 1, "one", "root")
		w.relay(wires, 3, "two", "one")
		e := w.below(wires, 2, "one", "two")
		<-time.After(2 * time.Second)
		for range 8 {
			w.log.set("a", "lost")
		}
		one.reaches(8)
		e.reaches(8)
		w.stop()
		w.log = newMemLog()
		w.log.set("b", "restored")
		w.start(nil)
		wires.set("root", w.ln)
		one.reaches(1)
		<-time.After(time.Minute) // each of its relays asks it to wait first
		e.reaches(1)
		e.has("a", "")
		e.has("b", "restored")
		for range 9 {
			w.log.set("b", "new")
		}
		e.reaches(10)
	})
}

func TestSilentRelayIsReplacedWithinThreeSecondsAndTakenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		wires := newNetwork(w)
		w.log.set("a", "1")
		r := w.relay(wires, 1, "one", "root")
		r.reaches(1)
		var mu sync.Mutex
		var held *stalled
		e := w.edge(2, func(c *SubscriberConfig) {
			c.Parents = []string{"one", "root"}
			c.Dial = func(ctx context.Context, addr string) (net.Conn, error) {
				raw, err := wires.dial(ctx, addr)
				if err != nil || addr != "one" {
					return raw, err
				}
				mu.Lock()
				defer mu.Unlock()
				held = &stalled{Conn: raw, stop: make(chan struct{})}
				return held, nil
			}
		})
		e.reaches(1)
		if got := e.Status().Parent; got != "one" {
			t.Fatalf("parent %q, want the relay", got)
		}
		mu.Lock()
		close(held.stop)
		mu.Unlock()
		start := time.Now()
		for e.Status().Parent != "root" {
			<-time.After(10 * time.Millisecond)
			synctest.Wait()
			if time.Since(start) > 5*time.Second {
				t.Fatalf("still at %q", e.Status().Parent)
			}
		}
		if d := time.Since(start); d > 3100*time.Millisecond {
			t.Errorf("replaced after %s, want at most 3 s", d)
		}
		<-time.After(2 * time.Minute)
		if got := e.Status().Parent; got != "one" {
			t.Errorf("parent %q two minutes later, want the relay again", got)
		}
	})
}

// stalled is a connection on which nothing arrives any more after stop.
type stalled struct {
	net.Conn
	stop chan struct{}
}

func (s *stalled) Read(p []byte) (int, error) {
	n, err := s.Conn.Read(p)
	select {
	case <-s.stop:
		if err == nil {
			return s.Read(p) // swallowed
		}
	default:
	}
	return n, err
}

// A relay that is cut off speaks on; those below it look for another.
func TestRelayCutOffFromTheRootIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		wires := newNetwork(w)
		w.log.set("a", "1")
		r := w.relay(wires, 1, "one", "root")
		r.reaches(1)
		e := w.below(wires, 2, "one", "root")
		e.reaches(1)
		r.edge.Subscriber.cfg.Copy.moved() // nothing new: no harm
		// The relay alone loses the root.
		w.server.Drop(nodeID(1), ReasonReplaced)
		only := wires.at["root"]
		wires.set("root", nil)
		<-time.After(time.Second)
		wires.set("root", only)
		<-time.After(20 * time.Second)
		w.log.set("a", "2")
		e.reaches(2)
	})
}

// Frames of other parts go up and down, through a relay to whom they are for.
func TestDoors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var up, down []string
		note := func(to *[]string, text string) {
			mu.Lock()
			defer mu.Unlock()
			*to = append(*to, text)
		}
		w := newWorld(t, func(c *ServerConfig) {
			c.OnFrame = func(kind byte, from NodeInfo, p []byte) error {
				note(&up, fmt.Sprintf("%d %s %s", kind, from.Node[30:], p))
				return nil
			}
		})
		wires := newNetwork(w)
		r := w.relay(wires, 1, "one", "root")
		r.server.cfg.OnFrame = func(kind byte, _ NodeInfo, p []byte) error {
			r.Up(kind, append([]byte("relayed "), p...))
			return nil
		}
		r.cfg.OnFrame = func(_ context.Context, kind byte, p []byte) error {
			r.server.Send(string(p[:32]), kind, p)
			return nil
		}
		e := w.edge(2, func(c *SubscriberConfig) {
			c.Parents, c.Dial = []string{"one"}, wires.dial
			c.OnFrame = func(_ context.Context, kind byte, p []byte) error {
				note(&down, fmt.Sprintf("%d %s", kind, p[32:]))
				return nil
			}
		})
		<-time.After(2 * time.Second)
		if !e.Up(KindCertificateWanted, []byte("s")) || e.Up(KindCertificate, nil) || e.Up(KindCertificateWanted, make([]byte, MaxUpPayload+1)) {
			t.Errorf("Up takes a wrong kind or a payload over the limit, or refuses what is right")
		}
		if !w.server.Send(nodeID(2), KindCertificate, []byte(nodeID(2)+"c")) || w.server.Send(nodeID(9), KindCertificate, nil) || w.server.Send(nodeID(2), KindCertificateWanted, nil) {
			t.Errorf("Send to a node below a relay, to nobody or of a wrong kind")
		}
		if got := w.server.Broadcast(KindCertificateStaged, []byte(nodeID(2)+"all")); got != 1 {
			t.Errorf("broadcast to %d, want the relay", got)
		}
		<-time.After(2 * time.Second)
		mu.Lock()
		defer mu.Unlock()
		if got, want := fmt.Sprint(up, down), "[18 31 relayed s] [19 c 15 all]"; got != want {
			t.Errorf("heard %s, want %s", got, want)
		}
	})
}

func TestOnlyRelaysSpeakForOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		conn := stranger(t, w, w.ca.identity(nodeID(2), "AMS"), hello{version: 2, node: nodeID(2), colo: "AMS"})
		if kind, _, err := readFrame(conn, nil, maxDownFrame); err != nil || kind != frameWelcome {
			t.Fatalf("frame %d, %v; want the welcome", kind, err)
		}
		r := record{kind: recordReached, node: nodeID(3), colo: "FRA", seq: 9, at: time.Now(), since: time.Now()}
		if err := writeFrame(conn, frameProgress, r.append(nil)); err != nil {
			t.Fatal(err)
		}
		for {
			kind, p, err := readFrame(conn, nil, maxDownFrame)
			if err != nil {
				t.Fatalf("connection ended by %v, want a refusal", err)
			}
			if kind == frameError {
				if err := decodeRefusal(p); !Refused(err, ReasonRole) {
					t.Errorf("told %v, want the role", err)
				}
				break
			}
		}
		if got := w.peers(); strings.Contains(got, "33") {
			t.Errorf("root believes %s", got)
		}
	})
}

func TestVersionOneIsRefusedByName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		raw, err := w.ln.Dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = raw.Close() }()
		conn := tls.Client(raw, w.ca.identity(nodeID(1), "FRA").ClientTLS(alpnFeed1))
		if err := writeFrame(conn, frameHello, []byte{0, 1}); err != nil {
			t.Fatal(err)
		}
		if err := refusal(t, conn); !Refused(err, ReasonVersion) {
			t.Errorf("told %v, want wrong version", err)
		}
	})
}

func TestRevokedNodesAreNeitherServedNorBelieved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		wires := newNetwork(w)
		w.log.set("a", "1")
		r := w.relay(wires, 1, "one", "root")
		e := w.below(wires, 2, "one", "root")
		r.reaches(1)
		e.reaches(1)
		w.log.set(RevokedKey(nodeID(1)), "now") // the relay
		w.log.set(RevokedKey(nodeID(3)), "now") // an edge
		r.reaches(3)
		e.reaches(3)
		out := w.below(wires, 3, "one")
		<-time.After(5 * time.Second)
		if out.copy.Cursor().Seq != 0 || out.Status().Connected {
			t.Errorf("a revoked edge is served: %+v", out.Status())
		}
		again := w.edgeOn(4, memCopy(t, vfs.NewMem()), func(c *SubscriberConfig) {
			c.Parents, c.Dial = []string{"root", "one"}, wires.dial
		})
		again.reaches(3)
		if err := again.answersFrom("one"); err == nil {
			t.Errorf("a revoked relay is believed")
		}
	})
}

// answersFrom is what the handshake with a parent says.
func (e *edge) answersFrom(parent string) error {
	ctx := e.t.Context()
	raw, err := e.dial(ctx, parent)
	if err != nil {
		return err
	}
	l := newLink(e.Subscriber, raw, parent)
	defer func() { _ = raw.Close() }()
	return l.handshake(ctx)
}

// Relays that follow each other hand two old times to and fro, so that each hears
// another one than the last: that is no sign of the root.
func TestOldTimesOfARingAreNoSignOfTheRoot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := memCopy(t, vfs.NewMem())
		defer func() { _ = c.Close() }()
		l := &link{s: NewSubscriber(SubscriberConfig{Parents: []string{"ring", "root"}, Copy: c}), moved: time.Now(), progress: true}
		newer := time.Now()
		times := []time.Time{newer, newer.Add(-3 * time.Second)}
		var err error
		for i := range 10 {
			l.heard(heartbeat{at: times[i%2]})
			if err = l.stale(); err != nil {
				break
			}
			<-time.After(time.Second)
		}
		if !errors.Is(err, errStale) {
			t.Errorf("after 10 s of two times in turn: %v, want %v", err, errStale)
		}
	})
}
