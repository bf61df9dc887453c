package script

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/selvage-edge/selvage/control/store"
	"github.com/selvage-edge/selvage/feed"
	"github.com/selvage-edge/selvage/zone"
)

var seqOf = regexp.MustCompile(`\(seq (\d+)`)

// A zone goes back to an earlier state at its edges, and so does one that is gone.
func TestRollbackReachesVisitors(t *testing.T) {
	origin, _ := page(t, cacheable("here"))
	n := dev(t, t.TempDir(), "--no-demo", "--edges", "1")
	made := seqOf.FindStringSubmatch(n.cli(t, "zone", "add", "site.test", "--origin", origin.URL))
	if made == nil {
		t.Fatal("zone add tells no number")
	}
	c := visitor(t, n.Edges[0].HTTP, "")
	status := func(want int) {
		t.Helper()
		eventually(t, 10*time.Second, fmt.Sprintf("status %d", want), func() error {
			a, err := fetch(c, "http://site.test/")
			if err == nil && a.Status != want {
				err = fmt.Errorf("status %d", a.Status)
			}
			return err
		})
	}
	status(200)
	n.cli(t, "settings", "set", "site.test", "always_use_https", "on")
	status(301)
	if out := n.cli(t, "zone", "history", "site.test"); !strings.Contains(out, `+ always_use_https "on"`) || !strings.Contains(out, "+ A site.test 127.0.0.1 ttl 1 proxied") {
		t.Errorf("history:\n%s", out)
	}
	if out := n.cli(t, "zone", "rollback", "site.test", "--to", made[1], "--dry-run"); !strings.Contains(out, `- always_use_https "on"`) {
		t.Errorf("dry run:\n%s", out)
	}
	status(301)
	n.cli(t, "zone", "rollback", "site.test", "--to", made[1])
	status(200)
	if out, err := n.tryCLI("zone", "rollback", "site.test", "--to", "1"); err == nil || !strings.Contains(out, "did not exist then") {
		t.Errorf("to before the zone was made: %v\n%s", err, out)
	}
	var zones []struct{ ID string }
	if err := json.Unmarshal([]byte(n.cli(t, "zone", "list", "--json")), &zones); err != nil {
		t.Fatal(err)
	}
	n.cli(t, "zone", "delete", "site.test")
	status(421)
	n.cli(t, "zone", "rollback", zones[0].ID, "--to", made[1], "--keep-certificates")
	status(200)
}

// Switches reach visitors, survive an edge that dies, and are seen where one looks.
func TestKillSwitchReachesVisitorsAndSurvivesARestart(t *testing.T) {
	origin, _ := page(t, cacheable("here"))
	n := dev(t, t.TempDir(), "--no-demo", "--edges", "1")
	n.onboard(t, "site.test", origin)
	n.onboard(t, "other.test", origin)
	see := func(host, cache string, want int) {
		t.Helper()
		eventually(t, 15*time.Second, fmt.Sprintf("%s: %q %d", host, cache, want), func() error {
			a, err := fetch(visitor(t, n.Edges[0].HTTP, ""), "http://"+host+"/x")
			if err == nil && (a.Status != want || a.Header.Get("CF-Cache-Status") != cache) {
				err = fmt.Errorf("status %d, cache %q", a.Status, a.Header.Get("CF-Cache-Status"))
			}
			return err
		})
	}
	see("site.test", "HIT", 200)
	n.cli(t, "kill", "set", "cache", "--reason", "incident 12", "--for", "1h")
	n.cli(t, "kill", "set", "zone/other.test", "--reason", "abuse")
	see("site.test", "", 200)
	see("other.test", "", 503)
	for _, out := range []string{n.cli(t, "kill", "list"), n.cli(t, "feed", "status", "--once")} {
		if !strings.Contains(out, "cache") || !strings.Contains(out, "incident 12") || !strings.Contains(out, "abuse") {
			t.Errorf("what is set is not seen in:\n%s", out)
		}
	}
	old := n.Edges[0].PID
	if err := syscall.Kill(old, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, 20*time.Second, "a new edge", func() error {
		n.reload(t)
		if n.Edges[0].PID == old || !alive(n.Edges[0].PID) {
			return errors.New("same process")
		}
		return nil
	})
	see("site.test", "", 200)
	see("other.test", "", 503)
	m := get(t, http.DefaultClient, "http://"+n.Edges[0].Metrics+"/metrics")
	if !strings.Contains(m.Body, `selvage_edge_kill_switch{name="cache"} 1`) || !strings.Contains(m.Body, "selvage_edge_killed_zones 1") {
		t.Error("the edge's metrics do not tell of the switches")
	}
	n.cli(t, "kill", "set", "cache", "--reason", "a moment longer", "--for", "1s")
	see("site.test", "HIT", 200) // by itself
	n.cli(t, "kill", "clear", "zone/other.test")
	see("other.test", "HIT", 200)
	if out, err := n.tryCLI("kill", "clear", "cache"); err == nil {
		t.Errorf("clearing what is not set:\n%s", out)
	}
}

