package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/selvage-edge/selvage/client"
)

// process is one selvage with a state folder of its own. It is started again
// with the addresses that it had.
type process struct {
	name  string // of its data center
	kind  string // control, relay or edge
	state string
	node  string // its identity; "" for the control plane
	args  []string
	ready string    // file that says where it is
	since time.Time // when it was killed last
	cmd   *exec.Cmd
	log   bytes.Buffer
	ended chan error
}

// network is all of them, the control plane first, edges last.
type network struct {
	o       options
	all     []*process
	api     string
	feed    string
	relays  []string
	control *client.Client
}

func startNetwork(ctx context.Context, o options, dir string) (*network, error) {
	n := &network{o: o, api: "127.0.0.1:0", feed: "127.0.0.1:0"}
	control := &process{name: "control", kind: "control", state: filepath.Join(dir, "control")}
	n.all = append(n.all, control)
	if err := n.start(ctx, control); err != nil {
		return n, err
	}
	token, err := os.ReadFile(filepath.Join(control.state, "token"))
	if err != nil {
		return n, err
	}
	if n.control, err = client.New(client.Config{API: "http://" + n.api + "/client/v4", Token: strings.TrimSpace(string(token))}); err != nil {
		return n, err
	}
	for i := range o.relays {
		if err := n.add(ctx, dir, "relay", i, []string{n.feed}); err != nil {
			return n, err
		}
	}
	for i := range o.edges {
		// A relay first, another one if that is away, then the control plane.
		parents := []string{n.relays[i%o.relays], n.relays[(i+1)%o.relays], n.feed}
		if err := n.add(ctx, dir, "edge", i, slices.Compact(parents)); err != nil {
			return n, err
		}
	}
	_, err = n.settled(ctx, nil, time.Minute)
	return n, err
}

// add lets one more node join, and starts it.
func (n *network) add(ctx context.Context, dir, kind string, i int, parents []string) error {
	p := &process{name: fmt.Sprintf("%s%c%c", strings.ToUpper(kind[:1]), 'A'+i/26, 'A'+i%26), kind: kind}
	p.state = filepath.Join(dir, p.name)
	token, err := n.control.JoinToken(ctx, kind == "relay")
	if err != nil {
		return err
	}
	p.args = []string{"--colo", p.name, "--parent", strings.Join(parents, ","), "--join", token,
		"--http", "127.0.0.1:0", "--https", "127.0.0.1:0", "--dns", "127.0.0.1:0", "--metrics", "127.0.0.1:0",
		"--advertise", "127.0.0.1", "--access-log", "off", "--cache-bytes", "16MiB"}
	if kind == "relay" {
		p.args = append(p.args, "--relay", "127.0.0.1:0")
	}
	n.all = append(n.all, p)
	return n.start(ctx, p)
}

// start runs a process and waits until it says that it is ready.
func (n *network) start(ctx context.Context, p *process) error {
	kind, args := "edge", p.args
	if p.kind == "control" {
		kind, args = "control", []string{"--api", n.api, "--feed", n.feed}
	}
	p.ready = filepath.Join(p.state, kind+".json")
	if err := os.Remove(p.ready); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	p.log.Reset()
	p.cmd = exec.CommandContext(ctx, n.o.binary, append([]string{kind, "--state", p.state}, args...)...) //nolint:gosec // the program under test
	p.cmd.Stdout, p.cmd.Stderr = &p.log, &p.log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	p.ended = make(chan error, 1)
	if err := p.cmd.Start(); err != nil {
		return err
	}
	go func() { p.ended <- p.cmd.Wait() }()
	var said struct{ API, Feed, Relay, Node string }
	if err := p.says(ctx, &said); err != nil {
		return err
	}
	p.node = said.Node
	if p.kind == "control" {
		n.api, n.feed = strings.TrimSuffix(strings.TrimPrefix(said.API, "http://"), "/client/v4"), said.Feed
	}
	if p.kind == "relay" && p.args[len(p.args)-1] != said.Relay {
		p.args[len(p.args)-1] = said.Relay
		n.relays = append(n.relays, said.Relay)
	}
	return nil
}

func (p *process) says(ctx context.Context, said any) error {
	late := time.After(time.Minute)
	for {
		text, err := os.ReadFile(p.ready)
		if err == nil {
			err = json.Unmarshal(text, said)
		}
		if err == nil {
			return nil
		}
		select {
		case end := <-p.ended:
			p.ended <- end
			return fmt.Errorf("%s ended: %w\n%s", p.name, end, p.log.Bytes())
		case <-late:
			return fmt.Errorf("%s is not ready after a minute: %w", p.name, err)
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// nodes are all but the control plane.
func (n *network) nodes() []*process { return n.all[1:] }

// killOne kills a process under load, starts it again at once, and returns how
// long it took until it stood at the head of the log, and until all did.
func (n *network) killOne(ctx context.Context, p *process) (again, every time.Duration, err error) {
	start := time.Now()
	p.since = start
	if err := p.cmd.Process.Kill(); err != nil {
		return 0, 0, err
	}
	<-p.ended
	if err := n.start(ctx, p); err != nil {
		return 0, 0, err
	}
	if p.kind != "control" {
		if _, err := n.settled(ctx, p, time.Minute); err != nil {
			return 0, 0, err
		}
	}
	again = time.Since(start)
	if _, err := n.settled(ctx, nil, time.Minute); err != nil {
		return 0, 0, err
	}
	return again, time.Since(start), nil
}

// settled waits until one node, or all for nil, is connected and has what was the
// head of the log when the wait began.
func (n *network) settled(ctx context.Context, one *process, limit time.Duration) (head uint64, err error) {
	late := time.After(limit)
	for {
		f, err := n.control.Feed(ctx)
		if err == nil {
			if head == 0 {
				head = f.Head.Seq
			}
			if err = n.behind(f, one, head); err == nil {
				return head, nil
			}
		}
		select {
		case <-late:
			return 0, fmt.Errorf("not settled after %s: %w", limit, err)
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// behind is an error that names who has not reached head.
func (n *network) behind(f client.Feed, one *process, head uint64) error {
	for _, p := range n.nodes() {
		if one != nil && p != one {
			continue
		}
		i := slices.IndexFunc(f.Nodes, func(x client.FeedNode) bool { return x.Node == p.node })
		if i < 0 {
			return fmt.Errorf("%s is not known", p.name)
		}
		if x := f.Nodes[i]; !x.Connected || x.Since.Before(p.since) || x.Applied < head || x.Rejected != nil {
			return fmt.Errorf("%s: %+v, the head is %d", p.name, x, head)
		}
	}
	return nil
}

// end stops all that run, edges first, and waits for them.
func (n *network) end() (err error) {
	for _, p := range slices.Backward(n.all) {
		if p.cmd == nil || p.cmd.Process == nil {
			continue
		}
		_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended by itself, which Wait says
	}
	for _, p := range n.all {
		if p.ended == nil {
			continue
		}
		if end := <-p.ended; end != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w\n%.2000s", p.name, end, p.log.Bytes()))
		}
		p.ended = nil
	}
	return err
}
