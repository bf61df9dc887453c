package dev

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/selvage-edge/selvage/internal/atomicfile"
	"github.com/selvage-edge/selvage/internal/inherit"
)

var update = flag.Bool("update", false, "rewrite testdata")

// TestMain lets the test binary stand in for selvage: it has the two commands
// that dev starts, and serves /readyz and its pid.
func TestMain(m *testing.M) {
	if os.Getenv("DEV_TEST_CHILD") == "" {
		os.Exit(m.Run())
	}
	if err := fakeChild(os.Args[1:]); err != nil {
		_, _ = os.Stderr.WriteString("selvage: " + err.Error() + "\n")
		os.Exit(1)
	}
	os.Exit(0)
}

func argument(args []string, flag string) string {
	for i, a := range args[:len(args)-1] {
		if a == flag {
			return args[i+1]
		}
	}
	return ""
}

func fakeChild(args []string) error {
	if os.Getenv("DEV_TEST_CHILD") == "broken" && args[0] == "edge" {
		return errors.New("this disk is full")
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	set, err := inherit.FromEnv(os.Getenv)
	if err != nil {
		return err
	}
	state := argument(args, "--state")
	if err := os.MkdirAll(state, 0o700); err != nil {
		return err
	}
	file, listener := "edge.json", "metrics"
	ready := map[string]any{"ready": true, "pid": os.Getpid()}
	if args[0] == "control" {
		file, listener = "control.json", "api"
		ready["api"] = "http://" + argument(args, "--api") + "/client/v4"
		ready["token_file"] = filepath.Join(state, "token")
		if err := os.WriteFile(filepath.Join(state, "token"), []byte("secret\n"), 0o600); err != nil {
			return err
		}
	} else if os.Getenv("SELVAGE_JOIN") != "join-me" {
		return errors.New("no join token")
	}
	l, err := set.Listen(ctx, listener, "tcp", "127.0.0.1:1")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/join-tokens") {
			_, _ = io.WriteString(w, `{"success":true,"result":{"token":"join-me"}}`)
		}
	})}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	text, err := json.Marshal(ready)
	if err != nil {
		return err
	}
	if err := atomicfile.Write(filepath.Join(state, file), text, 0o600); err != nil {
		return err
	}
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// lineWaiter hands on each line that dev prints.
type lineWaiter struct {
	lines chan string
	part  []byte
}

func (w *lineWaiter) Write(b []byte) (int, error) {
	w.part = append(w.part, b...)
	for {
		i := bytes.IndexByte(w.part, '\n')
		if i < 0 {
			return len(b), nil
		}
		w.lines <- string(w.part[:i])
		w.part = w.part[i+1:]
	}
}

func config(t *testing.T, mode string, out io.Writer) Config {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	const any = "127.0.0.1:0"
	return Config{
		Binary: self, State: t.TempDir(), Edges: 2, API: any, Feed: any, HTTP: any, HTTPS: any, DNS: any, Metrics: any, Peer: any,
		Environ: append(os.Environ(), "DEV_TEST_CHILD="+mode), Out: out, Err: io.Discard, Log: slog.New(slog.DiscardHandler),
	}
}

// until polls a condition that another process brings about.
func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(20 * time.Second)
	for !done() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("never happened: %s", what)
		}
	}
}

func state(t *testing.T, dir string) State {
	t.Helper()
	var s State
	if err := readJSON(filepath.Join(dir, StateFile), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestRunStartsKeepsAndStopsEverything(t *testing.T) {
	out := &lineWaiter{lines: make(chan string, 100)}
	c := config(t, "fine", out)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Run(ctx, c) }()
	t.Cleanup(func() { cancel() })
	for line := ""; line != "ready"; {
		select {
		case line = <-out.lines:
		case err := <-done:
			t.Fatalf("ended early: %v", err)
		}
	}
	before := state(t, c.State)
	if !before.Ready || before.Token != "secret" || len(before.Edges) != 2 || before.Edges[0].Colo != "FRA" || before.Edges[1].Colo != "NRT" || before.Origin != nil {
		t.Errorf("state %+v", before)
	}
	if api, token, err := Connection(c.State); err != nil || api != before.API || token != "secret" {
		t.Errorf("Connection = %s, %s, %v", api, token, err)
	}
	if err := Run(t.Context(), c); err == nil || !strings.Contains(err.Error(), "another selvage dev runs") {
		t.Errorf("a second dev in the same folder: %v", err)
	}
	killed := before.Edges[1].PID
	if err := syscall.Kill(killed, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	until(t, "dev.json has the new edge's pid", func() bool { return state(t, c.State).Edges[1].PID != killed })
	after := state(t, c.State)
	before.Edges[1].PID = after.Edges[1].PID
	if got, want := after.Edges[1], before.Edges[1]; got != want {
		t.Errorf("edge came back as %+v, want %+v", got, want)
	}
	if !answers(t.Context(), "http://"+after.Edges[1].Metrics+"/readyz") {
		t.Error("the edge that came back does not answer on its port")
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("stop: %v", err)
	}
	if _, err := os.Stat(filepath.Join(c.State, StateFile)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("dev.json after the stop: %v", err)
	}
	for _, pid := range []int{after.Control.PID, after.Edges[0].PID, after.Edges[1].PID} {
		if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
			t.Errorf("process %d after the stop: %v", pid, err)
		}
	}
	if _, err := net.Dial("tcp", after.Edges[0].HTTP); err == nil {
		t.Error("the port is open after the stop")
	}
}

func TestRunSaysWhyAChildDoesNotStart(t *testing.T) {
	c := config(t, "broken", io.Discard)
	err := Run(t.Context(), c)
	if err == nil || !strings.Contains(err.Error(), "does not start: this disk is full; its log is ") {
		t.Errorf("err = %v", err)
	}
}

func TestAddressInUseNamesTheFlag(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c := config(t, "fine", io.Discard)
	c.HTTPS = l.Addr().String()
	c.Edges = 1
	want := "address " + c.HTTPS + " is in use by another program; choose one with --https ADDR (port 0 takes a free one)"
	if err := Run(t.Context(), c); err == nil || err.Error() != want {
		t.Errorf("err = %v, want %s", err, want)
	}
}

func TestShift(t *testing.T) {
	for _, tt := range []struct {
		addr string
		i    int
		want string // "" = refused
	}{
		{"127.0.0.1:8080", 0, "127.0.0.1:8080"}, {"127.0.0.1:8080", 3, "127.0.0.1:8083"}, {"[::1]:53", 1, "[::1]:54"},
		{"127.0.0.1:0", 5, "127.0.0.1:0"}, {":80", 1, ":81"}, {"127.0.0.1:65535", 1, ""}, {"127.0.0.1:65536", 0, ""},
		{"127.0.0.1", 0, ""}, {"127.0.0.1:http", 0, ""}, {"127.0.0.1:-1", 2, ""},
	} {
		got, err := shift(tt.addr, tt.i)
		if got != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("shift(%s, %d) = %q, %v; want %q", tt.addr, tt.i, got, err, tt.want)
		}
	}
}

