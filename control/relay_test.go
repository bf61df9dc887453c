package control_test

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/selvage-edge/selvage/feed"
)

// node is one that joined: a subscriber, and a server where it relays.
type node struct {
	id    *feed.Identity
	copy  *feed.Copy
	sub   *feed.Subscriber
	relay *feed.Server
	addr  string // of the relay
	stop  func()
}

func (r *running) node(t *testing.T, colo string, relays bool, parents ...string) *node {
	t.Helper()
	status, _, out := r.do(t, "POST", r.own("/join-tokens"), fmt.Sprintf(`{"ttl":60,"relay":%t}`, relays))
	if status != 200 {
		t.Fatalf("join token: %v", out)
	}
	dir := t.TempDir()
	n := &node{}
	var err error
	if n.id, err = feed.Join(t.Context(), r.Feed, out["result"].(map[string]any)["token"].(string), filepath.Join(dir, "id"), colo, "test"); err != nil {
		t.Fatal(err)
	}
	options := feed.CopyOptions{NoSync: true}
	if relays {
		options.Retain = feed.Retention{Entries: 1000}
	}
	if n.copy, err = feed.OpenCopy(filepath.Join(dir, "copy"), options); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var work sync.WaitGroup
	var sub atomic.Pointer[feed.Subscriber]
	if relays {
		n.relay = feed.NewServer(feed.ServerConfig{
			Log: feed.NewRelayLog(n.copy), Identity: n.id,
			Upstream: func() feed.Upstream { return sub.Load().Upstream() },
		})
	}
	n.sub = feed.NewSubscriber(feed.SubscriberConfig{
		Parents: parents, Identity: n.id, Copy: n.copy, Relay: n.relay, Announce: &feed.Announcement{Region: "eu"},
	})
	sub.Store(n.sub)
	work.Go(func() {
		if err := n.sub.Run(ctx); err != nil {
			t.Errorf("%s: %v", colo, err)
		}
	})
	if relays {
		ln, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // at once
		if err != nil {
			t.Fatal(err)
		}
		n.addr = ln.Addr().String()
		work.Go(func() {
			if err := n.relay.Serve(ctx, ln); err != nil {
				t.Errorf("%s: %v", colo, err)
			}
		})
	}
	n.stop = sync.OnceFunc(func() {
		cancel()
		work.Wait()
		if err := n.copy.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(n.stop)
	return n
}

// everywhere makes a change and waits until these nodes acknowledged it, and
// checks that all of them stand at the same history.
func (r *running) everywhere(t *testing.T, name string, nodes ...*node) {
	t.Helper()
	start := time.Now()
	defer func() { t.Logf("%s after %s", name, time.Since(start)) }()
	_, seq, out := r.do(t, "POST", r.API+"/zones", fmt.Sprintf(`{"name":%q}`, name))
	if seq == "" {
		t.Fatalf("zone: %v", out)
	}
	r.until(t, seq, func(change map[string]any) bool {
		acked := map[string]bool{}
		for _, a := range list(change, "acked") {
			acked[a.(map[string]any)["node"].(string)] = true
		}
		for _, n := range nodes {
			if !acked[n.id.NodeID] {
				return false
			}
		}
		return true
	})
	deadline := time.Now().Add(10 * time.Second)
	for _, n := range nodes[1:] {
		for n.copy.Cursor() != nodes[0].copy.Cursor() {
			if time.Now().After(deadline) {
				t.Fatalf("%s stands at %d with another hash than %s", n.id.Colo, n.copy.Cursor().Seq, nodes[0].id.Colo)
			}
			<-time.After(10 * time.Millisecond)
		}
	}
}

func TestChangesAreAcknowledgedThroughRelaysOfWhichOneDies(t *testing.T) {
	r := start(t, t.TempDir())
	first, second := r.node(t, "FRA", true, r.Feed), r.node(t, "AMS", true, r.Feed)
	both := []string{first.addr, second.addr, r.Feed}
	nodes := []*node{
		first, second,
		r.node(t, "BER", false, both...), r.node(t, "MUC", false, both...),
		r.node(t, "CDG", false, second.addr, first.addr), r.node(t, "LHR", false, second.addr, first.addr),
	}
	r.everywhere(t, "one.test", nodes...)
	first.stop()
	alive := nodes[1:]
	r.everywhere(t, "two.test", alive...)
	fresh := r.node(t, "NRT", false, second.addr)
	alive = append(alive, fresh)
	r.everywhere(t, "three.test", alive...)
	_, _, out := r.do(t, "GET", r.own("/nodes"), "")
	via := map[string]any{}
	for _, n := range out["result"].([]any) {
		n := n.(map[string]any)
		via[n["node"].(string)] = n["via"]
	}
	for _, n := range alive[3:] {
		if via[n.id.NodeID] != second.id.NodeID {
			t.Errorf("%s is said to hang at %v, want at %s", n.id.Colo, via[n.id.NodeID], second.id.NodeID)
		}
	}
	if status, _, out := r.do(t, "DELETE", r.own("/nodes/"+second.id.NodeID), ""); status != 200 {
		t.Fatalf("revoke: %v", out)
	}
	r.everywhere(t, "four.test", alive[1], alive[2]) // they have the control plane in their list
}
