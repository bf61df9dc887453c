package shelf

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/selvage-edge/selvage/fault"
)

const (
	// LoadTime is how long a request, a handshake or a query waits for a zone.
	LoadTime = 2 * time.Second
	// maxLoads is how many zones may be under way at once, of which
	// Config.AtOnce are being compiled; who asks for one more is refused.
	maxLoads = 1024
	// loadTries is how often a zone is read anew that changes while it is read.
	loadTries = 16
	// failedTime is for how long a zone that could not be compiled is not tried
	// again, unless an entry changes it.
	failedTime = time.Second
)

var (
	errBusy     = errors.New("as many zones as allowed are being loaded")
	errUnsteady = errors.New("the zone changed each time while it was read")
	errSlow     = errors.New("the zone was not loaded in time")
)

// loads are zones that are being compiled, by name: one at a time of each.
type loads[V any] struct {
	slots chan struct{}
	work  sync.WaitGroup

	mu     sync.Mutex
	closed bool                // guarded by mu
	under  map[string]*load[V] // guarded by mu
	failed map[string]*load[V] // guarded by mu; of the last failedTime
}

// load is one, and what came of it.
type load[V any] struct {
	name  string
	id    string // of the zone, once it is known; guarded by mu
	stale bool   // it changed since it was begun; guarded by mu
	done  chan struct{}
	ended time.Time
	v     *V
	err   error
}

func (l *loads[V]) init(atOnce int) {
	l.slots = make(chan struct{}, atOnce)
	l.under, l.failed = map[string]*load[V]{}, map[string]*load[V]{}
}

// get waits for the zone of a name, run compiles it.
func (l *loads[V]) get(ctx context.Context, name string, run func(*load[V]) (*V, error)) (*V, error) {
	ld, err := l.join(name, run)
	if err != nil {
		return nil, err
	}
	select {
	case <-ld.done:
		return ld.v, ld.err
	case <-ctx.Done():
		return nil, &fault.Error{Op: "zone.load", Side: fault.Edge, Kind: fault.Limit, Err: errors.Join(errSlow, ctx.Err())}
	}
}

// join returns the load of a name that is under way, or begins one.
func (l *loads[V]) join(name string, run func(*load[V]) (*V, error)) (*load[V], error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if ld := l.under[name]; ld != nil {
		return ld, nil
	}
	if ld := l.failed[name]; ld != nil {
		if time.Since(ld.ended) < failedTime {
			return ld, nil
		}
		delete(l.failed, name)
	}
	if l.closed || len(l.under) >= maxLoads {
		return nil, &fault.Error{Op: "zone.load", Side: fault.Edge, Kind: fault.Limit, Err: errBusy}
	}
	ld := &load[V]{name: name, done: make(chan struct{})}
	l.under[name] = ld
	l.work.Go(func() {
		l.slots <- struct{}{}
		ld.v, ld.err = run(ld)
		<-l.slots
		l.end(ld)
	})
	return ld, nil
}

func (l *loads[V]) end(ld *load[V]) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.under, ld.name)
	if ld.ended = time.Now(); ld.err != nil && !ld.stale {
		if len(l.failed) >= maxLoads {
			clear(l.failed)
		}
		l.failed[ld.name] = ld
	}
	close(ld.done)
}

// begin notes that what changes from now on is not in what is read next.
func (l *loads[V]) begin(ld *load[V]) {
	l.mu.Lock()
	defer l.mu.Unlock()
	ld.stale, ld.id = false, ""
}

// identify says which zone is read next.
func (l *loads[V]) identify(ld *load[V], id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	ld.id = id
}

// publish runs put, unless the zone has changed since it was begun.
func (l *loads[V]) publish(ld *load[V], put func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !ld.stale {
		put()
	}
	return !ld.stale
}

// spoil makes loads under way that match begin anew, and forgets failures.
func (l *loads[V]) spoil(match func(name, id string) bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, ld := range l.under {
		if match(ld.name, ld.id) {
			ld.stale = true
		}
	}
	for name, ld := range l.failed {
		if match(name, ld.id) {
			delete(l.failed, name)
		}
	}
}

// close waits for those under way; none begins any more.
func (l *loads[V]) close() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.work.Wait()
}
