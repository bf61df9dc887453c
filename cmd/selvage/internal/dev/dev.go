// Package dev runs a whole Selvage on one machine: one control plane, some
// edges and a demo origin as child processes of one binary, each of which can
// be killed and comes back on the same ports. What is running stands in
// dev.json of its state folder.
package dev

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/selvage-edge/selvage/client"
	"github.com/selvage-edge/selvage/internal/supervise"
)

// Config is what the command line says.
type Config struct {
	Binary   string // path of selvage itself
	State    string
	Folder   string // the current one; paths below it are shown short
	Edges    int    // from 1 to MaxEdges
	API      string // listen addresses; edge i adds i to a port that is not 0
	Feed     string
	HTTP     string
	HTTPS    string
	DNS      string
	Metrics  string
	Peer     string
	Demo     bool
	EdgeArgs []string // passed on to each edge

	Verbose bool // children's logs also to Err
	Environ []string
	Out     io.Writer // the screen
	Err     io.Writer
	Log     *slog.Logger
}

// MaxEdges is how many edges one machine is asked to run.
const MaxEdges = 16

// names of the data centers that edges stand for, in this order.
var colos = [MaxEdges]string{"FRA", "NRT", "SIN", "LHR", "IAD", "SYD", "GRU", "JNB", "AMS", "LAX", "CDG", "BOM", "ORD", "HKG", "MAD", "SEA"}

const (
	startLimit = 60 * time.Second // until everything is ready
	demoZone   = "demo.test"
)

// network is everything that dev runs: its parts and where they listen.
type network struct {
	c       Config
	sup     *supervise.Supervisor
	control *part
	edges   []*part
	origin  *part // nil without the demo
	up      chan started
	fatal   chan error
}

// Run starts everything, prints the screen and a line "ready", and stops
// everything when ctx ends. It returns nil after a clean stop.
func Run(ctx context.Context, c Config) (err error) {
	// Other programs read paths in dev.json, wherever they stand.
	if c.State, err = filepath.Abs(c.State); err != nil {
		return fmt.Errorf("state folder: %w", err)
	}
	if err := os.MkdirAll(filepath.Join(c.State, "log"), 0o700); err != nil {
		return fmt.Errorf("state folder: %w; give another with --state DIR", err)
	}
	unlock, err := lock(c.State)
	if err != nil {
		return err
	}
	defer unlock()
	if err := removeState(c.State); err != nil {
		return err
	}
	n := &network{c: c, up: make(chan started, 4*MaxEdges), fatal: make(chan error, 1)}
	if err := n.open(ctx); err != nil {
		return err
	}
	n.sup = supervise.New(supervise.Config{Log: c.Log, Started: n.started, Ended: n.ended})
	// Children outlive a failed start by their drain, so Run waits for them on
	// every way out.
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() { n.sup.Run(ctx); close(done) }()
	defer func() {
		cancel()
		// While our side of the sockets is open, new visitors would queue for
		// children that drain, instead of being refused.
		n.close()
		<-done
		err = errors.Join(err, removeState(c.State))
	}()
	return n.run(ctx)
}

func (n *network) run(ctx context.Context) error {
	begin, cancel := context.WithTimeoutCause(ctx, startLimit, fmt.Errorf("not ready after %s", startLimit))
	defer cancel()
	if err := n.start(begin, ctx); err != nil {
		if ctx.Err() != nil {
			return nil // stopped while starting
		}
		return err
	}
	state, err := n.describe()
	if err != nil {
		return err
	}
	if err := writeState(n.c.State, state); err != nil {
		return err
	}
	if _, err := io.WriteString(n.c.Out, Screen(n.c.State, n.c.Folder, n.command(), state, n.c.Demo)+"ready\n"); err != nil {
		return fmt.Errorf("print screen: %w", err)
	}
	return n.watch(ctx)
}

