package progress

import (
	"context"
	"time"

	"github.com/selvage-edge/selvage/control/store"
)

const (
	// writeShared is how often what changed is written where other processes
	// read it, and writeAlone where it is only for the next start.
	writeShared = 250 * time.Millisecond
	writeAlone  = 10 * time.Second
	// liveFor is how long a control process that says nothing counts as alive,
	// and with it the nodes that it is connected to.
	liveFor = 5 * time.Second
	// lookEach is how often the list of nodes and what others wrote is read
	// when nobody asks, for metrics; fresh how old what is answered may be.
	lookEach = 5 * time.Second
	fresh    = 50 * time.Millisecond
	// lastWrite bounds the write at the end.
	lastWrite = 3 * time.Second
)

// Run writes what was noted, and reads what others did, until ctx ends. What
// fails is tried again.
func (b *Book) Run(ctx context.Context) error {
	each := writeAlone
	if b.Store.Shared() {
		each = writeShared
	}
	write, look := time.NewTicker(each), time.NewTicker(lookEach)
	defer write.Stop()
	defer look.Stop()
	var lived time.Time
	_, err := b.At(ctx, 0)
	for failing := false; ; {
		if err != nil && ctx.Err() == nil && !failing {
			b.Log.Warn("how far nodes have come is not written or read, trying again", "error", err)
		}
		failing = err != nil
		select {
		case <-ctx.Done():
			return b.end(context.WithoutCancel(ctx))
		case now := <-write.C:
			live := b.Store.Shared() && now.Sub(lived) >= liveFor/5
			if err = b.flush(ctx, live); err == nil && live {
				lived = now
			}
		case <-look.C:
			_, err = b.At(ctx, 0)
		}
	}
}

// end writes that nobody is connected here any more.
func (b *Book) end(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, lastWrite)
	defer cancel()
	now := time.Now().UTC()
	b.mu.Lock()
	for _, x := range b.nodes {
		if x.connected && x.control == "" {
			x.connected, x.since, x.dirty = false, now, true
		}
	}
	b.mu.Unlock()
	if err := b.flush(ctx, false); err != nil {
		b.Log.Warn("how far nodes have come is not written at the end", "error", err)
	}
	return nil
}

// flush writes what is not written yet and, where live says so, that this
// process lives.
func (b *Book) flush(ctx context.Context, live bool) error {
	var rows []store.Progress
	b.mu.Lock()
	for id, x := range b.nodes {
		if !x.dirty {
			continue
		}
		x.dirty = false
		rows = append(rows, store.Progress{
			Node: id, Colo: x.colo, Via: x.via, Applied: x.applied, At: x.at, Connected: x.connected, Since: x.since,
		})
	}
	rejects := b.rejects
	b.rejects = nil
	b.mu.Unlock()
	if len(rows) == 0 && len(rejects) == 0 && !live {
		return nil
	}
	err := b.Store.Write(ctx, func(tx *store.Tx) error {
		if live {
			if err := tx.LiveControl(ctx, b.Control, liveFor); err != nil {
				return err
			}
		}
		if err := tx.PutProgress(ctx, b.Control, rows); err != nil {
			return err
		}
		return tx.PutRejections(ctx, rejects)
	})
	if err == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range rows {
		b.nodes[r.Node].dirty = true
	}
	b.rejects = append(rejects, b.rejects...)
	return err
}

// refresh takes over what other processes wrote, unless that was done just now.
func (b *Book) refresh(ctx context.Context) error {
	b.mu.Lock()
	late := time.Since(b.read) >= fresh
	b.mu.Unlock()
	if !late {
		return nil
	}
	began := time.Now()
	var all []store.Progress
	var rejects []store.Rejection
	if err := b.Store.Read(ctx, func(tx *store.Tx) (err error) {
		if all, err = tx.Progress(ctx); err == nil {
			rejects, err = tx.Rejections(ctx)
		}
		return err
	}); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if began.Before(b.read) {
		return nil // somebody knows newer
	}
	b.read = began
	for _, p := range all {
		if p.Control != b.Control {
			b.node(p.Node).merge(p)
		}
	}
	for _, r := range rejects {
		b.node(r.Node).reject(r)
	}
	return nil
}

// merge takes over what another process, or an earlier one, wrote of a node.
func (x *node) merge(p store.Progress) {
	here := x.control == "" && !x.at.IsZero()
	if here && x.connected {
		x.dirty = true // it left there and came here
		return
	}
	if here && !p.Connected && !p.Since.After(x.since) {
		return
	}
	x.colo, x.via, x.addr, x.control = p.Colo, p.Via, "", p.Control
	x.connected, x.since, x.began = p.Connected, p.Since, time.Time{}
	if p.Applied != x.applied || x.at.IsZero() {
		if p.Applied < x.applied {
			x.acks, x.next = nil, 0
		}
		x.reached(p.Applied, p.At)
	}
}
