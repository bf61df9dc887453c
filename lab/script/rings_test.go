package script

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/selvage-edge/selvage/client"
	"github.com/selvage-edge/selvage/rings"
)

// ringed is a network of three data centers, each in a ring of its own.
type ringed struct {
	*network
	canary, share, rest string
	zone                string
	visitors            map[string]*http.Client
	pids                map[string]int
}

func startRinged(t *testing.T, hold string) *ringed {
	t.Helper()
	origin, _ := page(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		_, _ = io.WriteString(w, r.URL.Path)
	})
	n := &ringed{network: dev(t, t.TempDir(), "--no-demo", "--edges", "3"), visitors: map[string]*http.Client{}, pids: map[string]int{}}
	n.onboard(t, "site.test", origin)
	n.zone = "/zones/" + n.zoneID(t, "site.test")
	n.cli(t, "zone", "topology", "site.test", "flat")
	n.canary, n.share, n.rest = n.Edges[0].Colo, n.Edges[1].Colo, n.Edges[2].Colo
	if rings.Rank(n.share) > rings.Rank(n.rest) {
		n.share, n.rest = n.rest, n.share
	}
	for _, e := range n.Edges {
		n.visitors[e.Colo], n.pids[e.Colo] = visitor(t, e.HTTP, ""), e.PID
	}
	percent := fmt.Sprint(rings.Rank(n.share)>>32 + 1)
	out := n.cli(t, "rings", "--canary", n.canary, "--share", percent, "--canary-hold", hold, "--share-hold", "2s", "--json")
	var r client.Rings
	unmarshal(t, []byte(out), &r)
	if len(r.Colos["canary"]) != 1 || len(r.Colos["share"]) != 1 || len(r.Colos["all"]) != 1 {
		t.Fatalf("rings: %s", out)
	}
	eventually(t, 20*time.Second, "each edge to say how it is", func() error {
		var f client.Feed
		unmarshal(t, []byte(n.cli(t, "feed", "status", "--json")), &f)
		for _, node := range f.Nodes {
			if node.Health == nil {
				return errors.New(node.Colo + " has not")
			}
		}
		return nil
	})
	return n
}

// rollout is where a stage stands.
func (n *ringed) rollout(t *testing.T, stage string) client.Rollout {
	t.Helper()
	var r client.Rollout
	unmarshal(t, []byte(n.cli(t, "rollout", "show", stage, "--json")), &r)
	return r
}

func (n *ringed) reaches(t *testing.T, stage, state string) client.Rollout {
	t.Helper()
	var r client.Rollout
	eventually(t, 60*time.Second, "stage "+stage+" to be "+state, func() error {
		if r = n.rollout(t, stage); r.State != state {
			return errors.New(r.Text)
		}
		return nil
	})
	return r
}

func (n *ringed) status(t *testing.T, colo string) int {
	t.Helper()
	a, err := fetch(n.visitors[colo], "http://site.test/x")
	if err != nil {
		t.Fatalf("%s: %v", colo, err)
	}
	return a.Status
}

// A change goes from ring to ring, also past a control plane that is killed.
func TestChangeGoesFromRingToRing(t *testing.T) {
	n := startRinged(t, "4s")
	out := n.cli(t, "settings", "set", "site.test", "always_use_https", "on", "--rollout", "rings")
	if !strings.Contains(out, "always_use_https of site.test is on by rings, as stage 1 ") {
		t.Errorf("said %q", out)
	}
	if got := n.status(t, n.canary); got != 301 {
		t.Errorf("the canary answers %d", got)
	}
	if a, b := n.status(t, n.share), n.status(t, n.rest); a != 200 || b != 200 {
		t.Errorf("the others answer %d and %d while the canary has it", a, b)
	}
	if out, err := n.tryCLI("settings", "set", "site.test", "brotli", "off"); err == nil || !strings.Contains(out, "stage 1, ") {
		t.Errorf("a change of what is on its way: %v %s", err, out)
	}
	if err := syscall.Kill(n.Ctl.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, 60*time.Second, "the share to have it", func() error {
		if got := n.status(t, n.share); got != 301 {
			return fmt.Errorf("%s answers %d", n.share, got)
		}
		return nil
	})
	if got := n.status(t, n.rest); got != 200 {
		t.Errorf("the rest answers %d as soon as the share has it", got)
	}
	eventually(t, 60*time.Second, "all to have it", func() error {
		if got := n.status(t, n.rest); got != 301 {
			return fmt.Errorf("%s answers %d", n.rest, got)
		}
		return nil
	})
	n.reload(t)
	r := n.reaches(t, "1", "released")
	if len(r.Steps) != 3 || len(r.Has) != 3 {
		t.Errorf("%+v", r)
	}
	t.Logf("steps: %+v", r.Steps)
}