// start brings up the parts in the order in which they need each other. The
// children belong to life, which outlasts begin.
func (n *network) start(begin, life context.Context) error {
	if n.origin != nil {
		n.sup.Add(life, n.child(n.origin))
	}
	n.sup.Add(life, n.child(n.control))
	if err := n.await(begin, n.control); err != nil {
		return err
	}
	api, err := n.client()
	if err != nil {
		return err
	}
	for _, e := range n.edges {
		n.sup.Add(life, n.child(e))
	}
	var seq uint64
	if n.origin != nil {
		if seq, err = n.onboard(begin, api); err != nil {
			return fmt.Errorf("demo zone: %w", err)
		}
	}
	for _, e := range n.edges {
		if err := n.await(begin, e); err != nil {
			return err
		}
	}
	if n.origin == nil {
		return nil
	}
	if err := n.acknowledged(begin, api, seq); err != nil {
		return err
	}
	return n.tryDemo(begin)
}

// command is what a user types to call this program.
func (n *network) command() string {
	if found, err := exec.LookPath("selvage"); err == nil && found == n.c.Binary {
		return "selvage"
	}
	return short(n.c.Folder, n.c.Binary)
}

func (n *network) client() (*client.Client, error) {
	f, err := n.controlFile()
	if err != nil {
		return nil, err
	}
	token, err := readToken(f.TokenFile)
	if err != nil {
		return nil, err
	}
	return client.New(client.Config{API: f.API, Token: token})
}

// open opens every listener, so that a child that restarts finds its port as
// it was, and visitors who come meanwhile wait instead of being refused.
func (n *network) open(ctx context.Context) (err error) {
	defer func() {
		if err != nil {
			n.close()
		}
	}()
	n.control = &part{name: "control", dir: filepath.Join(n.c.State, "control")}
	for _, l := range []struct{ name, addr string }{{"api", n.c.API}, {"feed", n.c.Feed}} {
		if err := n.control.listen(ctx, l.name, l.addr, 0); err != nil {
			return err
		}
	}
	for i := range n.c.Edges {
		e := &part{name: "edge-" + colos[i], colo: colos[i], dir: filepath.Join(n.c.State, "edge-"+colos[i])}
		n.edges = append(n.edges, e)
		for _, l := range []struct{ name, addr string }{
			{"http", n.c.HTTP}, {"https", n.c.HTTPS}, {"dns", n.c.DNS}, {"metrics", n.c.Metrics}, {"peer", n.c.Peer},
		} {
			if err := e.listen(ctx, l.name, l.addr, i); err != nil {
				return err
			}
		}
	}
	if !n.c.Demo {
		return nil
	}
	n.origin = &part{name: "demo-origin", dir: filepath.Join(n.c.State, "demo-origin")}
	return n.origin.listenAsBefore(ctx)
}

func (n *network) close() {
	for _, p := range n.parts() {
		for _, s := range p.sockets {
			if err := s.Close(); err != nil {
				n.c.Log.Error("socket not closed", "part", p.name, "socket", s.Name, "error", err)
			}
		}
	}
}

func (n *network) parts() []*part {
	all := append([]*part{}, n.edges...)
	for _, p := range []*part{n.control, n.origin} {
		if p != nil {
			all = append(all, p)
		}
	}
	return all
}

// lock keeps a second dev off the same state folder; the kernel releases it
// when this process ends, however it ends.
func lock(state string) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(state, "dev.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock state folder: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("another selvage dev runs with the state folder %s; stop it, or give this one its own with --state DIR", state)
		}
		return nil, fmt.Errorf("lock state folder: %w", err)
	}
	return func() { _ = f.Close() }, nil
}

// Check refuses what cannot be meant, naming the flag.
func (c *Config) Check() error {
	if c.Edges < 1 || c.Edges > MaxEdges {
		return fmt.Errorf("--edges: from 1 to %d are possible on one machine, got %d", MaxEdges, c.Edges)
	}
	for _, l := range []struct {
		flag, addr string
		many       bool
	}{
		{"api", c.API, false}, {"feed", c.Feed, false}, {"http", c.HTTP, true}, {"https", c.HTTPS, true},
		{"dns", c.DNS, true}, {"metrics", c.Metrics, true}, {"peer", c.Peer, true},
	} {
		last := 0
		if l.many {
			last = c.Edges - 1
		}
		if _, err := shift(l.addr, last); err != nil {
			return fmt.Errorf("--%s: %w", l.flag, err)
		}
	}
	return nil
}
