package dev

import (
	"context"
	"fmt"
	"net/http"
	"time"
)

const (
	pollEvery  = 15 * time.Millisecond
	readyLimit = 2 * time.Second // for one answer of /readyz
	firstTries = 3               // deaths before the first readiness after which dev gives up
)

// await returns when a part that dev has just started is ready.
func (n *network) await(ctx context.Context, p *part) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		if n.ready(ctx, p) {
			p.settled.Store(true)
			return nil
		}
		if p.ended.Load() >= firstTries {
			return fmt.Errorf("%s does not start: %s; its log is %s/log/%s.log", p.name, p.log.reason(), n.c.State, p.name)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%s: %w; its log is %s/log/%s.log", p.name, context.Cause(ctx), n.c.State, p.name)
		}
	}
}

// ready reports whether the newest process of a part says that it is ready.
func (n *network) ready(ctx context.Context, p *part) bool {
	pid := int(p.pid.Load())
	if pid == 0 {
		return false
	}
	if p == n.origin {
		return true // its socket is open; it has nothing to load
	}
	var f struct {
		Ready bool `json:"ready"`
		PID   int  `json:"pid"`
	}
	if readJSON(p.file(), &f) != nil || !f.Ready || f.PID != pid {
		return false
	}
	return p == n.control || answers(ctx, "http://"+reachable(p.addr("metrics"))+"/readyz")
}

// answers reports whether a GET ends with 200.
func answers(ctx context.Context, url string) bool {
	ctx, cancel := context.WithTimeout(ctx, readyLimit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false
	}
	req.Close = true
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return false
	}
	return res.Body.Close() == nil && res.StatusCode == http.StatusOK
}

// watch keeps dev.json true: when a child has come back and is ready, its new
// pid is written.
func (n *network) watch(ctx context.Context) error {
	written := map[*part]int{}
	for _, p := range n.parts() {
		written[p] = int(p.pid.Load())
	}
	var again <-chan time.Time // set while a child is on its way up
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-n.up:
		case <-again:
		}
		again = nil
		changed := false
		for _, p := range n.parts() {
			pid := int(p.pid.Load())
			switch {
			case pid == written[p]:
			case n.ready(ctx, p):
				written[p], changed = pid, true
			default:
				again = time.After(pollEvery)
			}
		}
		if !changed {
			continue
		}
		if err := n.rewrite(written); err != nil {
			n.c.Log.Error("state file not written", "file", StateFile, "error", err)
			again = time.After(time.Second)
			clear(written)
		}
	}
}

// rewrite writes dev.json with the pids of those that are ready.
func (n *network) rewrite(pids map[*part]int) error {
	s, err := n.describe()
	if err != nil {
		return err
	}
	s.Control.PID = pids[n.control]
	for i, e := range n.edges {
		s.Edges[i].PID = pids[e]
	}
	if n.origin != nil {
		s.Origin.PID = pids[n.origin]
	}
	return writeState(n.c.State, s)
}
