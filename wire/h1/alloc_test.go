//go:build !race

// Under the race detector sync.Pool forgets on purpose.

package h1

import "testing"

func TestHitDoesNotAllocate(t *testing.T) {
	for _, size := range []int{0, 1 << 10, 16 << 10, 128 << 10} {
		round := loopback(t, newHitSite(size), hitRequest)
		round()
		// The average is rounded down, and the Date line rendered once a second.
		if got := testing.AllocsPerRun(500, round); got > 0 {
			t.Errorf("body of %d bytes: %v allocations per request, want 0", size, got)
		}
	}
}
