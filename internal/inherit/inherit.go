// Package inherit hands open sockets from a supervisor to its children by name,
// so that a port is never lost while a child restarts. It follows the
// LISTEN_FDS convention (sd_listen_fds(3)), so systemd's socket units work too.
package inherit

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

const (
	firstFD  = 3 // after stdin, stdout and stderr
	maxFiles = 64
)

// Set holds the sockets that were handed over, by name.
type Set map[string]*os.File

// FromEnv returns the sockets that this process was started with; an empty Set
// when there are none. It must be called once, before other files are opened.
func FromEnv(getenv func(string) string) (Set, error) {
	set := Set{}
	count := getenv("LISTEN_FDS")
	if count == "" {
		return set, nil
	}
	// Without a LISTEN_PID the sockets are from our own supervisor, which
	// cannot know a child's number before it starts it.
	if pid := getenv("LISTEN_PID"); pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return set, nil
	}
	n, err := strconv.Atoi(count)
	if err != nil || n < 0 || n > maxFiles {
		return nil, fmt.Errorf("LISTEN_FDS: a number from 0 to %d is needed, got %q", maxFiles, count)
	}
	names := strings.Split(getenv("LISTEN_FDNAMES"), ":")
	if n > 0 && len(names) != n {
		return nil, fmt.Errorf("LISTEN_FDNAMES has %d names for %d sockets", len(names), n)
	}
	for i := range n {
		if names[i] == "" || set[names[i]] != nil {
			return nil, fmt.Errorf("LISTEN_FDNAMES: name %q of socket %d is empty or there twice", names[i], i)
		}
		syscall.CloseOnExec(firstFD + i)
		set[names[i]] = os.NewFile(uintptr(firstFD+i), names[i])
	}
	return set, nil
}

// Listen returns the stream listener that was handed over under name, else a
// new one on addr.
func (s Set) Listen(ctx context.Context, name, network, addr string) (net.Listener, error) {
	f, ok := s[name]
	if !ok {
		var lc net.ListenConfig
		return lc.Listen(ctx, network, addr)
	}
	l, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("inherited socket %s: %w", name, err)
	}
	delete(s, name)
	return l, f.Close()
}

// ListenPacket is Listen for datagrams.
func (s Set) ListenPacket(ctx context.Context, name, network, addr string) (net.PacketConn, error) {
	f, ok := s[name]
	if !ok {
		var lc net.ListenConfig
		return lc.ListenPacket(ctx, network, addr)
	}
	c, err := net.FilePacketConn(f)
	if err != nil {
		return nil, fmt.Errorf("inherited socket %s: %w", name, err)
	}
	delete(s, name)
	return c, f.Close()
}

// Socket is one open socket of a supervisor.
type Socket struct {
	Name string
	Addr string // host:port that it is bound to
	File *os.File
}

// Close closes the supervisor's side.
func (s Socket) Close() error { return s.File.Close() }

// OpenStream listens on a TCP address, port 0 being the kernel's choice.
func OpenStream(ctx context.Context, name, addr string) (Socket, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return Socket{}, err
	}
	defer l.Close() // the duplicate in File keeps the socket open
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		return Socket{}, fmt.Errorf("duplicate socket %s: %w", name, err)
	}
	return Socket{Name: name, Addr: l.Addr().String(), File: f}, nil
}

// OpenPair binds UDP and TCP to one port of addr, under two names. With port 0
// it looks for a port that is free for both.
func OpenPair(ctx context.Context, udpName, tcpName, addr string) (udp, tcp Socket, err error) {
	const tries = 32
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return udp, tcp, err
	}
	for range tries {
		if tcp, err = OpenStream(ctx, tcpName, addr); err != nil {
			return udp, tcp, err
		}
		if udp, err = openPacket(ctx, udpName, tcp.Addr); err == nil {
			return udp, tcp, nil
		}
		err = errors.Join(err, tcp.Close())
		if port != "0" {
			break
		}
	}
	return Socket{}, Socket{}, err
}

func openPacket(ctx context.Context, name, addr string) (Socket, error) {
	var lc net.ListenConfig
	c, err := lc.ListenPacket(ctx, "udp", addr)
	if err != nil {
		return Socket{}, err
	}
	defer func() { _ = c.Close() }() // the duplicate in File keeps the socket open
	f, err := c.(*net.UDPConn).File()
	if err != nil {
		return Socket{}, fmt.Errorf("duplicate socket %s: %w", name, err)
	}
	return Socket{Name: name, Addr: c.LocalAddr().String(), File: f}, nil
}

// Pass gives sockets to a command that has not started yet. It sets the
// command's ExtraFiles and adds to its Env, which must be set before (an empty
// Env would mean the parent's).
func Pass(cmd *exec.Cmd, sockets []Socket) {
	names := make([]string, len(sockets))
	cmd.ExtraFiles = make([]*os.File, len(sockets))
	for i, s := range sockets {
		names[i], cmd.ExtraFiles[i] = s.Name, s.File
	}
	cmd.Env = append(cmd.Env, "LISTEN_PID=", "LISTEN_FDS="+strconv.Itoa(len(sockets)), "LISTEN_FDNAMES="+strings.Join(names, ":"))
}
