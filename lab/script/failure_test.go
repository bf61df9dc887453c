package script

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	_ "modernc.org/sqlite"
)

// page is an origin that counts what reaches it.
func page(t *testing.T, handler http.HandlerFunc) (*httptest.Server, *atomic.Int64) {
	t.Helper()
	var hits atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		hits.Add(1)
		handler(w, r)
	}))
	t.Cleanup(s.Close)
	return s, &hits
}

func cacheable(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "max-age=3600")
		io.WriteString(w, body)
	}
}

func TestControlKilledEdgesServeOnAndCatchUp(t *testing.T) {
	origin, _ := page(t, cacheable("one"))
	n := dev(t, t.TempDir(), "--no-demo")
	n.onboard(t, "site.test", origin)
	if err := syscall.Kill(n.Ctl.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for _, e := range n.Edges {
		if a := get(t, visitor(t, e.HTTP, ""), "http://site.test/"); a.Status != 200 || a.Body != "one" {
			t.Errorf("%s without control plane: %d %q", e.Colo, a.Status, a.Body)
		}
	}
	old := n.Ctl.PID
	eventually(t, 20*time.Second, "control to be started again", func() error {
		n.reload(t)
		if n.Ctl.PID == old || !alive(n.Ctl.PID) {
			return errors.New("same process")
		}
		return nil
	})
	var out string
	eventually(t, 20*time.Second, "a change through the new control plane", func() (err error) {
		out, err = n.tryCLI("zone", "add", "late.test", "--origin", origin.URL)
		return err
	})
	for _, e := range n.Edges { // which may not have found the new one when it took the change
		eventually(t, 20*time.Second, "late.test at "+e.Colo, func() error {
			if a := get(t, visitor(t, e.HTTP, ""), "http://late.test/"); a.Status != 200 {
				return fmt.Errorf("%d after %s", a.Status, out)
			}
			return nil
		})
	}
}

// apart starts control and edges by hand, as on separate hosts.
type apart struct {
	control *process
	edge    *process
	dir     string
	feed    string
	edgeArg []string
	http    string
}

func startApart(t *testing.T) *apart {
	t.Helper()
	a := &apart{dir: t.TempDir()}
	a.feed = "127.0.0.1:0"
	a.startControl(t)
	token := strings.TrimSpace(a.network().cli(t, "control", "token", "--join"))
	fields := strings.Fields(token)
	a.edgeArg = []string{
		"edge", "--state", filepath.Join(a.dir, "edge"), "--colo", "FRA", "--parent", a.feed, "--join", fields[len(fields)-1],
		"--http", "127.0.0.1:0", "--https", "127.0.0.1:0", "--dns", "127.0.0.1:0", "--metrics", "127.0.0.1:0", "--peer", "127.0.0.1:0",
		"--advertise", "127.0.0.1", "--allow-origins", "127.0.0.0/8",
	}
	a.startEdge(t)
	return a
}

// startControl starts it on the feed address that it had before.
func (a *apart) startControl(t *testing.T) {
	t.Helper()
	state := filepath.Join(a.dir, "control")
	a.control = start(t, "control", "--state", state, "--api", "127.0.0.1:0", "--feed", a.feed)
	var c struct {
		Feed string `json:"feed"`
	}
	waitJSON(t, filepath.Join(state, "control.json"), &c)
	a.feed = c.Feed
}

func (a *apart) startEdge(t *testing.T) {
	t.Helper()
	path := filepath.Join(a.dir, "edge", "edge.json")
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	a.edge = start(t, a.edgeArg...)
	var e edgeInfo
	waitJSON(t, path, &e)
	a.http = e.HTTP
}

func (a *apart) network() *network { return &network{State: filepath.Join(a.dir, "control")} }

func waitJSON(t *testing.T, path string, into any) {
	t.Helper()
	eventually(t, 15*time.Second, path, func() error {
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return json.Unmarshal(text, into)
	})
}

func TestEdgeRestartsFromItsOwnCopyWithoutControl(t *testing.T) {
	origin, _ := page(t, cacheable("from the copy"))
	a := startApart(t)
	a.network().cli(t, "zone", "add", "site.test", "--origin", origin.URL)
	if got := get(t, visitor(t, a.http, ""), "http://site.test/"); got.Status != 200 {
		t.Fatalf("before: %d", got.Status)
	}
	a.control.kill(t)
	a.edge.kill(t)
	began := time.Now()
	a.startEdge(t)
	if got := get(t, visitor(t, a.http, ""), "http://site.test/"); got.Status != 200 || got.Body != "from the copy" {
		t.Fatalf("after SIGKILL without control: %d %q", got.Status, got.Body)
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("served %s after the start, want within a second", took)
	}
}

func TestTruncatedCopyIsNamedAndRecovered(t *testing.T) {
	origin, _ := page(t, cacheable("again"))
	a := startApart(t)
	a.network().cli(t, "zone", "add", "site.test", "--origin", origin.URL)
	a.edge.kill(t)
	truncated := 0
	err := filepath.WalkDir(filepath.Join(a.dir, "edge", "copy"), func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil || info.Size() < 2 || d.Name() == "LOCK" {
			return err
		}
		truncated++
		left := info.Size() / 2
		if strings.HasPrefix(d.Name(), "MANIFEST") {
			left = 5 // half of it may be what it was some writes ago, which is no damage but the past
		}
		return os.Truncate(path, left)
	})
	if err != nil || truncated == 0 {
		t.Fatalf("truncated %d files: %v", truncated, err)
	}
	a.startEdge(t)
	c := visitor(t, a.http, "")
	eventually(t, 10*time.Second, "the zone to be served from a fresh copy", func() error {
		got, err := fetch(c, "http://site.test/")
		if err == nil && got.Status != 200 {
			err = fmt.Errorf("status %d", got.Status)
		}
		return err
	})
	if log := a.edge.out.String(); !strings.Contains(log, "copy is damaged") || !strings.Contains(log, "copy.bad-") {
		t.Errorf("the log does not name the broken copy:\n%s", tail(log, 3000))
	}
}

