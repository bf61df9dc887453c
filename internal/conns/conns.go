// Package conns holds the connections of a server that drains. It promises that
// Wait returns only when each connection that was added has been removed, or
// the caller's time is over and those that are left have been cut.
package conns

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// Set is connections that are served. The zero value is empty; it must not be
// copied. Safe for concurrent use.
type Set[C comparable] struct {
	// Look is called once in Every while there are connections, never twice at
	// a time; nil = never. Both are set before the first Add.
	Look  func()
	Every time.Duration

	draining atomic.Bool
	mu       sync.Mutex // guards what follows
	all      map[C]struct{}
	empty    chan struct{} // closed by the last connection, nil unless someone waits
	looking  bool          // look runs, or will
}

// Add takes a connection in, also while draining.
func (s *Set[C]) Add(c C) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all = make(map[C]struct{})
	}
	s.all[c] = struct{}{}
	if s.Look != nil && !s.looking {
		s.looking = true
		time.AfterFunc(s.Every, s.look)
	}
}

// Remove ends what Add began.
func (s *Set[C]) Remove(c C) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, c)
	if len(s.all) == 0 && s.empty != nil {
		close(s.empty)
		s.empty = nil
	}
}

// Len is how many there are now.
func (s *Set[C]) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.all)
}

// Each calls f for each connection, under a lock: f calls nothing of the set.
func (s *Set[C]) Each(f func(C)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.all {
		f(c)
	}
}

func (s *Set[C]) look() {
	s.mu.Lock()
	if len(s.all) == 0 {
		s.looking = false
		s.mu.Unlock()
		return
	}
	s.mu.Unlock()
	s.Look()
	time.AfterFunc(s.Every, s.look)
}

// Draining reports that Drain has been called.
func (s *Set[C]) Draining() bool { return s.draining.Load() }

// Drain makes Draining true, for good, and then calls leave as Each does. Those
// that are added later look at Draining themselves.
func (s *Set[C]) Drain(leave func(C)) {
	s.draining.Store(true)
	s.Each(leave)
}

// Wait returns when the set is empty. At ctx's end it calls cut as Each does
// and returns ctx's error; the set need not be empty then.
func (s *Set[C]) Wait(ctx context.Context, cut func(C)) error {
	s.mu.Lock()
	if len(s.all) == 0 {
		s.mu.Unlock()
		return nil
	}
	if s.empty == nil {
		s.empty = make(chan struct{})
	}
	empty := s.empty
	s.mu.Unlock()
	select {
	case <-empty:
		return nil
	case <-ctx.Done():
	}
	s.Each(cut)
	return ctx.Err()
}
