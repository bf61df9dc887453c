package feed

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// hearing is what readers at the root heard.
type hearing struct {
	mu   sync.Mutex
	said []string // guarded by mu
}

func (h *hearing) readers(of ...Class) map[Class]Reader {
	all := map[Class]Reader{}
	for _, c := range of {
		all[c] = func(s Report) error {
			if bytes.HasPrefix(s.Payload, []byte("rubbish")) {
				return errFrame
			}
			h.mu.Lock()
			defer h.mu.Unlock()
			h.said = append(h.said, fmt.Sprintf("%s %s %s %s", s.Class, s.Node.Node[31:], s.Node.Colo, s.Payload))
			return nil
		}
	}
	return all
}

func (h *hearing) text() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return strings.Join(h.said, "; ")
}

// upEdge runs node n with an Up.
func (w *world) upEdge(wires *network, n int, parents ...string) (*edge, *Up) {
	up := NewUp(nil)
	return w.edge(n, func(c *SubscriberConfig) { c.Parents, c.Dial, c.Signals = parents, wires.dial, up }), up
}

func TestSignalsReachTheirReadersThroughRelays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hearing{}
		w := newWorld(t, func(c *ServerConfig) { c.Readers = h.readers(ClassHealth, ClassMeasurement, ClassThreat) })
		wires := newNetwork(w)
		w.log.set("a", "1")
		one := w.relay(wires, 1, "one", "root")
		w.relay(wires, 2, "two", "one")
		_, near := w.upEdge(wires, 3, "root")
		_, far := w.upEdge(wires, 4, "two")
		far.Offer(ClassThreat, []byte("before it connects"))
		<-time.After(3 * time.Second)
		if got, want := h.text(), "threat 4 FRA before it connects"; got != want {
			t.Errorf("heard %q, want %q", got, want)
		}
		near.Offer(ClassMeasurement, []byte("n"))
		one.up.Offer(ClassHealth, []byte("relay"))
		<-time.After(time.Second)
		far.Offer(ClassThreat, []byte("t"))
		far.Offer(ClassMeasurement, []byte("m"))
		far.Offer(ClassHealth, []byte("h1"))
		far.Offer(ClassHealth, []byte("h2"))
		far.Offer(ClassMeasurement, []byte("rubbish"))
		<-time.After(time.Second)
		want := "threat 4 FRA before it connects; measurement 3 FRA n; health 1 AMS relay; health 4 FRA h2; measurement 4 FRA m; threat 4 FRA t"
		if got := h.text(); got != want && got != strings.Replace(want, "measurement 3 FRA n; health 1 AMS relay", "health 1 AMS relay; measurement 3 FRA n", 1) {
			t.Errorf("heard %q, want %q", got, want)
		}
		if got := far.dropped[ClassHealth].Load(); got != 1 {
			t.Errorf("%d health signals counted as dropped, want the one that a newer one replaced", got)
		}
		if got := w.server.signals.refused[refusedPayload].Load(); got != 1 {
			t.Errorf("%d signals counted that their reader could not use, want 1", got)
		}
	})
}

// A relay tells of a node before it passes signals of it on, also with nobody
// reporting for a while.
func TestSignalsOfANewNodeAreBelieved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hearing{}
		w := newWorld(t, func(c *ServerConfig) { c.Readers = h.readers(ClassThreat) })
		wires := newNetwork(w)
		w.log.set("a", "1")
		w.relay(wires, 1, "one", "root")
		w.relay(wires, 2, "two", "one")
		<-time.After(3 * time.Second)
		for n := 10; n < 40; n++ {
			_, up := w.upEdge(wires, n, "two")
			up.Offer(ClassThreat, []byte("t"))
			<-time.After(17 * time.Millisecond)
		}
		<-time.After(3 * time.Second)
		if got := strings.Count(h.text(), "threat"); got != 30 {
			t.Errorf("heard %d signals, want 30", got)
		}
		if got := w.server.signals.refused[refusedPlace].Load(); got != 0 {
			t.Errorf("%d signals not believed of the relay, want 0", got)
		}
	})
}

func TestHostileBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		group := func(n int, signals ...string) []byte {
			p := appendNodeID(nil, nodeID(n))
			p = binary.BigEndian.AppendUint16(p, uint16(len(signals)))
			for _, s := range signals {
				p = binary.BigEndian.AppendUint16(append(p, s[0]), uint16(len(s)-1))
				p = append(p, s[1:]...)
			}
			return p
		}
		batch := func(groups ...[]byte) []byte { return append([]byte{batchVersion}, bytes.Join(groups, nil)...) }
		for _, c := range []struct {
			name  string
			colo  string
			p     []byte
			want  Reason // 0: the connection stays
			heard string
			count int // what is counted as refused
		}{
			{"its own", "AMS", batch(group(2, "\x01a", "\x03b")), 0, "health 2 AMS a; threat 2 AMS b", 0},
			{"empty", "AMS", nil, ReasonMalformed, "", 0},
			{"no groups", "AMS", batch(), 0, "", 0},
			{"a newer version", "AMS", []byte{2}, ReasonVersion, "", 0},
			{"half a group", "AMS", batch(group(2, "\x01a"), group(2, "\x01b")[:17]), ReasonMalformed, "", 0},
			{"a group of none", "AMS", batch(group(2)), ReasonMalformed, "", 0},
			{"half a signal", "AMS", batch(group(2, "\x01a", "\x01bc")[:24]), ReasonMalformed, "", 0},
			{"too long a signal", "AMS", batch(group(2, "\x01"+strings.Repeat("a", MaxSignalBytes+1))), ReasonMalformed, "", 0},
			{"a class that is not known", "AMS", batch(group(2, "\x00a", "\x09b", "\x01c")), 0, "health 2 AMS c", 2},
			{"a class that nobody reads", "AMS", batch(group(2, "\x02a")), 0, "", 1},
			{"of another, by a node", "AMS", batch(group(3, "\x01a")), ReasonRole, "", 0},
			{"of another, by a relay that is not above it", "AMS relay", batch(group(3, "\x01a"), group(2, "\x01b")), 0, "health 2 AMS b", 1},
		} {
			h := &hearing{}
			w := newWorld(t, func(c *ServerConfig) { c.Readers = h.readers(ClassHealth, ClassThreat) })
			conn := stranger(t, w, w.ca.identity(nodeID(2), c.colo), hello{version: 2, node: nodeID(2), colo: "AMS"})
			if kind, _, err := readFrame(conn, nil, maxDownFrame); err != nil || kind != frameWelcome {
				t.Fatalf("%s: frame %d, %v; want the welcome", c.name, kind, err)
			}
			if err := writeFrame(conn, frameSignals, c.p); err != nil {
				t.Fatal(err)
			}
			if c.want == 0 {
				if err := writeFrame(conn, frameSignals, batch(group(2, "\x01still here"))); err != nil {
					t.Fatal(err)
				}
			}
			<-time.After(500 * time.Millisecond)
			heard, refused := h.text(), uint64(0)
			for i := range w.server.signals.refused {
				refused += w.server.signals.refused[i].Load()
			}
			want := c.heard
			if c.want == 0 {
				want = strings.TrimPrefix(want+"; health 2 AMS still here", "; ")
			}
			if heard != want || refused != uint64(c.count) {
				t.Errorf("%s: heard %q, want %q; %d refused, want %d", c.name, heard, want, refused, c.count)
			}
			for c.want != 0 {
				kind, p, err := readFrame(conn, nil, maxDownFrame)
				if err != nil {
					t.Errorf("%s: %v, want an error frame", c.name, err)
					break
				}
				if kind == frameError {
					if err := decodeRefusal(p); !Refused(err, c.want) {
						t.Errorf("%s: %v, want %s", c.name, err, c.want)
					}
					break
				}
			}
			_ = conn.Close()
			w.stop()
		}
	})
}

func TestQueuesOfSignalsAreBounded(t *testing.T) {
	count := func(u *Up) (n int, first, last string) {
		for {
			frame, more := u.take(nodeID(1))
			if frame == nil {
				return n, first, last
			}
			if len(frame) > frameHead+maxUpFrame {
				t.Fatalf("a frame of %d bytes", len(frame))
			}
			if err := readBatch(frame[frameHead:], func(string) (bool, error) { return true, nil }, func(_ Class, p []byte) {
				if n++; n == 1 {
					first = string(p[:8])
				}
				last = string(p[:8])
			}); err != nil {
				t.Fatal(err)
			}
			if !more {
				return n, first, last
			}
		}
	}
	fill := func(u *Up, c Class, node string, n int) {
		for i := range n {
			u.put(c, node, fmt.Appendf(nil, "%08d%s", i, strings.Repeat("x", 1000)))
		}
	}
	const size = queuedHead + 1008
	for _, c := range []struct {
		name        string
		class       Class
		node        string
		kept        int
		first, last string
	}{
		{"of one's own the oldest go", ClassMeasurement, "", maxWaiting / size, fmt.Sprintf("%08d", 10000-maxWaiting/size), "00009999"},
		{"a node below has its share", ClassThreat, nodeID(2), quota / size, "00000000", fmt.Sprintf("%08d", quota/size-1)},
		{"audit of a node below that has no room is left to it", ClassAudit, nodeID(2), quota / size, "00000000", fmt.Sprintf("%08d", quota/size-1)},
		{"of health the newest waits", ClassHealth, nodeID(2), 1, "00009999", "00009999"},
	} {
		u := NewUp(nil)
		fill(u, c.class, c.node, 10000)
		n, first, last := count(u)
		if n != c.kept || first != c.first || last != c.last {
			t.Errorf("%s: %d kept from %s to %s, want %d from %s to %s", c.name, n, first, last, c.kept, c.first, c.last)
		}
		if got := int(u.dropped[c.class].Load()) + n; got != 10000 {
			t.Errorf("%s: %d kept or counted as dropped, want 10000", c.name, got)
		}
		if q := &u.queues[c.class]; q.bytes != 0 || len(q.nodes) != 0 || !q.empty() {
			t.Errorf("%s: %d bytes of %d nodes are left", c.name, q.bytes, len(q.nodes))
		}
	}
	// One loud node leaves room for others.
	u := NewUp(nil)
	fill(u, ClassThreat, nodeID(2), 10000)
	fill(u, ClassThreat, nodeID(3), 10)
	if n, _, _ := count(u); n != quota/size+10 {
		t.Errorf("%d signals beside a loud node, want all 10 and its share", n-quota/size)
	}
}