func TestTruncatedFeedEntryIsNamedAndRecovered(t *testing.T) {
	origin, _ := page(t, cacheable("on"))
	for which, pick := range map[string]string{"newest": "SELECT MAX(seq) FROM log", "one before": "SELECT MAX(seq) - 1 FROM log"} {
		t.Run(which, func(t *testing.T) {
			a := startApart(t)
			a.network().cli(t, "zone", "add", "site.test", "--origin", origin.URL)
			if err := a.control.stop(t); err != nil {
				t.Fatal(err)
			}
			db, err := sql.Open("sqlite", filepath.Join(a.dir, "control", "control.db"))
			if err != nil {
				t.Fatal(err)
			}
			res, err := db.ExecContext(t.Context(), "UPDATE log SET payload = substr(payload, 1, length(payload) / 2) WHERE seq = ("+pick+")")
			if err != nil {
				t.Fatal(err)
			}
			if n, err := res.RowsAffected(); n != 1 || err != nil {
				t.Fatalf("%d entries truncated, %v", n, err)
			}
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			a.startControl(t)
			if log := a.control.out.String(); !strings.Contains(log, "entry of the log is damaged") {
				t.Errorf("the log does not name the broken entry:\n%s", log)
			}
			a.network().cli(t, "zone", "add", "late.test", "--origin", origin.URL)
			c := visitor(t, a.http, "")
			for _, zone := range []string{"site.test", "late.test"} {
				eventually(t, 10*time.Second, zone+" to be served", func() error {
					got, err := fetch(c, "http://"+zone+"/")
					if err == nil && got.Status != 200 {
						err = fmt.Errorf("status %d", got.Status)
					}
					return err
				})
			}
		})
	}
}

