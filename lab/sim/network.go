package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const host = "sim.test"

// origin counts what it is asked.
type origin struct {
	server *http.Server
	addr   string
	work   sync.WaitGroup

	version atomic.Int64 // what its pages say
	slow    atomic.Int64 // nanoseconds that an answer takes
	age     atomic.Int64 // max-age in seconds
	open    atomic.Int64
	peak    atomic.Int64 // the most at a time

	mu     sync.Mutex
	counts map[string]int // guarded by mu
}

func startOrigin(ctx context.Context) (*origin, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	o := &origin{addr: l.Addr().String(), counts: map[string]int{}}
	o.age.Store(86400)
	o.server = &http.Server{Handler: o, ReadHeaderTimeout: time.Minute}
	o.work.Go(func() { _ = o.server.Serve(l) }) // it ends by close
	return o, nil
}

func (o *origin) close() {
	_ = o.server.Close()
	o.work.Wait()
}

func (o *origin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	now := o.open.Add(1)
	defer o.open.Add(-1)
	for peak := o.peak.Load(); now > peak && !o.peak.CompareAndSwap(peak, now); peak = o.peak.Load() {
	}
	o.mu.Lock()
	o.counts[r.URL.Path]++
	o.mu.Unlock()
	version := o.version.Load()
	if d := time.Duration(o.slow.Load()); d > 0 {
		time.Sleep(d)
	}
	w.Header().Set("Cache-Control", "max-age="+strconv.FormatInt(o.age.Load(), 10))
	w.Header().Set("Cache-Tag", "all")
	_, _ = fmt.Fprint(w, version) // who went is counted by its visitor
}

// reset forgets what was counted.
func (o *origin) reset() {
	o.mu.Lock()
	defer o.mu.Unlock()
	clear(o.counts)
	o.peak.Store(0)
}

// asked is how often in all, and how often for the page asked for most.
func (o *origin) asked() (sum, most int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, n := range o.counts {
		sum, most = sum+n, max(most, n)
	}
	return sum, most
}

// network is a running `selvage dev`.
type network struct {
	API   string `json:"api"`
	Token string `json:"token"`
	Ready bool   `json:"ready"`
	Edges []struct {
		Colo, HTTP, Metrics string
	} `json:"edges"`
	zone    string
	clients []*http.Client // one for each edge
	stop    func()
}

func startNetwork(ctx context.Context, o options, addr string) (n *network, err error) {
	dir, err := os.MkdirTemp("", "selvage-sim-")
	if err != nil {
		return nil, err
	}
	state := filepath.Join(dir, "state")
	var log bytes.Buffer
	cmd := exec.CommandContext(ctx, o.binary, "dev", "--state", state, "--no-demo", "--edges", strconv.Itoa(o.edges), "--cache-bytes", "64MiB",
		"--api", "127.0.0.1:0", "--http", "127.0.0.1:0", "--https", "127.0.0.1:0", "--dns", "127.0.0.1:0")
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 40 * time.Second
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	n = &network{stop: func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended already
		_ = cmd.Wait()                          // how it ended is in its output
		_ = os.RemoveAll(dir)
	}}
	defer func() {
		if err != nil {
			n.stop()
			err = fmt.Errorf("start selvage: %w\n%s", err, log.Bytes())
		}
	}()
	if err := until(ctx, time.Minute, func() error {
		text, err := os.ReadFile(filepath.Join(state, "dev.json"))
		if err != nil {
			return err
		}
		if err := json.Unmarshal(text, n); err != nil || !n.Ready {
			return errors.Join(err, errors.New("not ready"))
		}
		return nil
	}); err != nil {
		return nil, err
	}
	for _, e := range n.Edges {
		if err := until(ctx, time.Minute, func() error { return knows(ctx, e.Metrics, o.edges-1) }); err != nil {
			return nil, err
		}
		n.clients = append(n.clients, visitor(e.HTTP))
	}
	out, err := exec.CommandContext(ctx, o.binary, "zone", "add", host, "--origin", "http://"+addr, "--state", state).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("zone add: %w: %s", err, out)
	}
	var zones []struct{ ID, Name string }
	if _, err := n.call(ctx, "GET", "/zones?name="+host, nil, &zones); err != nil {
		return nil, err
	}
	n.zone = "/zones/" + zones[0].ID
	return n, nil
}

// knows is an error unless an edge knows as many others.
func knows(ctx context.Context, metrics string, others int) error {
	n, err := metric(ctx, metrics, `selvage_tier_nodes{state="up"}`)
	if err == nil && n != float64(others) {
		err = fmt.Errorf("%s knows %g others of %d", metrics, n, others)
	}
	return err
}

// metric reads one of an edge's metrics.
func metric(ctx context.Context, addr, name string) (float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	for lines := bufio.NewScanner(res.Body); lines.Scan(); {
		if value, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			return strconv.ParseFloat(value, 64)
		}
	}
	return 0, fmt.Errorf("%s has no %s", addr, name)
}

// sum adds one metric of all edges.
func (n *network) sum(ctx context.Context, name string) (sum float64, err error) {
	for _, e := range n.Edges {
		value, err := metric(ctx, e.Metrics, name)
		if err != nil {
			return 0, err
		}
		sum += value
	}
	return sum, nil
}

// visitor reaches one edge whatever the URL's host.
func visitor(addr string) *http.Client {
	return &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", addr)
		},
		MaxIdleConnsPerHost: 128, DisableCompression: true,
	}}
}

// get asks edge i for a path of the zone.
func (n *network) get(ctx context.Context, i int, path string) (status int, body string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+host+path, nil)
	if err != nil {
		return 0, "", err
	}
	res, err := n.clients[i].Do(req)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	return res.StatusCode, string(text), err
}

// call makes one API call and returns the feed's number.
func (n *network) call(ctx context.Context, method, path string, body, into any) (seq string, err error) {
	text, err := json.Marshal(body)
	if err != nil {
		return "", err
	}
	base := n.API
	if strings.HasPrefix(path, "/selvage/") {
		base = strings.TrimSuffix(base, "/client/v4")
	}
	req, err := http.NewRequestWithContext(ctx, method, base+path, bytes.NewReader(text))
	if err != nil {
		return "", err
	}
	req.Header.Set("Authorization", "Bearer "+n.Token)
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	var envelope struct {
		Success bool
		Errors  json.RawMessage
		Result  json.RawMessage
	}
	if err := json.NewDecoder(res.Body).Decode(&envelope); err != nil {
		return "", fmt.Errorf("%s %s: %w", method, path, err)
	}
	if !envelope.Success {
		return "", fmt.Errorf("%s %s: %d %s", method, path, res.StatusCode, envelope.Errors)
	}
	if into != nil {
		err = json.Unmarshal(envelope.Result, into)
	}
	return res.Header.Get("Selvage-Seq"), err
}

// everywhere waits until all edges have acknowledged a number of the feed.
func (n *network) everywhere(ctx context.Context, seq string) error {
	return until(ctx, 10*time.Second, func() error {
		var c struct{ Pending []struct{ Colo string } }
		if _, err := n.call(ctx, "GET", "/selvage/v1/changes/"+seq, nil, &c); err != nil {
			return err
		}
		if len(c.Pending) > 0 {
			return fmt.Errorf("%d edges wait for %s", len(c.Pending), seq)
		}
		return nil
	})
}

// until asks until ok has no error.
func until(ctx context.Context, limit time.Duration, ok func() error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ok()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return err
		}
	}
}