// staged makes a change by rings and returns its stage.
func (n *ringed) staged(t *testing.T, method, path, body string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, n.API+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+n.Token)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Selvage-Rollout", "rings")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != 200 {
		t.Fatalf("%d %s %v", res.StatusCode, text, err)
	}
	return res.Header.Get("Selvage-Stage")
}

// A change that sends visitors to an origin which is not there is halted while
// only the canary has it, and the canary serves what it served before.
func TestChangeThatMakesRequestsFailIsHalted(t *testing.T) {
	n := startRinged(t, "10m")
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := gone.Addr().(*net.TCPAddr).Port
	if err := gone.Close(); err != nil {
		t.Fatal(err)
	}
	was, _ := n.call(t, "GET", n.zone+"/rulesets/phases/http_request_origin/entrypoint", nil)
	stop := make(chan struct{})
	var load sync.WaitGroup
	failed := map[string]*atomic.Int64{}
	for colo, c := range n.visitors {
		count := &atomic.Int64{}
		failed[colo] = count
		load.Go(func() {
			tick := time.NewTicker(20 * time.Millisecond)
			defer tick.Stop()
			for {
				select {
				case <-stop:
					return
				case <-tick.C:
				}
				if a, err := fetch(c, "http://site.test/load"); err != nil || a.Status >= 500 {
					count.Add(1)
				}
			}
		})
	}
	rules := map[string]any{"rules": []any{map[string]any{
		"action": "route", "expression": "true", "action_parameters": map[string]any{"origin": map[string]any{"host": "127.0.0.1", "port": port}},
	}}}
	body, err := json.Marshal(rules)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	stage := n.staged(t, "PUT", n.zone+"/rulesets/phases/http_request_origin/entrypoint", string(body))
	r := n.reaches(t, stage, "halted")
	t.Logf("halted after %s: %s; failed at %s: %d", time.Since(began).Round(time.Millisecond), r.Text, n.canary, failed[n.canary].Load())
	if !strings.Contains(r.Text, "errors rose: ") || r.Ring != "canary" || r.Steps[len(r.Steps)-1].By != "control" {
		t.Errorf("%+v", r)
	}
	eventually(t, 20*time.Second, "the canary to serve what it did", func() error {
		if got := n.status(t, n.canary); got != 200 {
			return fmt.Errorf("it answers %d", got)
		}
		return nil
	})
	close(stop)
	load.Wait()
	if failed[n.canary].Load() == 0 || failed[n.share].Load() > 0 || failed[n.rest].Load() > 0 {
		t.Errorf("failed: %d at the canary, %d and %d at the others", failed[n.canary].Load(), failed[n.share].Load(), failed[n.rest].Load())
	}
	if now, _ := n.call(t, "GET", n.zone+"/rulesets/phases/http_request_origin/entrypoint", nil); string(now) != string(was) {
		t.Errorf("after the halt the rules are %s, before %s", now, was)
	}
}

// A canary that crashes while it has a change takes it back.
func TestChangeWithWhichTheCanaryCrashesIsHalted(t *testing.T) {
	n := startRinged(t, "10m")
	stage := n.staged(t, "PATCH", n.zone+"/settings/always_use_https", `{"value":"on"}`)
	if err := syscall.Kill(n.pids[n.canary], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	r := n.reaches(t, stage, "halted")
	t.Logf("%s", r.Text)
	if !strings.Contains(r.Text, "started again since") && !strings.Contains(r.Text, "away for") || !strings.Contains(r.Text, n.canary) {
		t.Errorf("%+v", r)
	}
}
