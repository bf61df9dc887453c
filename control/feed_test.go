package control_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/selvage-edge/selvage/control/store/storetest"
	"github.com/selvage-edge/selvage/feed"
	"github.com/selvage-edge/selvage/zone"
)

func (r *running) own(path string) string {
	return strings.TrimSuffix(r.API, "/client/v4") + "/selvage/v1" + path
}

// join makes a node and subscribes it; each stored entry's number is sent.
func join(t *testing.T, r *running, colo string) (*feed.Identity, *feed.Copy, <-chan uint64) {
	t.Helper()
	status, _, out := r.do(t, "POST", r.own("/join-tokens"), `{"ttl":60}`)
	if status != 200 {
		t.Fatalf("join token: %v", out)
	}
	token := out["result"].(map[string]any)["token"].(string)
	dir := t.TempDir()
	id, err := feed.Join(t.Context(), r.Feed, token, filepath.Join(dir, "id"), colo, "test")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := feed.Join(t.Context(), r.Feed, token, filepath.Join(dir, "again"), colo, "test"); !feed.Refused(err, feed.ReasonToken) {
		t.Errorf("the token's second use: %v", err)
	}
	copied, err := feed.OpenCopy(filepath.Join(dir, "copy"), feed.CopyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	seqs := make(chan uint64, 100)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	w := newWallet(id)
	r.wallets[id.NodeID] = w
	s := feed.NewSubscriber(feed.SubscriberConfig{
		Parents: []string{r.Feed}, Identity: id, Copy: copied, OnFrame: w.onFrame,
		OnEntry: func(e *feed.Entry) error {
			seqs <- e.Seq
			for _, c := range e.Changes {
				if strings.HasPrefix(c.Key, zone.PrefixPurge) && strings.Contains(string(c.Value), "reject-me") {
					return errors.New("refused by the test")
				}
			}
			return nil
		},
		OnSnapshot: func(seq uint64) error { seqs <- seq; return nil },
	})
	w.up = s.Up
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-done
		if err := copied.Close(); err != nil {
			t.Error(err)
		}
	})
	return id, copied, seqs
}

func await(t *testing.T, seqs <-chan uint64, want string) {
	t.Helper()
	late := time.After(10 * time.Second)
	for {
		select {
		case got := <-seqs:
			if fmt.Sprint(got) == want {
				return
			}
		case <-late:
			t.Fatalf("entry %s did not arrive", want)
		}
	}
}

// until polls a change until its answer satisfies ok.
func (r *running) until(t *testing.T, seq string, ok func(map[string]any) bool) map[string]any {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	late := time.After(10 * time.Second)
	for {
		_, _, out := r.do(t, "GET", r.own("/changes/"+seq), "")
		change, given := out["result"].(map[string]any)
		if given && ok(change) {
			return change
		}
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("change %s: %v", seq, change)
		}
	}
}

func list(change map[string]any, name string) []any { return change[name].([]any) }

func TestNodesGetChangesAndKeysAndReport(t *testing.T) {
	r := start(t, t.TempDir())
	_, _, out := r.do(t, "POST", r.API+"/zones", `{"name":"early.test"}`)
	early := out["result"].(map[string]any)["id"].(string)
	id, copied, seqs := join(t, r, "FRA")
	_, seq, out := r.do(t, "POST", r.API+"/zones", `{"name":"late.test"}`)
	late := out["result"].(map[string]any)["id"].(string)
	await(t, seqs, seq)
	change := r.until(t, seq, func(c map[string]any) bool { return len(list(c, "acked")) == 1 })
	acked := list(change, "acked")[0].(map[string]any)
	if acked["colo"] != "FRA" || acked["node"] != id.NodeID || len(list(change, "pending")) != 0 {
		t.Errorf("change: %v", change)
	}
	// The certificate made before the node joined and the one made after both
	// open at the node.
	for _, zoneID := range []string{early, late} {
		found := 0
		if err := copied.Scan(zone.Prefix(zoneID)+"cert/", func(_ string, value []byte, _ uint64) error {
			found++
			return r.wallets[id.NodeID].opens(t, value)
		}); err != nil || found != 1 {
			t.Errorf("zone %s: %d certificates, %v", zoneID, found, err)
		}
	}
	if change["text"] != "live in 1 of 1" || change["live"] != 1.0 || change["total"] != 1.0 || len(list(change, "missing")) != 0 {
		t.Errorf("change: %v", change)
	}
	_, seq, _ = r.do(t, "POST", r.API+"/zones/"+late+"/purge_cache", `{"files":["http://late.test/reject-me"]}`)
	change = r.until(t, seq, func(c map[string]any) bool { return len(list(c, "rejected")) == 1 })
	if why := list(change, "rejected")[0].(map[string]any)["reason"].(string); !strings.Contains(why, "refused by the test") {
		t.Errorf("rejection: %v", change)
	}
	if text := change["text"].(string); !strings.HasPrefix(text, "live in 0 of 1, rejected by FRA: ") {
		t.Errorf("rejection: %s", text)
	}
	_, _, out = r.do(t, "GET", r.own("/nodes"), "")
	node := out["result"].([]any)[0].(map[string]any)
	if node["connected"] != true || node["colo"] != "FRA" {
		t.Errorf("nodes: %v", node)
	}
	for _, body := range []string{`{"ttl":0}`, `{"ttl":99999999}`, `{"ttl":"x"}`} {
		if status, _, out := r.do(t, "POST", r.own("/join-tokens"), body); status != 400 {
			t.Errorf("join token %s: %d %v", body, status, out)
		}
	}
}