func TestQuotaIsAnsweredWith429(t *testing.T) {
	a := &apart{dir: t.TempDir()}
	state := filepath.Join(a.dir, "control")
	a.control = start(t, "control", "--state", state, "--api", "127.0.0.1:0", "--feed", "127.0.0.1:0", "--quota-rate", "0.001", "--quota-burst", "2")
	var c struct{ API string }
	waitJSON(t, filepath.Join(state, "control.json"), &c)
	text, err := os.ReadFile(filepath.Join(state, "token"))
	if err != nil {
		t.Fatal(err)
	}
	token := strings.TrimSpace(string(text))
	for i := range 4 {
		req, err := http.NewRequestWithContext(t.Context(), "POST", c.API+"/zones", strings.NewReader(fmt.Sprintf(`{"name":"z%d.test"}`, i)))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		var e struct {
			Errors []struct {
				Code    int
				Message string
			}
		}
		err = errors.Join(json.NewDecoder(res.Body).Decode(&e), res.Body.Close())
		if err != nil {
			t.Fatal(err)
		}
		status := res.StatusCode
		if i < 2 && status != 200 || i >= 2 && (status != 429 || res.Header.Get("Retry-After") == "" || e.Errors[0].Code != 971 || !strings.Contains(e.Errors[0].Message, "0.001 changes a second (2 at once)")) {
			t.Errorf("change %d: %d, Retry-After %q, %+v", i+1, status, res.Header.Get("Retry-After"), e.Errors)
		}
	}
	// What an operator needs is not counted.
	a.network().cli(t, "kill", "set", "cache", "--reason", "test")
}

// An entry that an edge cannot use leaves its zone as it was, and is named.
func TestRejectedEntryIsNamedAndTheZoneServedOn(t *testing.T) {
	origin, _ := page(t, cacheable("here"))
	a := startApart(t)
	a.network().cli(t, "zone", "add", "site.test", "--origin", origin.URL)
	var zones []struct{ ID string }
	if err := json.Unmarshal([]byte(a.network().cli(t, "zone", "list", "--json")), &zones); err != nil {
		t.Fatal(err)
	}
	if err := a.control.stop(t); err != nil {
		t.Fatal(err)
	}
	// As a control plane of a later version may write it.
	s, err := store.Open(t.Context(), filepath.Join(a.dir, "control"))
	if err != nil {
		t.Fatal(err)
	}
	box := feed.Seal([32]byte{}, 1, store.Now(), []feed.Change{{Op: feed.Set, Key: zone.SettingsKey(zones[0].ID), Value: []byte(`{"ssl":"of next year"}`)}})
	err = s.Write(t.Context(), func(tx *store.Tx) error {
		_, err := tx.PutEvent(t.Context(), store.Event{Actor: "test", Changes: feed.AppendEntry(nil, &box), Created: store.Now()}, store.Step{})
		return err
	})
	if err := errors.Join(err, s.Close()); err != nil {
		t.Fatal(err)
	}
	a.startControl(t)
	eventually(t, 20*time.Second, "the rejection in feed status", func() error {
		out := a.network().cli(t, "feed", "status", "--once")
		if !strings.Contains(out, "ssl") || !strings.Contains(out, "of next year") {
			return errors.New(out)
		}
		return nil
	})
	if got := get(t, visitor(t, a.http, ""), "http://site.test/"); got.Status != 200 {
		t.Errorf("the zone's last good state is not served: %d", got.Status)
	}
	if out := a.network().cli(t, "zone", "add", "late.test", "--origin", origin.URL); !strings.Contains(out, "late.test is served by every") {
		t.Errorf("a later change: %s", out)
	}
}
