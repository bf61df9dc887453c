package reserve

import (
	"context"
	"errors"
	"math/bits"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// useParts of the time to retain may pass until the store is told of another use:
	// an object goes at the earliest when it was not used for Config.Retain, at the
	// latest one part later.
	useParts = 10
	// rounds of the sweep in that time.
	rounds    = 30
	leastWait = time.Minute // between rounds
	// How the sweep rests: a while for so many names that it was told of, and for
	// each that it deletes.
	restEach   = 1000
	rest       = 100 * time.Millisecond
	restDelete = 5 * time.Millisecond
	// maxClears is how many prefixes may wait to be cleared; what more are about
	// goes when it was not used for long enough.
	maxClears = 1024
)

// sweeper is what the goroutine that deletes has to do beside its rounds.
type sweeper struct {
	stop   context.CancelFunc
	wake   chan struct{}
	full   atomic.Bool // something had no room
	mu     sync.Mutex
	clears map[string]time.Time // prefix → what is older goes; guarded by mu
}

// open returns what the goroutine lives on.
func (s *sweeper) open(ctx context.Context) context.Context {
	s.wake, s.clears = make(chan struct{}, 1), make(map[string]time.Time)
	ctx, s.stop = context.WithCancel(ctx)
	return ctx
}

// isFull asks for room.
func (s *sweeper) isFull() {
	s.full.Store(true)
	s.kick()
}

func (s *sweeper) kick() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// clearMargin is how much younger a store may say an object is than it is: S3 tells
// whole seconds. What was put so shortly before Clear goes when nobody used it for
// long enough.
const clearMargin = 2 * time.Second

// Clear deletes, in the background, what was put until now under names that begin
// with prefix, which ends with a slash. That it is not found meanwhile is for who
// asks to see to.
func (r *Reserve) Clear(prefix string) {
	r.sweep.mu.Lock()
	if len(r.sweep.clears) < maxClears {
		r.sweep.clears[prefix] = time.Now().Add(-clearMargin)
	}
	r.sweep.mu.Unlock()
	r.sweep.kick()
}

// bounded is a Store that has room for so many bytes.
type bounded interface {
	room() (used, most int64)
}

// expire deletes what is to go.
func (r *Reserve) expire(ctx context.Context) {
	wait := max(r.cfg.Retain/rounds, leastWait)
	next := time.NewTimer(rand.N(wait)) // not all edges at once
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.sweep.wake:
			r.clearAll(ctx)
		case <-next.C:
			r.round(ctx)
			next.Reset(wait)
		}
		r.makeRoom(ctx)
	}
}

func (r *Reserve) clearAll(ctx context.Context) {
	for {
		r.sweep.mu.Lock()
		var prefix string
		var before time.Time
		for prefix, before = range r.sweep.clears {
			break
		}
		delete(r.sweep.clears, prefix)
		r.sweep.mu.Unlock()
		if prefix == "" {
			return
		}
		r.deleteOlder(ctx, prefix, before)
	}
}

// round deletes what nobody asked for: of this reserve's own objects, and of one
// other's, so that what is left of a reserve that is no more goes too.
func (r *Reserve) round(ctx context.Context) {
	if r.cfg.Retain == 0 {
		return
	}
	before := time.Now().Add(-r.cfg.Retain - r.cfg.Retain/useParts)
	tops, err := r.cfg.Store.Tops(ctx)
	if err != nil {
		r.sweepFailed(ctx, err)
		return
	}
	if len(tops) > 0 {
		if other := tops[rand.IntN(len(tops))] + "/"; other != r.cfg.Own {
			r.deleteOlder(ctx, other, before)
		}
	}
	if r.cfg.Own != "" {
		r.deleteOlder(ctx, r.cfg.Own, before)
	}
}

func (r *Reserve) sweepFailed(ctx context.Context, err error) {
	if ctx.Err() == nil {
		r.cfg.Log.Warn("the cache reserve was not searched for what nobody uses", "err", err)
	}
}

// deleteOlder deletes what was put and used before an instant.
func (r *Reserve) deleteOlder(ctx context.Context, prefix string, before time.Time) {
	seen := 0
	err := r.cfg.Store.List(ctx, prefix, func(name string, _ int64, used time.Time) error {
		if seen++; seen%restEach == 0 {
			if err := pause(ctx, rest); err != nil {
				return err
			}
		}
		if !used.Before(before) {
			return nil
		}
		if err := r.cfg.Store.Delete(ctx, name); err != nil {
			return err
		}
		r.counts.expired.Add(1)
		return pause(ctx, restDelete)
	})
	if err != nil {
		r.sweepFailed(ctx, err)
	}
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Shares of a bounded store in percent: over the first, or where something had no
// room, what was not used for longest goes until the second is reached.
const (
	fullAt  = 95
	emptyTo = 85
)

// ages counts bytes by when they were used last, in steps of which each is twice as
// long as the one before, from a second on.
const ages = 32

// makeRoom deletes what was not used for longest of a store that is nearly full.
func (r *Reserve) makeRoom(ctx context.Context) {
	store, ok := r.cfg.Store.(bounded)
	if !ok {
		return
	}
	used, most := store.room()
	if full := r.sweep.full.Swap(false); used <= most/100*fullAt && !full || used <= most/100*emptyTo {
		return
	}
	now := time.Now()
	var bytes [ages]int64
	tops, err := r.cfg.Store.Tops(ctx)
	for _, top := range tops {
		err = errors.Join(err, r.cfg.Store.List(ctx, top+"/", func(_ string, size int64, used time.Time) error {
			bytes[ageOf(now.Sub(used))] += size
			return nil
		}))
	}
	if err != nil {
		r.sweepFailed(ctx, err)
		return
	}
	over := used - most/100*emptyTo
	age := ages - 1
	for ; age > 0 && over > bytes[age]; age-- {
		over -= bytes[age]
	}
	limit := time.Duration(0)
	if age > 0 {
		limit = time.Second << (age - 1)
	}
	for _, top := range tops {
		r.deleteUntil(ctx, top+"/", now.Add(-limit), most/100*emptyTo)
	}
}

// deleteUntil deletes what was used before an instant, until no more than so many
// bytes are left.
func (r *Reserve) deleteUntil(ctx context.Context, prefix string, before time.Time, left int64) {
	store := r.cfg.Store.(bounded)
	err := r.cfg.Store.List(ctx, prefix, func(name string, _ int64, last time.Time) error {
		if used, _ := store.room(); used <= left || last.After(before) {
			return nil
		}
		r.counts.expired.Add(1)
		return r.cfg.Store.Delete(ctx, name)
	})
	if err != nil {
		r.sweepFailed(ctx, err)
	}
}

// ageOf is the step of an age: the first is below a second.
func ageOf(d time.Duration) int {
	return min(bits.Len64(uint64(max(d, 0)/time.Second)), ages-1)
}
