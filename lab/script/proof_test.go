package script

import (
	"bytes"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// docTree is the HTML tree of Debian's python3.11-doc package: a real site of
// several hundred pages, styles, scripts and images.
const docTree = "/usr/share/doc/python3.11/html"

// nginx is a real origin: stock nginx serving a copy of the tree.
type nginx struct {
	root, log string
	addr      string
	files     []string // URL paths
}

func need(t *testing.T, what, how string) {
	t.Helper()
	if _, err := exec.LookPath(what); err != nil {
		t.Fatalf("%s is needed: %s", what, how)
	}
}

func startNginx(t *testing.T) *nginx {
	t.Helper()
	need(t, "nginx", "make test installs it")
	dir := t.TempDir()
	n := &nginx{root: filepath.Join(dir, "root"), log: filepath.Join(dir, "access.log")}
	if err := os.CopyFS(n.root, realTree{os.DirFS(docTree)}); err != nil {
		t.Fatalf("copy %s (package python3.11-doc): %v", docTree, err)
	}
	n.list(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n.addr = l.Addr().String()
	l.Close()
	conf := fmt.Sprintf(`
daemon off; worker_processes 1; pid %[1]s/nginx.pid; error_log %[1]s/error.log; user root;
events { worker_connections 512; }
http {
  include /etc/nginx/mime.types; default_type application/octet-stream;
  access_log %[2]s; sendfile on;
  client_body_temp_path %[1]s/b; proxy_temp_path %[1]s/p; fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
  server { listen %[3]s; root %[4]s; }
}`, dir, n.log, n.addr, n.root)
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("nginx", "-c", file, "-e", filepath.Join(dir, "error.log"))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// Not SIGKILL, which would leave its worker behind.
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait() // ended by us: its status says no more
	})
	eventually(t, 5*time.Second, "nginx", func() error {
		c, err := net.Dial("tcp", n.addr)
		if err == nil {
			c.Close()
		}
		return err
	})
	return n
}

// realTree gives regular files only: Debian's tree links some scripts to other
// packages.
type realTree struct{ fs.FS }

func (r realTree) ReadDir(name string) ([]fs.DirEntry, error) {
	entries, err := fs.ReadDir(r.FS, name)
	kept := entries[:0]
	for _, e := range entries {
		if e.IsDir() || e.Type().IsRegular() {
			kept = append(kept, e)
		}
	}
	return kept, err
}

