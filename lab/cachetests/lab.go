package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// lab is the suite's origin and an edge before it.
type lab struct {
	base    string // URL of the zone at the edge
	running []*process
}

// process is one of our children.
type process struct {
	name string
	cmd  *exec.Cmd
	out  bytes.Buffer
	done chan error
}

const (
	startWithin = 30 * time.Second
	stopWithin  = 40 * time.Second
	poll        = 20 * time.Millisecond
)

// startLab starts origin and edge and waits until a request gets through.
func startLab(ctx context.Context, binary string, s *suite, dir string) (*lab, error) {
	l := &lab{}
	if err := l.start(ctx, binary, s, dir); err != nil {
		return nil, l.stop(err)
	}
	return l, nil
}

func (l *lab) start(ctx context.Context, binary string, s *suite, dir string) error {
	binary, err := absolute(binary)
	if err != nil {
		return err
	}
	port, err := freePort()
	if err != nil {
		return err
	}
	origin := exec.Command("node", "--no-warnings", filepath.Join(s.engine, "server", "server.mjs"))
	origin.Dir = s.root
	origin.Env = append(os.Environ(), "npm_config_protocol=http", "npm_config_port="+port, "npm_config_pidfile="+filepath.Join(dir, "origin.pid"),
		"npm_package_config_protocol=http", "npm_package_config_port="+port)
	if err := l.spawn("origin", origin); err != nil {
		return err
	}
	state := filepath.Join(dir, "state")
	if err := l.spawn("selvage dev", exec.Command(binary, "dev", "--state", state, "--edges", "1", "--no-demo",
		"--api", "127.0.0.1:0", "--http", "127.0.0.1:0", "--https", "127.0.0.1:0", "--dns", "127.0.0.1:0")); err != nil {
		return err
	}
	var dev struct {
		Ready bool
		Edges []struct{ HTTP string }
	}
	err = l.until(ctx, "the edge to be ready", func() bool {
		text, err := os.ReadFile(filepath.Join(state, "dev.json"))
		return err == nil && json.Unmarshal(text, &dev) == nil && dev.Ready && len(dev.Edges) > 0
	})
	if err != nil {
		return err
	}
	err = l.until(ctx, "the suite's origin", func() bool {
		c, err := net.DialTimeout("tcp", "127.0.0.1:"+port, time.Second)
		return err == nil && c.Close() == nil
	})
	if err != nil {
		return err
	}
	add := exec.CommandContext(ctx, binary, "zone", "add", host, "--origin", "http://127.0.0.1:"+port, "--state", state)
	if out, err := add.CombinedOutput(); err != nil {
		return fmt.Errorf("selvage zone add: %w\n%s", err, out)
	}
	_, edgePort, err := net.SplitHostPort(dev.Edges[0].HTTP)
	if err != nil {
		return err
	}
	l.base = "http://" + net.JoinHostPort(host, edgePort)
	return nil
}

// freePort is one that was free a moment ago; the suite's server takes a number
// only.
func freePort() (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	port := ln.Addr().(*net.TCPAddr).Port
	return strconv.Itoa(port), ln.Close()
}

func (l *lab) spawn(name string, cmd *exec.Cmd) error {
	p := &process{name: name, cmd: cmd, done: make(chan error, 1)}
	cmd.Stdout, cmd.Stderr = &p.out, &p.out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	go func() { p.done <- cmd.Wait() }()
	l.running = append(l.running, p)
	return nil
}

// until polls, since other people's programs do not say when they are there.
func (l *lab) until(ctx context.Context, what string, ok func() bool) error {
	late := time.After(startWithin)
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for !ok() {
		for _, p := range l.running {
			select {
			case err := <-p.done:
				p.done <- err
				return fmt.Errorf("%s ended: %w\n%s", p.name, err, p.out.String())
			default:
			}
		}
		select {
		case <-tick.C:
		case <-late:
			return fmt.Errorf("waited %s for %s", startWithin, what)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// stop ends what was started and passes err on. An edge that does not end
// cleanly is an error of its own.
func (l *lab) stop(err error) error {
	for i := len(l.running) - 1; i >= 0; i-- {
		p := l.running[i]
		_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended by itself
		select {
		case <-p.done:
		case <-time.After(stopWithin):
			_ = p.cmd.Process.Kill() // likewise
			<-p.done
			err = errors.Join(err, fmt.Errorf("%s did not end within %s\n%s", p.name, stopWithin, p.out.String()))
		}
	}
	return err
}
