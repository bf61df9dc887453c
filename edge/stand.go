package edge

import (
	"context"
	"sync"
	"time"
)

// stand is how far the feed's entries have taken effect on this edge. An edge
// that asks another names the newest entry that has begun to (so that a purge
// it obeys already counts), one that is asked compares with the newest that has
// taken effect whole. The zero value stands before the first entry.
type stand struct {
	mu    sync.Mutex
	begun uint64        // guarded by mu
	done  uint64        // guarded by mu
	moved chan struct{} // closed when done moves; nil while nobody waits; guarded by mu
}

// begin notes that entries up to seq are about to take effect.
func (s *stand) begin(seq uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.begun = max(s.begun, seq)
}

// reach notes that entries up to seq have taken effect; after a snapshot, which
// may be of another history, the number may be lower than before.
func (s *stand) reach(seq uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.begun, s.done = seq, seq
	if s.moved != nil {
		close(s.moved)
		s.moved = nil
	}
}

// newest is what this edge names when it asks.
func (s *stand) newest() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.begun
}

// wait returns whether entries up to seq have taken effect, at the latest after
// limit.
func (s *stand) wait(ctx context.Context, seq uint64, limit time.Duration) bool {
	var timer *time.Timer
	for {
		s.mu.Lock()
		if s.done >= seq {
			s.mu.Unlock()
			return true
		}
		if s.moved == nil {
			s.moved = make(chan struct{})
		}
		moved := s.moved
		s.mu.Unlock()
		if timer == nil {
			timer = time.NewTimer(limit)
			defer timer.Stop()
		}
		select {
		case <-moved:
		case <-timer.C:
			return false
		case <-ctx.Done():
			return false
		}
	}
}
