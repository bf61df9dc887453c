package supervise

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/selvage-edge/selvage/internal/inherit"
)

// TestMain lets the test binary stand in for a child: it answers each
// connection on the inherited socket with its pid.
func TestMain(m *testing.M) {
	switch os.Getenv("SUPERVISE_TEST_CHILD") {
	case "":
		os.Exit(m.Run())
	case "stubborn":
		signal.Ignore(syscall.SIGTERM)
		_, _ = os.Stdout.WriteString("up\n")
		<-time.After(time.Hour) // a bare select would be a deadlock to the runtime
	case "fail":
		os.Exit(7)
	}
	os.Exit(serve())
}

func serve() int {
	set, err := inherit.FromEnv(os.Getenv)
	if err != nil {
		return 3
	}
	l, err := set.Listen(context.Background(), "http", "tcp", "127.0.0.1:1")
	if err != nil {
		return 4
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, func() { _ = l.Close() })
	for {
		c, err := l.Accept()
		if err != nil {
			return 0
		}
		_, _ = c.Write([]byte(os.Getenv("CHILD_MARK")))
		_ = c.Close()
	}
}

func child(t *testing.T, mode string, sockets []inherit.Socket, out *os.File) func(context.Context) (*exec.Cmd, error) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return func(context.Context) (*exec.Cmd, error) {
		cmd := exec.Command(self)
		cmd.Env = append(os.Environ(), "SUPERVISE_TEST_CHILD="+mode, "CHILD_MARK=hello")
		if out != nil {
			cmd.Stdout = out
		}
		inherit.Pass(cmd, sockets)
		return cmd, nil
	}
}

// running starts a supervisor and returns its stop, which waits for the end.
func running(t *testing.T, c Config) (*Supervisor, context.Context, func()) {
	t.Helper()
	c.Log = slog.New(slog.DiscardHandler)
	s := New(c)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { s.Run(ctx); close(done) }()
	stop := func() {
		cancel()
		select {
		case <-done:
		case <-time.After(20 * time.Second):
			t.Error("supervisor did not end")
		}
	}
	t.Cleanup(stop)
	return s, ctx, stop
}

func ask(t *testing.T, addr string) string {
	t.Helper()
	c, err := net.DialTimeout("tcp", addr, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	b := make([]byte, 16)
	n, err := c.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return string(b[:n])
}

func TestKilledChildComesBackOnItsPort(t *testing.T) {
	sock, err := inherit.OpenStream(t.Context(), "http", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer sock.Close()
	pids := make(chan int, 8)
	ends := make(chan string, 8)
	s, ctx, stop := running(t, Config{
		Started: func(_ string, pid int) { pids <- pid },
		Ended:   func(_ string, _ int, reason string) { ends <- reason },
	})
	s.Add(ctx, Child{Name: "edge", Command: child(t, "serve", []inherit.Socket{sock}, nil)})
	first := <-pids
	if got := ask(t, sock.Addr); got != "hello" {
		t.Fatalf("first child said %q", got)
	}
	if err := syscall.Kill(first, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if got, want := <-ends, "signal: killed"; got != want {
		t.Errorf("reason = %q, want %q", got, want)
	}
	// The socket never closed: a visitor who comes now is served by the next child.
	if got := ask(t, sock.Addr); got != "hello" {
		t.Errorf("second child said %q", got)
	}
	if second := <-pids; second == first {
		t.Errorf("same pid %d after a kill", second)
	}
	stop()
	if got, want := <-ends, "exit status 0"; got != want {
		t.Errorf("reason at stop = %q, want %q", got, want)
	}
}

func TestStubbornChildIsKilledAtTheLimit(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	ends := make(chan string, 8)
	s, ctx, stop := running(t, Config{StopLimit: 50 * time.Millisecond, Ended: func(_ string, _ int, reason string) { ends <- reason }})
	s.Add(ctx, Child{Name: "edge", Command: child(t, "stubborn", nil, w)})
	if _, err := r.Read(make([]byte, 8)); err != nil { // it ignores SIGTERM from here on
		t.Fatal(err)
	}
	stop()
	_ = w.Close()
	if got, want := <-ends, "signal: killed"; got != want {
		t.Errorf("reason = %q, want %q", got, want)
	}
}

func TestFailingChildIsRetriedWithAPause(t *testing.T) {
	ends := make(chan string, 8)
	s, ctx, _ := running(t, Config{FirstPause: time.Millisecond, Ended: func(_ string, _ int, reason string) {
		select {
		case ends <- reason:
		default:
		}
	}})
	s.Add(ctx, Child{Name: "edge", Command: child(t, "fail", nil, nil)})
	for range 3 {
		if got, want := <-ends, "exit status 7"; got != want {
			t.Errorf("reason = %q, want %q", got, want)
		}
	}
}

func TestCommandThatCannotBeMadeIsRetried(t *testing.T) {
	asked := make(chan struct{}, 8)
	s, ctx, _ := running(t, Config{FirstPause: time.Millisecond})
	s.Add(ctx, Child{Name: "edge", Command: func(context.Context) (*exec.Cmd, error) {
		select {
		case asked <- struct{}{}:
		default:
		}
		return nil, errors.New("no token yet")
	}})
	<-asked
	<-asked
}

func TestReasonNamesTheCause(t *testing.T) {
	if got := reasonOf(errors.New("exit status 2")); !strings.Contains(got, "2") {
		t.Errorf("reasonOf = %q", got)
	}
}