func TestOriginKilledCachedIsStaleUncachedIs52x(t *testing.T) {
	origin, _ := page(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "max-age=1")
		w.Header().Set("ETag", `"v1"`)
		io.WriteString(w, "precious")
	})
	n := dev(t, t.TempDir(), "--no-demo", "--edges", "1")
	n.onboard(t, "site.test", origin)
	c := visitor(t, n.Edges[0].HTTP, "")
	if a := get(t, c, "http://site.test/page"); a.Body != "precious" {
		t.Fatalf("first: %d %q", a.Status, a.Body)
	}
	origin.Close()
	eventually(t, 10*time.Second, "the page to be served stale", func() error {
		a, err := fetch(c, "http://site.test/page")
		if err != nil {
			return err
		}
		if a.Status != 200 || a.Body != "precious" {
			t.Fatalf("origin down: %d %q", a.Status, a.Body)
		}
		if a.Header.Get("CF-Cache-Status") != "STALE" {
			return errors.New(a.Header.Get("CF-Cache-Status"))
		}
		if !strings.Contains(a.Header.Get("Warning"), "110") {
			t.Errorf("stale without a Warning: %q", a.Header)
		}
		return nil
	})
	a := get(t, c, "http://site.test/never-seen")
	if a.Status != 521 || !strings.Contains(a.Body, "521") {
		t.Errorf("uncached while the origin is down: %d", a.Status)
	}
	if ray, _, _ := strings.Cut(a.Header.Get("CF-Ray"), "-"); ray == "" || !strings.Contains(a.Body, ray) {
		t.Errorf("the page does not carry the ray %q", a.Header.Get("CF-Ray"))
	}
}

func TestThousandRequestsForOneUncachedObjectFetchItOnce(t *testing.T) {
	release := make(chan struct{})
	origin, hits := page(t, func(w http.ResponseWriter, _ *http.Request) {
		<-release
		w.Header().Set("Cache-Control", "max-age=60")
		io.WriteString(w, strings.Repeat("x", 100_000))
	})
	n := dev(t, t.TempDir(), "--no-demo", "--edges", "1")
	n.onboard(t, "site.test", origin)
	const count = 1000
	var started, done sync.WaitGroup
	started.Add(count)
	failures := make(chan error, count)
	for range count {
		done.Go(func() {
			conn, err := net.Dial("tcp", n.Edges[0].HTTP)
			if err == nil {
				defer conn.Close()
				_, err = io.WriteString(conn, "GET /big HTTP/1.1\r\nHost: site.test\r\nConnection: close\r\n\r\n")
			}
			started.Done()
			if err == nil {
				err = wantBody(conn, 100_000)
			}
			if err != nil {
				failures <- err
			}
		})
	}
	started.Wait()
	close(release)
	done.Wait()
	close(failures)
	for err := range failures {
		t.Error(err)
		break
	}
	if got := hits.Load(); got != 1 {
		t.Errorf("origin saw %d requests, want 1", got)
	}
}

func wantBody(conn net.Conn, size int) error {
	if err := conn.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return err
	}
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	n, err := io.Copy(io.Discard, res.Body)
	if err != nil {
		return err
	}
	if res.StatusCode != 200 || n != int64(size) {
		return fmt.Errorf("status %d, %d bytes", res.StatusCode, n)
	}
	return nil
}

// Three hostile peers at once: while they stall, another visitor is served as
// if they were not there.
func TestSlowVisitorsAndAStallingOriginHurtNobodyElse(t *testing.T) {
	stalled := make(chan struct{})
	var once sync.Once
	endStall := func() { once.Do(func() { close(stalled) }) }
	defer endStall()
	origin, _ := page(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/stall":
			w.Header().Set("Content-Length", "1000000")
			w.WriteHeader(200)
			io.WriteString(w, "only the beginning")
			w.(http.Flusher).Flush()
			<-stalled
		case "/large":
			w.Header().Set("Cache-Control", "max-age=60")
			io.WriteString(w, strings.Repeat("L", 8<<20))
		default:
			cacheable("quick")(w, r)
		}
	})
	n := dev(t, t.TempDir(), "--no-demo", "--edges", "1")
	n.onboard(t, "site.test", origin)
	addr := n.Edges[0].HTTP
	for range 50 {
		// Sends a large request's head and never reads the answer.
		write(t, addr, "GET /large HTTP/1.1\r\nHost: site.test\r\n\r\n")
		// Sends its head a little and then nothing.
		write(t, addr, "GET / HTTP/1.1\r\nHo")
		write(t, addr, "GET /stall HTTP/1.1\r\nHost: site.test\r\n\r\n")
	}
	c := visitor(t, addr, "")
	worst := time.Duration(0)
	for i := range 200 {
		began := time.Now()
		a := get(t, c, "http://site.test/quick"+strconv.Itoa(i%7))
		if a.Status != 200 || a.Body != "quick" {
			t.Fatalf("bystander got %d %q", a.Status, a.Body)
		}
		worst = max(worst, time.Since(began))
	}
	if worst > 2*time.Second {
		t.Errorf("a bystander waited %s", worst)
	}
	t.Logf("slowest of 200 bystanders beside 150 stalled connections: %s", worst)
}

