package script

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"
)

// The lines that `selvage dev` shows are to be pasted as they are.
func TestLinesOfTheScreenWorkAsPrinted(t *testing.T) {
	began := time.Now()
	n := dev(t, t.TempDir())
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("ready after %s, want within 3 s", took)
	}
	// The lines follow dev.json, which dev waited for.
	ready := regexp.MustCompile(`(?m)^ready$`)
	for until := began.Add(10 * time.Second); !ready.MatchString(n.out.String()); {
		if time.Now().After(until) {
			t.Fatalf("no line says ready:\n%s", n.out.String())
		}
		<-time.After(10 * time.Millisecond)
	}
	screen := n.out.String()
	pasted := 0
	for line := range strings.Lines(screen) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "curl ") && !strings.HasPrefix(line, "dig ") {
			continue
		}
		pasted++
		out, err := exec.Command("bash", "-c", line).CombinedOutput()
		if err != nil || len(out) == 0 {
			t.Errorf("%s\n%v\n%s", line, err, out)
		}
		if strings.HasPrefix(line, "dig ") && !strings.Contains(string(out), "127.0.0.1") {
			t.Errorf("%s\ndoes not find the edge:\n%s", line, out)
		}
	}
	if pasted < 4 {
		t.Errorf("%d lines to paste on the screen, want four:\n%s", pasted, screen)
	}
}

// A second start finds its state again.
func TestSecondStartFindsItsState(t *testing.T) {
	state := t.TempDir()
	origin, _ := page(t, cacheable("kept"))
	n := dev(t, state, "--no-demo")
	n.onboard(t, "kept.test", origin)
	token := n.Token
	if err := n.stop(t); err != nil {
		t.Fatalf("first run ended with %v", err)
	}
	if _, err := os.Stat(state + "/dev.json"); !os.IsNotExist(err) {
		t.Errorf("dev.json is left behind after a clean stop: %v", err)
	}
	n = dev(t, state, "--no-demo")
	if n.Token != token {
		t.Error("the API token changed")
	}
	for _, e := range n.Edges {
		if a := get(t, visitor(t, e.HTTP, ""), "http://kept.test/"); a.Status != 200 || a.Body != "kept" {
			t.Errorf("%s: %d %q", e.Colo, a.Status, a.Body)
		}
	}
	if out := n.cli(t, "zone", "list"); !strings.Contains(out, "kept.test") {
		t.Errorf("zone list:\n%s", out)
	}
}
