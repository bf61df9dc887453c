package heap

import (
	"context"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestPercent(t *testing.T) {
	for live, want := range map[uint64]int{0: 1000, 1 << 20: 1000, 16 << 20: 300, 32 << 20: 100, 64 << 20: 100, 1 << 40: 100} {
		if got := percent(live); got != want {
			t.Errorf("%d live: %d, want %d", live, got, want)
		}
	}
}

func TestQuietServerGivesMemoryBack(t *testing.T) { synctest.Test(t, givesBack) }

func givesBack(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	garbage := make([][]byte, 100)
	for i := range garbage {
		garbage[i] = make([]byte, 1<<20)
		garbage[i][i] = 1
	}
	clear(garbage)
	before, asked := spare(), 0
	Keep(ctx, func() bool {
		if asked++; asked == 2 {
			cancel()
		}
		return asked == 1
	})
	if after := spare(); after+64<<20 > before {
		t.Errorf("%d bytes were held, now %d", before, after)
	}
}

// What lives more than before counts from the next collection on.
func TestPaceFollowsEachCollection(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	var done atomic.Bool
	defer done.Store(true)
	paceEach(&done)
	for _, size := range []int{Floor / 4, Floor / 2} {
		held := make([]byte, size)
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for end := time.Now().Add(10 * time.Second); ; <-tick.C {
			runtime.GC()
			if got, most := read("/gc/gogc:percent"), uint64(percent(uint64(size))); got <= most {
				break
			} else if time.Now().After(end) {
				t.Fatalf("%d MiB live: %d %%, want at most %d", size>>20, got, most)
			}
		}
		runtime.KeepAlive(held)
	}
}
