package crew

import (
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

func TestJobsRunAtOnceAndGoroutinesAreUsedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New()
		var work sync.WaitGroup
		var ran atomic.Int32
		hold := make(chan struct{})
		for range 3 * Idle {
			work.Add(1)
			c.Do(func() {
				defer work.Done()
				ran.Add(1)
				<-hold
			})
		}
		synctest.Wait()
		if n := ran.Load(); n != 3*Idle {
			t.Errorf("%d jobs have begun, want %d at the same time", n, 3*Idle)
		}
		close(hold)
		work.Wait()
		synctest.Wait()
		if n := c.waiting.Load(); n != Idle {
			t.Errorf("%d goroutines wait, want %d", n, Idle)
		}
		work.Add(1)
		c.Do(work.Done)
		work.Wait()
		synctest.Wait()
		if n := c.waiting.Load(); n != Idle {
			t.Errorf("%d goroutines wait after another job, want %d", n, Idle)
		}
		c.Close()
		synctest.Wait()
		if n := c.waiting.Load(); n != 0 {
			t.Errorf("%d goroutines wait after Close", n)
		}
	})
}
