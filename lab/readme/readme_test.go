package readme

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

const root = "../.."

// commands returns the lines of a document's console blocks that begin with
// "$ ", without it.
func commands(t *testing.T, file string) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, file))
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	inside := false
	for line := range strings.Lines(string(text)) {
		line = strings.TrimRight(line, "\n")
		if strings.HasPrefix(line, "```") {
			inside = line == "```console"
			continue
		}
		if cmd, ok := strings.CutPrefix(line, "$ "); ok && inside {
			lines = append(lines, cmd)
		}
	}
	if len(lines) < 5 {
		t.Fatalf("%s shows only %d commands", file, len(lines))
	}
	return lines
}

// network is what `make run` started, as dev.json tells it.
type network struct {
	state string
	API   string
	CA    string
	Ready bool
	Edges []struct{ HTTP, HTTPS, DNS, Metrics string }
}

// makeRun runs README's first command with a state folder and ports of its own.
func makeRun(t *testing.T) *network {
	t.Helper()
	n := &network{state: filepath.Join(t.TempDir(), "state")}
	cmd := exec.Command("make", "run", "STATE="+n.state,
		"ARGS=--api 127.0.0.1:0 --http 127.0.0.1:0 --https 127.0.0.1:0 --dns 127.0.0.1:0")
	cmd.Dir = root
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	screen, err := os.Create(filepath.Join(t.TempDir(), "screen"))
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = screen, screen
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() { n.stop(t, cmd, ended, screen) })
	poll(t, 5*time.Minute, "make run to be ready", func() error {
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("make run ended: %v", err)
		default:
		}
		return n.read()
	})
	return n
}

// stop is Ctrl-C: the whole process group is told, and all must end cleanly.
func (n *network) stop(t *testing.T, cmd *exec.Cmd, ended chan error, screen *os.File) {
	t.Helper()
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGINT) // it may have ended by itself
	select {
	case <-ended:
	case <-time.After(45 * time.Second):
		t.Error("make run goes on 45 s after Ctrl-C")
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		<-ended
	}
	if _, err := os.Stat(filepath.Join(n.state, "dev.json")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Ctrl-C left dev.json behind (%v)", err)
	}
	if err := screen.Close(); err != nil {
		t.Error(err)
	}
	if t.Failed() {
		text, _ := os.ReadFile(screen.Name())
		t.Logf("output of make run:\n%s", text)
	}
}

func (n *network) read() error {
	text, err := os.ReadFile(filepath.Join(n.state, "dev.json"))
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, n); err != nil {
		return err
	}
	if !n.Ready || len(n.Edges) != 2 {
		return fmt.Errorf("ready %t with %d edges, want 2", n.Ready, len(n.Edges))
	}
	return nil
}

// adapt puts this run's addresses and folders in the place of the documents'.
func (n *network) adapt(t *testing.T, cmd, origin, dir string) string {
	t.Helper()
	_, dnsPort, err := net.SplitHostPort(n.Edges[0].DNS)
	if err != nil {
		t.Fatal(err)
	}
	api := strings.TrimSuffix(strings.TrimPrefix(n.API, "http://"), "/client/v4")
	return strings.NewReplacer(
		".state/dev", n.state,
		"127.0.0.1:8080", n.Edges[0].HTTP,
		"127.0.0.1:8443", n.Edges[0].HTTPS,
		"-p 5300", "-p "+dnsPort,
		"127.0.0.1:8787", api,
		"127.0.0.1:9000", origin,
		"/tmp/site", filepath.Join(dir, "site"),
	).Replace(cmd)
}

func (n *network) paste(t *testing.T, line string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "bash", "-c", line)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "SELVAGE_STATE="+n.state)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%s\n%v\n%s", line, err, out)
	}
	return string(out)
}

func poll(t *testing.T, limit time.Duration, what string, ok func() error) {
	t.Helper()
	deadline := time.After(limit)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ok()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited %s for %s: %v", limit, what, err)
		}
	}
}

// TestReadme pastes each command of the README. `make run` is what starts the
// network; `make test` is what runs this test.
func TestReadme(t *testing.T) {
	lines := commands(t, "README.md")
	if lines[0] != "make run" || lines[1] != "make test" {
		t.Fatalf("the first two commands are %q, want make run and make test", lines[:2])
	}
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		_, _ = io.WriteString(w, "a site of my own")
	}))
	defer origin.Close()
	n := makeRun(t)
	want := map[string]string{
		"-D - ":      "Cf-Cache-Status: ",
		"--cacert":   "alt-svc: h3=",
		"dig ":       "127.0.0.1",
		"/zones":     `"demo.test"`,
		"zone list":  "demo.test",
		"zone add":   "example.com",
		"everything": "example.com",
	}
	seen := map[string]bool{}
	for _, line := range lines[2:] {
		out := n.paste(t, n.adapt(t, line, strings.TrimPrefix(origin.URL, "http://"), t.TempDir()))
		for part, text := range want {
			if strings.Contains(line, part) {
				seen[part] = true
				if !strings.Contains(strings.ToLower(out), strings.ToLower(text)) {
					t.Errorf("%s\nshows no %q:\n%s", line, text, out)
				}
			}
		}
	}
	for part := range want {
		if !seen[part] {
			t.Errorf("README shows no command with %q any more", part)
		}
	}
}

// TestFirstSite follows the guide from top to bottom.
func TestFirstSite(t *testing.T) {
	n := makeRun(t)
	dir := t.TempDir()
	origin := freeAddr(t)
	_, port, err := net.SplitHostPort(origin)
	if err != nil {
		t.Fatal(err)
	}
	var pages []string
	for _, line := range commands(t, "docs/guide/first-site.md") {
		line = strings.Replace(n.adapt(t, line, origin, dir), "http.server 9000", "http.server "+port, 1)
		if strings.HasPrefix(line, "python3 -m http.server") {
			serve(t, line, origin)
			continue
		}
		out := n.paste(t, line)
		if strings.HasPrefix(line, "curl") {
			pages = append(pages, out)
		}
	}
	if len(pages) != 2 || !strings.Contains(pages[0], "<h1>hello</h1>") || !strings.Contains(pages[1], "<h1>hello again</h1>") {
		t.Errorf("the pages before and after the purge are\n%s", strings.Join(pages, "\n---\n"))
	}
}

// TestCacheGuide follows the guide; what stands behind "# " is the status seen.
func TestCacheGuide(t *testing.T) {
	n := makeRun(t)
	seen := 0
	for _, line := range commands(t, "docs/guide/cache.md") {
		out := n.paste(t, n.adapt(t, line, "127.0.0.1:9", t.TempDir()))
		if _, want, ok := strings.Cut(line, " # "); ok {
			seen++
			if !strings.EqualFold(strings.TrimSpace(out), "CF-Cache-Status: "+want) {
				t.Errorf("%s\nshows %s", line, out)
			}
		}
	}
	if seen < 10 {
		t.Errorf("only %d statuses shown", seen)
	}
}

// serve runs the guide's web server beside the test.
func serve(t *testing.T, line, addr string) {
	t.Helper()
	cmd := exec.Command("bash", "-c", "exec "+line)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // a web server of the test's own
		_ = cmd.Wait()
	})
	poll(t, 10*time.Second, line, func() error {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			return err
		}
		return c.Close()
	})
}

func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