func TestFeedSaysWhereEachNodeStands(t *testing.T) {
	r := start(t, t.TempDir())
	_, _, seqs := join(t, r, "FRA")
	status, _, out := r.do(t, "POST", r.own("/join-tokens"), "")
	if status != 200 {
		t.Fatal(out)
	}
	gone := out["result"].(map[string]any)["token"].(string)
	if _, err := feed.Join(t.Context(), r.Feed, gone, filepath.Join(t.TempDir(), "id"), "NRT", "second"); err != nil {
		t.Fatal(err)
	}
	_, seq, _ := r.do(t, "POST", r.API+"/zones", `{"name":"a.test"}`)
	await(t, seqs, seq)
	change := r.until(t, seq, func(c map[string]any) bool { return c["live"] == 1.0 })
	if text := change["text"].(string); !strings.HasPrefix(text, "live in 1 of 2, missing NRT since ") {
		t.Errorf("change: %s", text)
	}
	_, _, out = r.do(t, "GET", r.own("/feed"), "")
	got := out["result"].(map[string]any)
	head, retained := got["head"].(map[string]any), got["retained"].(map[string]any)
	if fmt.Sprint(head["seq"]) != seq || head["time"] == nil || got["floor"] != 0.0 || retained["entries"] == 0.0 || retained["bytes"] == 0.0 ||
		got["leader"] == "" || got["leader"] != got["control"] || got["live"] != 1.0 || got["total"] != 2.0 {
		t.Errorf("feed: %v", got)
	}
	for _, n := range list(got, "nodes") {
		n := n.(map[string]any)
		here := n["colo"] == "FRA"
		if n["connected"] != here || here && (n["lag_entries"] != 0.0 || fmt.Sprint(n["applied"]) != seq) || !here && n["lag_seconds"] == 0.0 {
			t.Errorf("node: %v", n)
		}
	}
}

func TestRevokedNodeIsShutOut(t *testing.T) {
	r := start(t, t.TempDir())
	r.do(t, "POST", r.API+"/zones", `{"name":"a.test"}`)
	stolen, copied, _ := join(t, r, "FRA")
	_, _, seqs := join(t, r, "NRT")
	for id, want := range map[string]int{"x": 400, strings.Repeat("0", 32): 404, stolen.NodeID: 200} {
		if status, _, out := r.do(t, "DELETE", r.own("/nodes/"+id), ""); status != want {
			t.Errorf("revoke %s: %d %v, want %d", id, status, out, want)
		}
	}
	if err := stolen.Renew(t.Context(), nil, r.Feed); !feed.Refused(err, feed.ReasonRevoked) {
		t.Errorf("renewal: %v, want revoked", err)
	}
	_, seq, _ := r.do(t, "POST", r.API+"/zones", `{"name":"b.test"}`)
	await(t, seqs, seq)
	_, _, out := r.do(t, "GET", r.own("/nodes"), "")
	if nodes := out["result"].([]any); len(nodes) != 1 || nodes[0].(map[string]any)["colo"] != "NRT" {
		t.Errorf("nodes: %v", nodes)
	}
	if _, _, here, err := copied.Get(zone.NameKey("b.test")); here || err != nil {
		t.Errorf("the revoked node hears of new zones: %t, %v", here, err)
	}
}

func TestDevelopmentModeEndsByItself(t *testing.T) {
	dir := t.TempDir()
	r := start(t, dir)
	_, _, out := r.do(t, "POST", r.API+"/zones", `{"name":"dev.test"}`)
	path := r.API + "/zones/" + out["result"].(map[string]any)["id"].(string) + "/settings/development_mode"
	if status, _, out := r.do(t, "PATCH", path, `{"value":"on"}`); status != 200 {
		t.Fatal(out)
	}
	r.stop()
	place := storetest.Beside(t, dir)
	if place == "" {
		place = dir
	}
	storetest.Exec(t, place, `UPDATE settings SET expires = expires - 10800000000`)
	r = start(t, dir)
	path = r.API + path[strings.Index(path, "/zones/"):]
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	late := time.After(10 * time.Second)
	for {
		_, _, out := r.do(t, "GET", path, "")
		if out["result"].(map[string]any)["value"] == "off" {
			break
		}
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("development mode is still on: %v", out)
		}
	}
	r.until(t, "4", func(c map[string]any) bool { return c["head"].(float64) == 4 })
}
