// Package heap keeps the Go heap from being collected many times a second while
// it is small, and gives memory back to the system when a server has gone quiet.
package heap

import (
	"context"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync/atomic"
	"time"
)

const (
	// Floor is what the heap may grow to, in bytes, before it is collected.
	Floor = 64 << 20

	every = 5 * time.Second
	least = 16 << 20 // bytes that are worth giving back
)

// Keep paces the collector until ctx ends. After a burst of work the runtime
// holds on to the memory that it took: it collects when the heap has doubled,
// which a quiet server takes hours for, and returns pages slowly. When quiet says
// that nobody is kept waiting by it, Keep has that done at once. It is called
// every five seconds.
func Keep(ctx context.Context, quiet func() bool) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	var done atomic.Bool
	defer done.Store(true)
	paceEach(&done)
	var floor uint64 // what stayed in use the last time
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if now := quiet(); now && spare() > floor+least {
			debug.FreeOSMemory()
			floor = spare()
		}
	}
}

// paceEach paces now and after each collection, until done is set. What is right
// for what lived before one would let a heap that has doubled since grow to twice
// Floor.
func paceEach(done *atomic.Bool) {
	if done.Load() {
		return
	}
	pace()
	type garbage [64]byte // apart from other small objects
	runtime.AddCleanup(new(garbage), paceEach, done)
}

// pace lets the heap grow to Floor, or to twice what lives.
func pace() {
	debug.SetGCPercent(percent(read("/gc/heap/live:bytes")))
}

func percent(live uint64) int {
	live = max(1, live)
	return int(min(max(100, 100*(Floor-min(Floor, live))/live), 1000))
}

// spare is what the runtime holds beyond the live heap, in bytes: garbage, free
// pages, stacks and its own books.
func spare() uint64 {
	total := read("/memory/classes/total:bytes")
	return total - min(total, read("/memory/classes/heap/released:bytes")+read("/gc/heap/live:bytes"))
}

func read(name string) uint64 {
	sample := [1]metrics.Sample{{Name: name}}
	metrics.Read(sample[:])
	return sample[0].Value.Uint64()
}
