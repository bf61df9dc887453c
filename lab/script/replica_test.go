package script

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// joined starts an edge below parents on a state of its own.
func (a *apart) joined(t *testing.T, name string, token []string, args ...string) *server {
	t.Helper()
	fields := strings.Fields(a.network().cli(t, append([]string{"control", "token", "--join"}, token...)...))
	return a.again(t, name, append(args, "--join", fields[len(fields)-1])...)
}

// again starts it with what it has.
func (a *apart) again(t *testing.T, name string, args ...string) *server {
	t.Helper()
	state := filepath.Join(a.dir, name)
	if err := os.Remove(filepath.Join(state, "edge.json")); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	s := &server{process: start(t, append([]string{
		"edge", "--state", state, "--colo", "FRA", "--http", "127.0.0.1:0", "--https", "127.0.0.1:0", "--dns", "127.0.0.1:0",
		"--metrics", "127.0.0.1:0", "--advertise", "127.0.0.1", "--allow-origins", "127.0.0.0/8", "--access-log", "off", "--cache-bytes", "16MiB",
	}, args...)...)}
	waitJSON(t, filepath.Join(state, "edge.json"), &s.edgeInfo)
	return s
}

// A partial replica serves a zone that it was never asked for, follows what
// changes of it, and goes on with what it holds when relay and control plane are
// gone, also after a kill.
func TestPartialReplicaBesideItsRelay(t *testing.T) {
	origin, _ := page(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "%s of the origin", r.Host) })
	a := &apart{dir: t.TempDir(), feed: "127.0.0.1:0"}
	a.startControl(t)
	n := a.network()
	relay := a.joined(t, "relay", []string{"--relay"}, "--parent", a.feed, "--relay", "127.0.0.1:0")
	var at struct {
		Relay string `json:"relay"`
	}
	waitJSON(t, filepath.Join(a.dir, "relay", "edge.json"), &at)
	parents := []string{"--parent", at.Relay, "--parent", a.feed, "--replica", "partial", "--replica-bytes", "16MiB"}
	edge := a.joined(t, "partial", nil, parents...)
	n.onboard(t, "held.test", origin)
	n.onboard(t, "other.test", origin)
	serves := func(zone string, status int) {
		t.Helper()
		c := visitor(t, edge.HTTP, "")
		eventually(t, 10*time.Second, fmt.Sprintf("%s to be answered %d", zone, status), func() error {
			got, err := fetch(c, "http://"+zone+"/")
			if err == nil && got.Status != status {
				err = fmt.Errorf("status %d %q", got.Status, got.Body)
			}
			return err
		})
	}
	serves("held.test", 200)
	if n := edge.metric(t, `selvage_replica_reads_total{values="fetched"}`); n < 1 {
		t.Errorf("%d reads were fetched from the relay", n)
	}
	if n := relay.metric(t, "selvage_feed_fetches_total"); n < 1 {
		t.Errorf("the relay was asked %d times", n)
	}
	if n := edge.metric(t, "selvage_replica_held_zones"); n > 1 {
		t.Errorf("%d zones are held, of one that was asked for", n)
	}
	n.cli(t, "settings", "set", "other.test", "always_use_https", "on")
	n.cli(t, "settings", "set", "held.test", "always_use_https", "on")
	serves("held.test", 301)
	n.cli(t, "settings", "set", "held.test", "always_use_https", "off")
	serves("held.test", 200)
	eventually(t, 10*time.Second, "what was fetched to be held", func() error {
		if n := edge.metric(t, "selvage_replica_held_zones"); n < 1 {
			return fmt.Errorf("%d zones are held", n)
		}
		return nil
	})
	relay.kill(t)
	a.control.kill(t)
	serves("held.test", 200)
	edge.kill(t)
	edge = a.again(t, "partial", parents...)
	serves("held.test", 200)
	serves("other.test", 503) // nobody ever asked for it here
	a.startControl(t)
	a.again(t, "relay", "--parent", a.feed, "--relay", at.Relay)
	serves("other.test", 301)
}

func TestPartialReplicaIsNoRelay(t *testing.T) {
	out, err := (&network{State: t.TempDir()}).tryCLI("edge", "--colo", "FRA", "--parent", "127.0.0.1:1", "--replica", "partial", "--relay", "127.0.0.1:0")
	if err == nil || !strings.Contains(out, "replica: partial holds too little to be a relay") {
		t.Errorf("%v\n%s", err, out)
	}
}
