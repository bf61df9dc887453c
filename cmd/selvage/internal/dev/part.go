package dev

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/selvage-edge/selvage/feed"
	"github.com/selvage-edge/selvage/internal/atomicfile"
	"github.com/selvage-edge/selvage/internal/inherit"
	"github.com/selvage-edge/selvage/internal/supervise"
)

// part is one child process and what belongs to it.
type part struct {
	name    string
	colo    string // of an edge
	dir     string // its own state folder
	sockets []inherit.Socket
	log     *childLog
	pid     atomic.Int64 // of the newest start
	ended   atomic.Int64 // how often, since dev started
	settled atomic.Bool  // it was ready once
}

// started is sent when a child has started.
type started struct {
	part *part
	pid  int
}

// listen opens a socket for edge number i: its address is port + i.
func (p *part) listen(ctx context.Context, name, addr string, i int) error {
	addr, err := shift(addr, i)
	if err != nil {
		return fmt.Errorf("--%s: %w", name, err)
	}
	if tcpName, paired := map[string]string{"dns": "dns-tcp", "https": "https"}[name]; paired {
		udp, tcp, err := inherit.OpenPair(ctx, name+"-udp", tcpName, addr)
		if err != nil {
			return inUse(name, addr, err)
		}
		p.sockets = append(p.sockets, udp, tcp)
		return nil
	}
	s, err := inherit.OpenStream(ctx, name, addr)
	if err != nil {
		return inUse(name, addr, err)
	}
	p.sockets = append(p.sockets, s)
	return nil
}

func inUse(name, addr string, err error) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("address %s is in use by another program; choose one with --%s ADDR (port 0 takes a free one)", addr, name)
	}
	return fmt.Errorf("--%s: %w", name, err)
}

// shift adds i to the port of addr, unless it is 0.
func shift(addr string, i int) (string, error) {
	host, text, err := net.SplitHostPort(addr)
	if err != nil {
		return "", fmt.Errorf("an address such as 127.0.0.1:8080 is needed, got %q", addr)
	}
	port, err := strconv.Atoi(text)
	if err != nil || port < 0 || port > 65535 {
		return "", fmt.Errorf("a port from 0 to 65535 is needed, got %q", addr)
	}
	if port != 0 {
		port += i
	}
	if port > 65535 {
		return "", fmt.Errorf("edge number %d would listen on port %d, over 65535; choose a lower port", i+1, port)
	}
	return net.JoinHostPort(host, strconv.Itoa(port)), nil
}

// listenAsBefore gives the demo origin the port that it had at the last start,
// so that the rule that points at it need not change.
func (p *part) listenAsBefore(ctx context.Context) error {
	if err := os.MkdirAll(p.dir, 0o700); err != nil {
		return fmt.Errorf("state folder: %w", err)
	}
	file := filepath.Join(p.dir, "address")
	if text, err := os.ReadFile(file); err == nil {
		if s, err := inherit.OpenStream(ctx, "http", strings.TrimSpace(string(text))); err == nil {
			p.sockets = append(p.sockets, s)
			return nil
		}
	}
	s, err := inherit.OpenStream(ctx, "http", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("demo origin: %w", err)
	}
	p.sockets = append(p.sockets, s)
	return atomicfile.Write(file, []byte(s.Addr+"\n"), 0o600)
}

func (p *part) addr(name string) string {
	for _, s := range p.sockets {
		if s.Name == name || s.Name == name+"-udp" {
			return s.Addr
		}
	}
	return ""
}

// file is the state file that the part writes when it is ready.
func (p *part) file() string {
	if p.colo != "" {
		return filepath.Join(p.dir, "edge.json")
	}
	return filepath.Join(p.dir, p.name+".json")
}

func (n *network) child(p *part) supervise.Child {
	p.log = newChildLog(filepath.Join(n.c.State, "log", p.name+".log"), p.name, n.c.Verbose, n.c.Err)
	return supervise.Child{Name: p.name, Command: func(ctx context.Context) (*exec.Cmd, error) {
		args, env, err := n.arguments(ctx, p)
		if err != nil {
			return nil, err
		}
		// A file of the last run would pass for this one's if pids came round.
		if err := os.Remove(p.file()); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
		cmd := exec.Command(n.c.Binary, args...) // not CommandContext: the supervisor ends it, and gently
		cmd.Env = append(append([]string{}, n.c.Environ...), env...)
		if p.colo != "" {
			cmd.Env = append(cmd.Env, "GODEBUG="+goDebug(n.c.Environ))
		}
		cmd.Stdout, cmd.Stderr = p.log, p.log
		cmd.WaitDelay = time.Second
		inherit.Pass(cmd, p.sockets)
		p.log.begin()
		return cmd, nil
	}}
}

// goDebug is what the unit in deploy/ sets for edges, which says why, behind what
// the user has set.
func goDebug(environ []string) string {
	value := ""
	for _, line := range environ {
		if v, ok := strings.CutPrefix(line, "GODEBUG="); ok && v != "" {
			value = v + ","
		}
	}
	if strings.Contains(value, "schedtrace=") {
		return strings.TrimSuffix(value, ",")
	}
	return value + "schedtrace=2147483647"
}

func (n *network) arguments(ctx context.Context, p *part) (args, env []string, err error) {
	switch {
	case p == n.control:
		return []string{"control", "--state", p.dir, "--api", p.addr("api"), "--feed", p.addr("feed"), "--auto-certificate"}, nil, nil
	case p == n.origin:
		return []string{"demo-origin", "--http", p.addr("http")}, nil, nil
	}
	args = []string{
		"edge", "--state", p.dir, "--colo", p.colo, "--parent", n.control.addr("feed"),
		"--http", p.addr("http"), "--https", p.addr("https"), "--dns", p.addr("dns"), "--metrics", p.addr("metrics"), "--peer", p.addr("peer"),
		"--advertise", "127.0.0.1", "--allow-origins", "127.0.0.0/8,::1/128",
		"--access-log", filepath.Join(n.c.State, "log", "access-"+p.colo+".log"),
	}
	args = append(args, n.c.EdgeArgs...)
	if _, err := feed.LoadIdentity(filepath.Join(p.dir, "identity")); !errors.Is(err, feed.ErrNoIdentity) {
		return args, nil, nil // it has joined; what is wrong with its identity it says itself
	}
	token, err := n.joinToken(ctx)
	if err != nil {
		return nil, nil, err
	}
	// By the environment: other users can read a command line.
	return args, []string{"SELVAGE_JOIN=" + token}, nil
}

// joinToken asks the control plane for a token, as an operator would.
func (n *network) joinToken(ctx context.Context) (string, error) {
	api, err := n.client()
	if err != nil {
		return "", fmt.Errorf("join token: %w", err)
	}
	token, err := api.JoinToken(ctx, false)
	if err != nil {
		return "", fmt.Errorf("join token: %w", err)
	}
	return token, nil
}

// Started and ended are called by the supervisor.
func (n *network) started(name string, pid int) {
	for _, p := range n.parts() {
		if p.name == name {
			p.pid.Store(int64(pid))
			select {
			case n.up <- started{p, pid}:
			default: // the watcher reads p.pid anyway
			}
		}
	}
}

func (n *network) ended(name string, _ int, _ string) {
	for _, p := range n.parts() {
		if p.name == name {
			p.ended.Add(1)
		}
	}
}
