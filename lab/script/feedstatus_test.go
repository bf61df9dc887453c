package script

import (
	"errors"
	"regexp"
	"strings"
	"testing"
	"time"
)

// Who asks hears which change is live where, which edge is missing since when,
// and the same after the control plane was restarted.
func TestFeedStatusSaysWhoIsMissing(t *testing.T) {
	a := startApart(t)
	made := a.network().cli(t, "zone", "add", "first.test", "--origin", "http://127.0.0.1:9")
	first := regexp.MustCompile(`\(seq (\d+),`).FindStringSubmatch(made)
	if first == nil {
		t.Fatal(made)
	}
	if out := a.network().cli(t, "feed", "status", first[1]); !strings.HasPrefix(out, "live in 1 of 1\n") {
		t.Errorf("with the edge: %s", out)
	}
	eventually(t, 10*time.Second, "the edge to be up to date and connected", func() error {
		out := a.network().cli(t, "feed", "status")
		if !strings.HasPrefix(out, "up to date in 1 of 1\n") || !strings.Contains(out, "connected") {
			return errors.New(out)
		}
		return nil
	})
	if err := a.edge.stop(t); err != nil {
		t.Fatal(err)
	}
	var since string
	missing := regexp.MustCompile(`^up to date in 0 of 1, missing FRA since ([^\n]+) UTC\n`)
	eventually(t, 20*time.Second, "the edge to be missed", func() error {
		out := a.network().cli(t, "feed", "status")
		m := missing.FindStringSubmatch(out)
		if m == nil {
			return errors.New(out)
		}
		since = m[1]
		return nil
	})
	made = a.network().cli(t, "zone", "add", "second.test", "--origin", "http://127.0.0.1:9")
	second := regexp.MustCompile(`\(seq (\d+),`).FindStringSubmatch(made)
	if second == nil {
		t.Fatal(made)
	}
	want := "live in 0 of 1, missing FRA since " + since + " UTC\n"
	if out := a.network().cli(t, "feed", "status", second[1]); !strings.HasPrefix(out, want) {
		t.Errorf("without the edge: %swant %s", out, want)
	}
	if err := a.control.stop(t); err != nil {
		t.Fatal(err)
	}
	a.startControl(t)
	if out := a.network().cli(t, "feed", "status", second[1]); !strings.HasPrefix(out, want) {
		t.Errorf("after a restart: %swant %s", out, want)
	}
	a.startEdge(t)
	eventually(t, 20*time.Second, "the edge to have it", func() error {
		out, err := a.network().tryCLI("feed", "status", second[1])
		if err == nil && !strings.HasPrefix(out, "live in 1 of 1\n") {
			err = errors.New(out)
		}
		return err // exit code 3 while it is connected and behind
	})
}