// Visitors who take nothing hold every connection that the zone may have to its
// origin; who comes after them is answered all the same.
func TestSlowVisitorsDoNotKeepTheOriginFromOthers(t *testing.T) {
	const slow = 400 // the bound is 256
	body := strings.Repeat("L", 8<<20)
	origin, _ := page(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		if r.URL.Path == "/large" {
			io.WriteString(w, body)
			return
		}
		io.WriteString(w, "answered")
	})
	n := dev(t, t.TempDir(), "--no-demo", "--edges", "1")
	n.onboard(t, "site.test", origin)
	addr := n.Edges[0].HTTP
	for range slow {
		write(t, addr, "GET /large HTTP/1.1\r\nHost: site.test\r\n\r\n")
	}
	c := visitor(t, addr, "")
	for range 5 {
		if a := get(t, c, "http://site.test/small"); a.Status != 200 || a.Body != "answered" {
			t.Fatalf("behind %d slow visitors: %d %q", slow, a.Status, tail(a.Body, 200))
		}
	}
}

func write(t *testing.T, addr, text string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	return conn
}

// A visitor who sends its head one byte a second is cut at the head time-out,
// whatever trickles in.
func TestHeadByteByByteIsBounded(t *testing.T) {
	origin, _ := page(t, cacheable("x"))
	n := dev(t, t.TempDir(), "--no-demo", "--edges", "1")
	n.onboard(t, "site.test", origin)
	conn := write(t, n.Edges[0].HTTP, "G")
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	began := time.Now()
	go func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for _, b := range []byte("ET / HTTP/1.1\r\nHost: site.test\r\nX-Slow: " + strings.Repeat("y", 100)) {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
			if _, err := conn.Write([]byte{b}); err != nil {
				return
			}
		}
	}()
	if err := conn.SetReadDeadline(began.Add(60 * time.Second)); err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(conn)
	if err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("still open after %s: %v", time.Since(began), err)
	}
	if !strings.HasPrefix(string(text), "HTTP/1.1 408 ") {
		t.Errorf("cut after %s with %q, want 408", time.Since(began), text)
	}
}

func TestTermFinishesWhatIsInFlightAndRefusesTheNew(t *testing.T) {
	arrived, release := make(chan struct{}), make(chan struct{})
	origin, _ := page(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			close(arrived)
			<-release
		}
		io.WriteString(w, "finished")
	})
	a := startApart(t)
	a.network().cli(t, "zone", "add", "site.test", "--origin", origin.URL)
	type result struct {
		answer
		err error
	}
	got := make(chan result, 1)
	go func() {
		r, err := fetch(visitor(t, a.http, ""), "http://site.test/slow")
		got <- result{r, err}
	}()
	<-arrived
	if err := a.edge.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	eventually(t, 5*time.Second, "new connections to be refused", func() error {
		conn, err := net.Dial("tcp", a.http)
		if err != nil {
			return nil
		}
		conn.Close()
		return errors.New("still accepting")
	})
	close(release)
	r := <-got
	if r.err != nil || r.Status != 200 || r.Body != "finished" {
		t.Errorf("request in flight at SIGTERM: %d %q %v", r.Status, r.Body, r.err)
	}
	err := <-a.edge.done
	a.edge.done <- err
	if err != nil {
		t.Errorf("exit after SIGTERM: %v", err)
	}
}
