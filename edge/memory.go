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

// heapFloor is what the Go heap may grow to, in bytes, before it is collected: a
// small one would be collected many times a second under load.
const heapFloor = 64 << 20

// paceCollector makes the heap grow to heapFloor, or to twice what lives.
func paceCollector() {
	live := max(1, readMetric("/gc/heap/live:bytes"))
	debug.SetGCPercent(int(min(max(100, 100*(heapFloor-min(heapFloor, live))/live), 1000)))
}

// giveBack runs until ctx ends.
func (e *Edge) giveBack(ctx context.Context) {
	paceCollector()
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
		paceCollector()
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
	total := readMetric("/memory/classes/total:bytes")
	return total - min(total, readMetric("/memory/classes/heap/released:bytes")+readMetric("/gc/heap/live:bytes"))
}

func readMetric(name string) uint64 {
	sample := [1]metrics.Sample{{Name: name}}
	metrics.Read(sample[:])
	return sample[0].Value.Uint64()
}