func (n *nginx) list(t *testing.T) {
	t.Helper()
	err := filepath.WalkDir(n.root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name := strings.TrimPrefix(path, n.root)
		n.files = append(n.files, (&url.URL{Path: name}).EscapedPath())
		// A site's files are older than the visit: the copy keeps their dates,
		// from which heuristic freshness comes (RFC 9111 §4.2.2).
		info, err := os.Stat(docTree + name)
		if err != nil {
			return err
		}
		return os.Chtimes(path, info.ModTime(), info.ModTime())
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(n.files) < 300 {
		t.Fatalf("%s has %d files, want several hundred", docTree, len(n.files))
	}
}

func (n *nginx) requests(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile(n.log)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Count(text, []byte{'\n'})
}

// crawl fetches every file and returns how many were answered from cache.
func (n *nginx) crawl(t *testing.T, c *http.Client, base string) (hits int) {
	t.Helper()
	for _, path := range n.files {
		a := get(t, c, base+path)
		name, err := url.PathUnescape(path)
		if err != nil {
			t.Fatal(err)
		}
		want, err := os.ReadFile(filepath.Join(n.root, name))
		if err != nil {
			t.Fatal(err)
		}
		if a.Status != 200 || a.Body != string(want) {
			t.Fatalf("%s%s: %d, %d bytes, want 200 and %d", base, path, a.Status, len(a.Body), len(want))
		}
		if a.Header.Get("CF-Cache-Status") == "HIT" {
			hits++
		}
	}
	return hits
}

func TestRealSiteBehindBothEdges(t *testing.T) {
	need(t, "dig", "make test installs it")
	origin := startNginx(t)
	n := dev(t, t.TempDir(), "--no-demo")
	n.cli(t, "zone", "add", "docs.test", "--origin", "http://"+origin.addr)
	for _, e := range n.Edges {
		c := visitor(t, e.HTTP, "")
		origin.crawl(t, c, "http://docs.test")
		before := origin.requests(t)
		hits := origin.crawl(t, c, "http://docs.test")
		if hits != len(origin.files) {
			t.Errorf("%s: second crawl has %d hits of %d", e.Colo, hits, len(origin.files))
		}
		if now := origin.requests(t); now != before {
			t.Errorf("%s: second crawl made %d origin requests", e.Colo, now-before)
		}
		if a := get(t, visitor(t, e.HTTPS, n.CA), "https://docs.test"+origin.files[0]); a.Status != 200 {
			t.Errorf("%s: https answers %d", e.Colo, a.Status)
		}
		host, port, err := net.SplitHostPort(e.DNS)
		if err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("dig", "+short", "@"+host, "-p", port, "www.docs.test", "A").CombinedOutput()
		if err != nil || strings.TrimSpace(string(out)) != "127.0.0.1" {
			t.Errorf("%s: dig says %q, %v", e.Colo, out, err)
		}
	}
	changed := filepath.Join(origin.root, "index.html")
	if err := os.WriteFile(changed, []byte("<p>woven anew</p>"), 0o644); err != nil {
		t.Fatal(err)
	}
	if a := get(t, visitor(t, n.Edges[0].HTTP, ""), "http://docs.test/index.html"); strings.Contains(a.Body, "woven anew") {
		t.Error("the change is visible before the purge: the page was not cached")
	}
	n.cli(t, "purge", "docs.test", "--url", "http://docs.test/index.html")
	for _, e := range n.Edges {
		if a := get(t, visitor(t, e.HTTP, ""), "http://docs.test/index.html"); a.Body != "<p>woven anew</p>" {
			t.Errorf("%s: still the old page after the purge returned", e.Colo)
		}
	}
}

// Chromium is the judge of what a person would see.
func TestChromiumLoadsPagesWithoutConsoleErrors(t *testing.T) {
	n := dev(t, t.TempDir())
	browser := newChromium(t, n)
	if said := browser.visit(t, "data:text/html,<script>console.error('canary')</script>", filepath.Join(browser.home, "canary.png")); len(said) == 0 {
		t.Fatal("an error on the console goes unseen: this test would see none")
	}
	shots := t.TempDir()
	if keep := os.Getenv("SELVAGE_SCREENSHOTS"); keep != "" {
		shots = keep
	}
	c := visitor(t, n.Edges[0].HTTPS, n.CA)
	for i, path := range []string{"/", "/process.html", "/visit.html"} {
		if a := get(t, c, "https://demo.test"+path); a.Status != 200 {
			t.Fatalf("%s: %d", path, a.Status)
		}
		shot := filepath.Join(shots, fmt.Sprintf("page%d.png", i))
		if said := browser.visit(t, "https://demo.test"+path, shot); len(said) != 0 {
			t.Errorf("%s: %s", path, said)
		}
		if info, err := os.Stat(shot); err != nil || info.Size() < 10_000 {
			t.Errorf("%s: no picture of a page: %v, %v", path, info, err)
		}
	}
}

// chromium is a headless browser with a profile of its own.
type chromium struct {
	home, rules string
	quic        string // host:port that is asked over QUIC; "" = none
}

// newChromium makes a profile that trusts the network's CA.
func newChromium(t *testing.T, n *network) *chromium {
	t.Helper()
	need(t, "chromium", "make test installs it")
	need(t, "certutil", "make test installs it (libnss3-tools)")
	home := t.TempDir()
	db := filepath.Join(home, ".pki", "nssdb")
	if err := os.MkdirAll(db, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"-d", "sql:" + db, "-N", "--empty-password"},
		{"-d", "sql:" + db, "-A", "-t", "C,,", "-n", "selvage-test", "-i", n.CA},
	} {
		if out, err := exec.Command("certutil", args...).CombinedOutput(); err != nil {
			t.Fatalf("certutil %v: %v\n%s", args, err, out)
		}
	}
	return &chromium{home: home, rules: "MAP demo.test:443 " + n.Edges[0].HTTPS + ",EXCLUDE 127.0.0.1"}
}

// visit loads a page, takes its picture and returns what the console said.
func (b *chromium) visit(t *testing.T, url, shot string) (said []string) {
	t.Helper()
	quic := "--disable-quic"
	if b.quic != "" {
		quic = "--origin-to-force-quic-on=" + b.quic
	}
	cmd := exec.Command("chromium", "--headless", "--no-sandbox", "--disable-gpu", quic, "--disable-background-networking",
		"--disable-component-update", "--disable-sync", "--no-first-run", "--user-data-dir="+t.TempDir(),
		"--host-resolver-rules="+b.rules, "--enable-logging=stderr", "--log-level=0",
		"--window-size=1200,900", "--virtual-time-budget=5000", "--screenshot="+shot, url)
	cmd.Env = append(os.Environ(), "HOME="+b.home)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("chromium %s: %v\n%s", url, err, tail(string(out), 3000))
	}
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, ":CONSOLE") || strings.Contains(line, "net_error") {
			said = append(said, strings.TrimSpace(line))
		}
	}
	return said
}
