package inherit

import (
	"context"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestMain lets the test binary be the child that inherits.
func TestMain(m *testing.M) {
	if os.Getenv("INHERIT_TEST_CHILD") == "" {
		os.Exit(m.Run())
	}
	set, err := FromEnv(os.Getenv)
	if err != nil {
		_, _ = os.Stdout.WriteString("error: " + err.Error())
		os.Exit(0)
	}
	var names []string
	for _, name := range []string{"dns-udp", "dns-tcp"} {
		if set[name] != nil {
			names = append(names, name)
		}
	}
	_, _ = os.Stdout.WriteString(strings.Join(names, " "))
	if l, err := set.Listen(context.Background(), "dns-tcp", "tcp", "192.0.2.1:1"); err == nil {
		_, _ = os.Stdout.WriteString(" " + l.Addr().String())
	}
	if c, err := set.ListenPacket(context.Background(), "dns-udp", "udp", "192.0.2.1:1"); err == nil {
		_, _ = os.Stdout.WriteString(" " + c.LocalAddr().String())
	}
	os.Exit(0)
}

func TestChildHasTheSocketsByName(t *testing.T) {
	udp, tcp, err := OpenPair(t.Context(), "dns-udp", "dns-tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	defer tcp.Close()
	if udp.Addr != tcp.Addr {
		t.Errorf("UDP is on %s, TCP on %s", udp.Addr, tcp.Addr)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second child finds the same sockets
		cmd := exec.CommandContext(t.Context(), self)
		cmd.Env = append(os.Environ(), "INHERIT_TEST_CHILD=1")
		Pass(cmd, []Socket{udp, tcp})
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		if got, want := string(out), "dns-udp dns-tcp "+tcp.Addr+" "+udp.Addr; got != want {
			t.Errorf("child says %q, want %q", got, want)
		}
	}
}

func TestPortStaysTakenWithoutAListener(t *testing.T) {
	s, err := OpenStream(t.Context(), "http", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := OpenStream(t.Context(), "http", s.Addr); err == nil {
		t.Error("the port was given out twice")
	}
	c, err := net.Dial("tcp", s.Addr) // nobody accepts yet: the kernel keeps the visitor waiting
	if err != nil {
		t.Fatalf("visitor was refused: %v", err)
	}
	_ = c.Close()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := OpenStream(t.Context(), "http", s.Addr)
	if err != nil {
		t.Fatalf("the port is not free after Close: %v", err)
	}
	_ = again.Close()
}

func TestPairRefusesAPortThatIsHalfTaken(t *testing.T) {
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, _, err := OpenPair(t.Context(), "dns-udp", "dns-tcp", c.LocalAddr().String()); err == nil {
		t.Error("UDP was bound twice")
	}
}

func TestWithoutInheritanceItListensItself(t *testing.T) {
	set, err := FromEnv(func(string) string { return "" })
	if err != nil || len(set) != 0 {
		t.Fatalf("set %v, err %v", set, err)
	}
	l, err := set.Listen(t.Context(), "http", "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	var none Set
	c, err := none.ListenPacket(t.Context(), "dns-udp", "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
}

func TestFromEnvRefusesWhatDoesNotFit(t *testing.T) {
	for _, tt := range []struct{ fds, names string }{
		{"x", ""}, {"-1", ""}, {"65", ""}, {"2", "http"}, {"1", ""}, {"2", "http:http"},
	} {
		env := map[string]string{"LISTEN_FDS": tt.fds, "LISTEN_FDNAMES": tt.names}
		if set, err := FromEnv(func(k string) string { return env[k] }); err == nil && len(set) > 0 {
			t.Errorf("%+v was taken as %v", tt, set)
		}
	}
	env := map[string]string{"LISTEN_FDS": "1", "LISTEN_FDNAMES": "http", "LISTEN_PID": "1"}
	if set, err := FromEnv(func(k string) string { return env[k] }); err != nil || len(set) != 0 {
		t.Errorf("sockets of another process were taken: %v, %v", set, err)
	}
}