func TestPrioritiesOfSignals(t *testing.T) {
	u := NewUp(nil)
	for i := range 3 {
		for c := ClassAudit; c >= ClassHealth; c-- {
			u.put(c, nodeID(10+i), []byte{byte('a' + i)})
		}
	}
	for range 100 { // more than a frame
		u.put(ClassMeasurement, "", make([]byte, 1000))
	}
	frame, more := u.take(nodeID(1))
	var got [classes]int
	var order []byte
	if err := readBatch(frame[frameHead:], func(string) (bool, error) { return true, nil }, func(c Class, p []byte) {
		got[c]++
		if len(order) == 0 || order[len(order)-1] != byte(c) {
			order = append(order, byte(c))
		}
	}); err != nil {
		t.Fatal(err)
	}
	// Threats wait for measurements; audit has its share.
	if got[ClassHealth] != 3 || got[ClassThreat] != 0 || got[ClassAudit] != 3 || got[ClassMeasurement] < 50 || !more || string(order) != "\x01\x02\x04" {
		t.Errorf("a frame has %v of each class in the order %v, more %t", got, order, more)
	}
}

func TestOfferRefusesWhatCannotTravel(t *testing.T) {
	u := NewUp(nil)
	if u.Offer(0, nil) || u.Offer(9, nil) || u.Offer(ClassAudit, nil) || u.Offer(ClassHealth, make([]byte, MaxSignalBytes+1)) || !u.Offer(ClassHealth, make([]byte, MaxSignalBytes)) {
		t.Errorf("Offer takes what cannot travel, or refuses what can")
	}
}

func FuzzBatch(f *testing.F) {
	u := NewUp(nil)
	u.put(ClassHealth, nodeID(2), []byte("h"))
	u.put(ClassAudit, nodeID(3), []byte("a"))
	frame, _ := u.take(nodeID(1))
	f.Add(frame[frameHead:])
	f.Add([]byte{batchVersion})
	f.Fuzz(func(t *testing.T, p []byte) {
		w := batchWriter{p: []byte{batchVersion}}
		node, begun := "", false
		err := readBatch(p, func(n string) (bool, error) {
			node, begun = n, true
			return true, nil
		}, func(c Class, payload []byte) {
			if !w.add(c, node, payload, 1<<30) {
				t.Fatal("no room")
			}
		})
		if err != nil {
			if begun {
				t.Fatalf("a part was passed of a batch with %v", err)
			}
			return
		}
		var all, again []string
		list := func(to *[]string) func(Class, []byte) {
			return func(c Class, payload []byte) { *to = append(*to, fmt.Sprint(node, c, string(payload))) }
		}
		name := func(n string) (bool, error) { node = n; return true, nil }
		if err := readBatch(p, name, list(&all)); err != nil {
			t.Fatal(err)
		}
		if err := readBatch(w.p, name, list(&again)); err != nil {
			t.Fatal(err)
		}
		if fmt.Sprint(all) != fmt.Sprint(again) {
			t.Fatalf("written again it says %v, before %v", again, all)
		}
	})
}

// What an earlier parent was told may be lost with it: rejections that hold are
// told again, by the node itself and by a relay.
func TestRejectionsAreSaidAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		wires := newNetwork(w)
		w.log.set("a", "1")
		r := w.relay(wires, 1, "one", "root")
		holds := []Rejection{{1, "still bad"}}
		w.edge(2, func(c *SubscriberConfig) {
			c.Parents, c.Dial = []string{"root"}, wires.dial
			c.Standing = func() []Rejection { return holds }
		})
		w.edge(3, func(c *SubscriberConfig) {
			c.Parents, c.Dial = []string{"one"}, wires.dial
			c.OnSnapshot = func(uint64) error { return errFrame }
		})
		<-time.After(2 * time.Second)
		said := func() string {
			w.mu.Lock()
			defer w.mu.Unlock()
			all := slices.Clone(w.acks)
			slices.Sort(all)
			w.acks = nil
			return strings.Join(all, ", ")
		}
		const want = "FRA 1 malformed frame, FRA 1 still bad"
		if got := said(); got != want {
			t.Errorf("first said %q, want %q", got, want)
		}
		for range 2 {
			w.server.Drop(r.cfg.Identity.NodeID, ReasonInternal)
			w.server.Drop(nodeID(2), ReasonInternal)
			<-time.After(3 * time.Second)
			if got := said(); got != want {
				t.Errorf("on a new connection said %q, want %q", got, want)
			}
		}
		holds = nil
		w.server.Drop(nodeID(2), ReasonInternal)
		<-time.After(3 * time.Second)
		if got := said(); got != "" {
			t.Errorf("said %q of what is good again", got)
		}
	})
}
