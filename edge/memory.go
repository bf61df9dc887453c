package edge

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"sync/atomic"
	"time"
)

// After a burst of visitors the Go runtime holds on to the memory that served
// them: it collects when the heap has doubled, which a quiet server takes hours
// for, and returns pages slowly. The edge gives back what it does not use when
// nobody is kept waiting by that.
const (
	giveBackEvery = 5 * time.Second
	giveBackLeast = 16 << 20 // bytes that are worth it
	giveBackQuiet = 100      // requests a second, above which the edge is busy
)

// giveBack runs until ctx ends.
func (e *Edge) giveBack(ctx context.Context) {
	tick := time.NewTicker(giveBackEvery)
	defer tick.Stop()
	var floor uint64 // what stayed in use the last time
	served := e.served()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		now := e.served()
		quiet := now-served < giveBackQuiet*giveBackEvery.Seconds()
		served = now
		if spare := spareMemory(); quiet && spare > floor+giveBackLeast {
			debug.FreeOSMemory()
			floor = spareMemory()
		}
	}
}

// served counts the requests that entered the pipeline.
func (e *Edge) served() float64 {
	return e.counters.sum(func(s *counterShard) *atomic.Uint64 { return &s.rowRuns[0] })
}

// spareMemory is what the runtime holds beyond the live heap, in bytes: garbage,
// free pages, stacks and its own books.
func spareMemory() uint64 {
	samples := [...]metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}, {Name: "/gc/heap/live:bytes"}}
	metrics.Read(samples[:])
	total, gone, live := samples[0].Value.Uint64(), samples[1].Value.Uint64(), samples[2].Value.Uint64()
	return total - min(total, gone+live)
}
