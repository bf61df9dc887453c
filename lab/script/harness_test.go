package script

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
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
	"sync"
	"syscall"
	"testing"
	"time"
)

// binary is the program under test: $SELVAGE_BIN, or bin/selvage of this tree,
// built when TestMain finds none.
var binary string

func TestMain(m *testing.M) {
	code, err := prepare(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "lab/script:", err)
		os.Exit(1)
	}
	os.Exit(code)
}

func prepare(m *testing.M) (int, error) {
	binary = os.Getenv("SELVAGE_BIN")
	if binary != "" {
		return m.Run(), nil
	}
	dir, err := os.MkdirTemp("", "selvage-bin")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "selvage")
	build := exec.Command("go", "build", "-o", binary, "github.com/selvage-edge/selvage/cmd/selvage")
	if out, err := build.CombinedOutput(); err != nil {
		return 1, fmt.Errorf("build: %w\n%s", err, out)
	}
	return m.Run(), nil
}

// process is a running selvage with its output.
type process struct {
	cmd  *exec.Cmd
	out  *output
	done chan error
}

type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// start runs the binary and kills it, if it still runs, when the test ends.
func start(t *testing.T, args ...string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(binary, args...), out: &output{}, done: make(chan error, 1)}
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.done <- p.cmd.Wait() }()
	t.Cleanup(func() {
		p.stop(t)
		if t.Failed() {
			t.Logf("output of selvage %s:\n%s", strings.Join(args, " "), tail(p.out.String(), 6000))
		}
	})
	return p
}

func tail(s string, n int) string {
	if len(s) > n {
		return "…" + s[len(s)-n:]
	}
	return s
}

// stop sends SIGTERM and waits; it returns the exit error.
func (p *process) stop(t *testing.T) error {
	t.Helper()
	if p.cmd.ProcessState != nil {
		return nil
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended by itself
	select {
	case err := <-p.done:
		p.done <- err
		return err
	case <-time.After(40 * time.Second):
		t.Errorf("%v did not end 40 s after SIGTERM", p.cmd.Args)
		_ = p.cmd.Process.Kill()
		err := <-p.done
		p.done <- err
		return err
	}
}

// kill ends the process without a chance to tidy up.
func (p *process) kill(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	p.done <- <-p.done
}

// edgeInfo is one entry of dev.json.
type edgeInfo struct {
	Colo    string `json:"colo"`
	HTTP    string `json:"http"`
	HTTPS   string `json:"https"`
	DNS     string `json:"dns"`
	Metrics string `json:"metrics"`
	PID     int    `json:"pid"`
}

// network is a running `selvage dev`.
type network struct {
	*process
	State string
	API   string     `json:"api"`
	Token string     `json:"token"`
	CA    string     `json:"ca"`
	Ready bool       `json:"ready"`
	Edges []edgeInfo `json:"edges"`
	Ctl   struct {
		PID int `json:"pid"`
	} `json:"control"`
}

// dev starts `selvage dev` on ports of the kernel's choice and waits for ready.
func dev(t *testing.T, state string, args ...string) *network {
	t.Helper()
	n := &network{State: state}
	n.process = start(t, append([]string{
		"dev", "--state", state, "--api", "127.0.0.1:0", "--http", "127.0.0.1:0", "--https", "127.0.0.1:0", "--dns", "127.0.0.1:0",
	}, args...)...)
	n.reload(t)
	return n
}

// reload reads dev.json when it says ready.
func (n *network) reload(t *testing.T) {
	t.Helper()
	eventually(t, 30*time.Second, "dev.json to be ready", func() error {
		select {
		case err := <-n.done:
			n.done <- err
			t.Fatalf("selvage dev ended: %v\n%s", err, n.out.String())
		default:
		}
		text, err := os.ReadFile(filepath.Join(n.State, "dev.json"))
		if err != nil {
			return err
		}
		if err := json.Unmarshal(text, n); err != nil {
			return err
		}
		if !n.Ready {
			return errors.New("not ready")
		}
		return nil
	})
}

// eventually polls until ok returns nil: the processes under test are not ours
// to synchronise with.
func eventually(t *testing.T, limit time.Duration, what string, ok func() error) {
	t.Helper()
	deadline := time.Now().Add(limit)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ok()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("waited %s for %s: %v", limit, what, err)
		}
		<-tick.C
	}
}

// cli runs a subcommand against the network and returns its output.
func (n *network) cli(t *testing.T, args ...string) string {
	t.Helper()
	out, err := n.tryCLI(args...)
	if err != nil {
		t.Fatalf("selvage %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func (n *network) tryCLI(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, binary, append(args, "--state", n.State)...).CombinedOutput()
	return string(out), err
}

// call makes one API call and returns the result and the feed number.
func (n *network) call(t *testing.T, method, path string, body any) (json.RawMessage, string) {
	t.Helper()
	var in io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		in = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, n.API+path, in)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+n.Token)
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var envelope struct {
		Success bool            `json:"success"`
		Errors  json.RawMessage `json:"errors"`
		Result  json.RawMessage `json:"result"`
	}
	if err := json.NewDecoder(res.Body).Decode(&envelope); err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	if !envelope.Success {
		t.Fatalf("%s %s: %d %s", method, path, res.StatusCode, envelope.Errors)
	}
	return envelope.Result, res.Header.Get("Selvage-Seq")
}

// visitor is an http client that reaches one address whatever the URL's host,
// and trusts the private CA only.
func visitor(t *testing.T, addr, caFile string) *http.Client {
	t.Helper()
	config := &tls.Config{RootCAs: x509.NewCertPool()}
	if caFile != "" {
		config = trust(t, caFile)
	}
	config.MinVersion = tls.VersionTLS12
	tr := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "tcp", addr)
		},
		TLSClientConfig:     config,
		MaxIdleConnsPerHost: 64,
		DisableCompression:  true,
	}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 30 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// answer is a response read whole.
type answer struct {
	Status int
	Header http.Header
	Body   string
}

func fetch(c *http.Client, url string) (answer, error) {
	res, err := c.Get(url)
	if err != nil {
		return answer{}, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return answer{res.StatusCode, res.Header, string(body)}, err
}

func get(t *testing.T, c *http.Client, url string) answer {
	t.Helper()
	a, err := fetch(c, url)
	if err != nil {
		t.Fatalf("GET %s: %v", url, err)
	}
	return a
}

// onboard adds a zone whose origin is the test server.
func (n *network) onboard(t *testing.T, zone string, origin *httptest.Server) {
	t.Helper()
	n.cli(t, "zone", "add", zone, "--origin", origin.URL)
}

// alive reports whether a process exists.
func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }

func first[A, B any](a A, _ B) A { return a }

func unmarshal(t *testing.T, text []byte, into any) {
	t.Helper()
	if err := json.Unmarshal(text, into); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
}
