package h3

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A look that is about to run when the exchange ends would be about the next one's
// stream.
func TestAWatchDoesNotLookBehindItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var looks atomic.Int32
		w := startWatch(time.Second, func() time.Duration { looks.Add(1); return time.Second })
		time.Sleep(2500 * time.Millisecond)
		if got := looks.Load(); got != 2 {
			t.Errorf("looked %d times in 2.5 s, want 2", got)
		}
		w.stop()
		w.run() // of a timer that had fired and waited for its turn
		time.Sleep(time.Minute)
		if got := looks.Load(); got != 2 {
			t.Errorf("looked %d times, want 2: none behind the end", got)
		}
	})
}

func TestAWatchEndsByItsOwnWord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		looks := 0
		w := startWatch(time.Second, func() time.Duration { looks++; return 0 })
		time.Sleep(time.Minute)
		w.stop()
		if looks != 1 {
			t.Errorf("looked %d times, want 1", looks)
		}
	})
}
