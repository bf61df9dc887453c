package script

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/selvage-edge/selvage/client"
)

// What the operator says for all zones goes from ring to ring, or everywhere at
// once; a zone's own setting goes before it.
func TestDefaultGoesFromRingToRing(t *testing.T) {
	n := startRinged(t, "10m")
	answers := func(when string, canary, share, rest int) {
		t.Helper()
		if a, b, c := n.status(t, n.canary), n.status(t, n.share), n.status(t, n.rest); a != canary || b != share || c != rest {
			t.Errorf("%s: canary %d, share %d, the rest %d; want %d, %d, %d", when, a, b, c, canary, share, rest)
		}
	}
	shown := func(when, want string) {
		t.Helper()
		for line := range strings.Lines(n.cli(t, "defaults", "show")) {
			if f := strings.Fields(line); f[0] == "always_use_https" {
				if got := strings.Join(f[1:], " "); got != want {
					t.Errorf("%s: shown as %q, want %q", when, got, want)
				}
			}
		}
	}
	answers("at first", 200, 200, 200) // and the zone is in memory
	shown("at first", "off selvage -")
	if out := n.cli(t, "defaults", "set", "always_use_https", "on"); !strings.Contains(out, "by rings, as stage 1 ") {
		t.Errorf("said %q", out)
	}
	answers("as soon as it is staged", 301, 200, 200)
	shown("staged", "off selvage on by stage 1")
	if out, err := n.tryCLI("defaults", "set", "brotli", "off"); err == nil || !strings.Contains(out, "stage 1 ") {
		t.Errorf("a second one: %v %s", err, out)
	}
	n.cli(t, "rollout", "release", "1", "--ring", "share")
	answers("released to the share", 301, 301, 200)
	n.cli(t, "rollout", "release", "1", "--ring", "all")
	answers("released to all", 301, 301, 301)
	shown("released", "on operator -")
	n.cli(t, "settings", "set", "site.test", "always_use_https", "off")
	answers("with its own", 200, 200, 200)

	n.call(t, "PATCH", n.zone+"/settings/always_use_https", map[string]any{"value": "on"})
	if out := n.cli(t, "defaults", "unset", "always_use_https", "--rollout", "all"); strings.Contains(out, "by rings") {
		t.Errorf("said %q", out)
	}
	answers("its own, without a default", 301, 301, 301)
	n.cli(t, "settings", "set", "site.test", "always_use_https", "off")

	// At once, and taken back from the canary by a halt.
	n.cli(t, "defaults", "set", "browser_cache_ttl", "60", "--rollout", "all")
	shown("after another", "off selvage -")
	n.cli(t, "defaults", "set", "always_online", "off")
	n.cli(t, "rollout", "halt", "2", "--reason", "test")
	eventually(t, 20*time.Second, "the halt", func() error {
		var r client.Rollout
		unmarshal(t, []byte(n.cli(t, "rollout", "show", "2", "--json")), &r)
		if r.State != "halted" {
			return errors.New(r.Text)
		}
		return nil
	})
	for _, wrong := range [][]string{{"nope", "1"}, {"ssl", "maybe"}, {"development_mode", "on"}} {
		if out, err := n.tryCLI("defaults", "set", wrong[0], wrong[1]); err == nil || !strings.Contains(out, wrong[0]) {
			t.Errorf("%s: %v %s", wrong, err, out)
		}
	}
}