func TestScreen(t *testing.T) {
	s := State{
		API: "http://127.0.0.1:8787/client/v4", CA: "/home/ada/site/.state/dev/control/identity/site-ca.pem",
		Edges: []StateEdge{
			{Colo: "FRA", HTTP: "127.0.0.1:8080", HTTPS: "127.0.0.1:8443", DNS: "127.0.0.1:5300", Metrics: "127.0.0.1:9180"},
			{Colo: "NRT", HTTP: "127.0.0.1:8081", HTTPS: "127.0.0.1:8444", DNS: "127.0.0.1:5301", Metrics: "127.0.0.1:9181"},
		},
		Control: StateControl{TokenFile: "/home/ada/site/.state/dev/control/token"},
	}
	far := s
	far.CA, far.Control.TokenFile = "/srv/ada's state/site-ca.pem", "/srv/ada's state/token"
	far.Edges = []StateEdge{{Colo: "FRA", HTTP: "[::]:8080", HTTPS: "0.0.0.0:8443", DNS: "[::1]:53", Metrics: "127.0.0.1:9180"}}
	for name, got := range map[string]string{
		"screen.txt":        Screen("/home/ada/site/.state/dev", "/home/ada/site", "bin/selvage", s, true),
		"screen-nodemo.txt": Screen("/home/ada/site/.state/dev", "/home/ada/site", "bin/selvage", s, false),
		"screen-far.txt":    Screen("/srv/ada's state", "/home/ada/site", "selvage", far, true),
	} {
		file := filepath.Join("testdata", name)
		if *update {
			if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s is\n%s\nwant\n%s", name, got, want)
		}
	}
}

func TestChildLogKeepsTheReason(t *testing.T) {
	var file, terminal bytes.Buffer
	l := &childLog{name: "edge-FRA", file: &file, tee: &terminal}
	for _, part := range []string{"time=1 msg=start", "ing\nselvage: disk ", "full\ngoroutine 1\n", "unfinished"} {
		if n, err := l.Write([]byte(part)); n != len(part) || err != nil {
			t.Errorf("Write = %d, %v", n, err)
		}
	}
	if got, want := l.reason(), "disk full"; got != want {
		t.Errorf("reason = %q, want %q", got, want)
	}
	if got, want := terminal.String(), "edge-FRA: time=1 msg=starting\nedge-FRA: selvage: disk full\nedge-FRA: goroutine 1\n"; got != want {
		t.Errorf("terminal has %q, want %q", got, want)
	}
	l.begin()
	_, _ = l.Write([]byte("only this\n"))
	if got := l.reason(); got != "only this" {
		t.Errorf("reason after a restart = %q", got)
	}
}

func TestEdgesHaveTheRuntimeSettingOfTheUnit(t *testing.T) {
	unit, err := os.ReadFile("../../../../deploy/systemd/selvage-edge.service")
	if err != nil {
		t.Fatal(err)
	}
	const ours = "schedtrace=2147483647"
	if !strings.Contains(string(unit), "\nEnvironment=GODEBUG="+ours+"\n") {
		t.Errorf("the unit does not set %s", ours)
	}
	for _, c := range []struct{ given, want string }{
		{"", ours}, {"GODEBUG=", ours}, {"GODEBUG=gctrace=1", "gctrace=1," + ours}, {"GODEBUG=schedtrace=1000", "schedtrace=1000"},
	} {
		if got := goDebug([]string{"PATH=/bin", c.given}); got != c.want {
			t.Errorf("GODEBUG of a user with %q is %q, want %q", c.given, got, c.want)
		}
	}
}
