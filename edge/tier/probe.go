package tier

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Peer is another node and whether it is there. It counts as up until probes
// say otherwise.
type Peer struct {
	Node
	hash uint64
	near bool // of the own colo
	up   atomic.Bool
	used atomic.Int64 // when it was last asked, Unix nanoseconds
	late atomic.Int64 // it is not asked before, Unix nanoseconds
	rtt  atomic.Int64 // of probes, in nanoseconds, smoothed; 0 = unknown

	mu      sync.Mutex
	misses  int                  // in a row; guarded by mu
	probing bool                 // guarded by mu
	suspect bool                 // to be probed at once; guarded by mu
	ended   bool                 // the feed tells of it no more; guarded by mu
	asking  map[*asking]struct{} // guarded by mu
}

// asking is one request that waits for a peer.
type asking struct{ cancel context.CancelFunc }

func newPeer(n Node, near bool) *Peer {
	p := &Peer{Node: n, hash: hashText(n.ID), near: near, asking: map[*asking]struct{}{}}
	p.up.Store(true)
	return p
}

func (p *Peer) same(n *Node) bool {
	return p.Colo == n.Colo && p.Region == n.Region && p.Hub == n.Hub && slices.Equal(p.Addrs, n.Addrs)
}

// Asking returns a context that ends with ctx, with done, or when the peer goes
// while it is asked: who waits for it need not wait on.
func (p *Peer) Asking(ctx context.Context) (limited context.Context, done context.CancelFunc) {
	p.used.Store(time.Now().UnixNano())
	ctx, cancel := context.WithCancel(ctx)
	a := &asking{cancel}
	p.mu.Lock()
	p.asking[a] = struct{}{}
	ended := p.ended
	p.mu.Unlock()
	if ended {
		cancel()
	}
	return ctx, func() {
		p.mu.Lock()
		delete(p.asking, a)
		p.mu.Unlock()
		cancel()
	}
}

// end tells who waits for a node that it is one no more.
func (p *Peer) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
	p.bury()
}

// bury takes a peer out and ends what waits for it; called under p.mu.
func (p *Peer) bury() {
	p.up.Store(false)
	for a := range p.asking {
		a.cancel()
	}
}

// Failed says that a peer did not answer as it should: it is probed at once.
func (t *Table) Failed(p *Peer) {
	p.mu.Lock()
	p.suspect = true
	p.mu.Unlock()
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// lateTime is how long a peer that lags behind is left alone.
const lateTime = time.Second

// Lags says that a peer has not caught up with the feed: others are asked for a
// moment.
func (t *Table) Lags(p *Peer) { p.late.Store(time.Now().Add(lateTime).UnixNano()) }

// askable reports whether a peer is there and up to date, as far as is known.
func (p *Peer) askable() bool {
	if !p.up.Load() {
		return false
	}
	late := p.late.Load()
	return late == 0 || time.Now().UnixNano() > late
}

// Run probes the nodes and decides about upper tiers until ctx ends.
func (t *Table) Run(ctx context.Context) {
	defer t.close()
	probe := time.NewTicker(t.cfg.Interval)
	defer probe.Stop()
	window := time.NewTicker(t.cfg.Window)
	defer window.Stop()
	for round := 0; ; {
		select {
		case <-ctx.Done():
			return
		case <-t.wake:
			t.probeThose(ctx, func(p *Peer) bool { return p.suspected() })
		case <-probe.C:
			round++
			now := time.Now().UnixNano()
			t.probeThose(ctx, func(p *Peer) bool {
				if p.near {
					return true
				}
				return round%farEvery == 0 && p.wanted(now)
			})
		case <-window.C:
			t.start(func() { t.decide(ctx) })
		}
	}
}

// close waits for what Run started.
func (t *Table) close() {
	t.life.Lock()
	t.gone = true
	t.life.Unlock()
	t.work.Wait()
}

func (t *Table) start(fn func()) {
	t.life.Lock()
	defer t.life.Unlock()
	if !t.gone {
		t.work.Go(fn)
	}
}

// suspected takes the suspicion away.
func (p *Peer) suspected() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	was := p.suspect
	p.suspect = false
	return was
}

// wanted reports whether a node of another colo is worth a probe. One that
// nobody asks any more is taken for up again, until somebody does.
func (p *Peer) wanted(now int64) bool {
	if now-p.used.Load() < int64(inUse) {
		return true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.ended && !p.up.Load() {
		p.revive()
	}
	return false
}

// probeThose probes peers that can be asked, each once at a time.
func (t *Table) probeThose(ctx context.Context, which func(*Peer) bool) {
	for _, peers := range t.view.Load().colos {
		for _, p := range peers {
			if which(p) && p.begin() {
				t.probe(ctx, p)
			}
		}
	}
}

func (p *Peer) begin() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.probing || p.ended {
		return false
	}
	p.probing = true
	return true
}

func (t *Table) probe(ctx context.Context, p *Peer) {
	select {
	case t.slots <- struct{}{}:
	default:
		p.finish()
		return
	}
	t.start(func() {
		defer func() { <-t.slots }()
		defer p.finish()
		limit := t.cfg.Interval * 9 / 10 // so that it is over when the next is due
		if !p.near {
			limit = max(limit, farTime)
		}
		asking, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		began := time.Now()
		err := t.cfg.Probe(asking, &p.Node)
		if ctx.Err() != nil {
			return
		}
		took := time.Since(began)
		if err != nil && took > limit*3/2 {
			t.counts.starved.Add(1)
			return // the time-out itself came late: this machine is too busy to judge others
		}
		t.probed(p, err, took)
	})
}

func (p *Peer) finish() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.probing = false
}

// probed counts a probe. A node comes back with its first answer.
func (t *Table) probed(p *Peer, err error, took time.Duration) {
	t.counts.probes.Add(1)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		return
	}
	if err == nil {
		p.misses = 0
		if old := p.rtt.Load(); old > 0 {
			took = (time.Duration(old)*7 + took) / 8
		}
		p.rtt.Store(int64(took))
		if !p.up.Load() {
			p.revive()
			t.counts.returns.Add(1)
			t.log.Info("edge is back", "node", p.ID, "colo", p.Colo)
		}
		return
	}
	t.counts.misses.Add(1)
	p.misses++
	if p.misses < t.cfg.Misses || !p.up.Load() {
		return
	}
	p.bury()
	t.counts.losses.Add(1)
	t.log.Warn("edge does not answer, what it held is asked for elsewhere", "node", p.ID, "colo", p.Colo, "err", err)
}

// revive is called under p.mu.
func (p *Peer) revive() {
	p.misses = 0
	p.up.Store(true)
}
