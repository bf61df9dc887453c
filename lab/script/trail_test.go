package script

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Audit events of an edge behind a relay wait on its disk while edge, relay and
// control plane are killed in turn, and each arrives once.
func TestAuditArrivesOncePastKills(t *testing.T) {
	a := &apart{dir: t.TempDir(), feed: "127.0.0.1:0"}
	controlAgain := func() {
		t.Helper()
		if err := os.Remove(filepath.Join(a.dir, "control", "control.json")); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		a.startControl(t)
	}
	controlAgain()
	relay := a.joined(t, "relay", []string{"--relay"}, "--parent", a.feed, "--relay", "127.0.0.1:0")
	var at struct {
		Relay string `json:"relay"`
	}
	waitJSON(t, filepath.Join(a.dir, "relay", "edge.json"), &at)
	relayAgain := func() { relay = a.again(t, "relay", "--parent", a.feed, "--relay", at.Relay) }
	below := []string{"--parent", at.Relay, "--colo", "NRT"}
	edge := a.joined(t, "edge", nil, append(below, "--parent", a.feed)...) // who joins needs a control plane
	starts := 1
	edgeAgain := func() {
		t.Helper()
		edge.kill(t)
		edge = a.again(t, "edge", below...)
		starts++
	}
	waits := func(want bool) {
		t.Helper()
		eventually(t, 20*time.Second, fmt.Sprintf("events to wait: %v", want), func() error {
			if n := edge.metric(t, "selvage_feed_audit_waiting"); n > 0 != want {
				return fmt.Errorf("%d wait", n)
			}
			return nil
		})
	}
	arrived := func() {
		t.Helper()
		waits(false)
		var all []struct {
			At                   time.Time
			Colo, Action, Object string
		}
		if err := json.Unmarshal([]byte(a.network().cli(t, "audit", "--json", "--limit", "0")), &all); err != nil {
			t.Fatal(err)
		}
		n, seen := 0, map[string]bool{}
		for _, e := range all {
			if e.Colo != "NRT" || e.Action != "edge.start" {
				continue
			}
			n++
			seen[e.At.String()] = true
		}
		if n != starts || len(seen) != starts {
			t.Errorf("%d starts of the edge arrived, of %d instants, want %d", n, len(seen), starts)
		}
	}
	arrived()

	a.control.kill(t)
	edgeAgain() // it hands its event to a relay that can tell nobody
	waits(true)
	edgeAgain()
	relay.kill(t)
	edgeAgain() // two and then three wait for anybody to take them
	waits(true)
	relayAgain()
	waits(true)
	controlAgain()
	arrived()

	edgeAgain() // killed once more as soon as the event may be on its way
	a.control.kill(t)
	controlAgain()
	edgeAgain()
	relay.kill(t)
	relayAgain()
	arrived()
}
