// Package crew runs short jobs in goroutines that are kept for a while. A new
// goroutine begins with a small stack and copies it several times on its way into
// deep calls, such as a TLS handshake's.
package crew

import "sync/atomic"

// Idle is how many goroutines of a crew wait for work at most.
const Idle = 64

// Crew runs jobs. Its number of goroutines is bounded by whoever gives it jobs,
// who also counts them and waits for them.
type Crew struct {
	jobs    chan func()
	done    chan struct{}
	waiting atomic.Int32
}

// New returns a crew without goroutines; Close lets those go that it gets.
func New() *Crew { return &Crew{jobs: make(chan func()), done: make(chan struct{})} }

// Do runs a job, at once, in another goroutine.
func (c *Crew) Do(job func()) {
	select {
	case c.jobs <- job:
	default:
		go c.work(job)
	}
}

func (c *Crew) work(job func()) {
	for job != nil {
		job()
		job = c.next()
	}
}

// next waits for another job; nil when enough wait, or no more come.
func (c *Crew) next() func() {
	defer c.waiting.Add(-1)
	if c.waiting.Add(1) > Idle {
		return nil
	}
	select {
	case job := <-c.jobs:
		return job
	case <-c.done:
		return nil
	}
}

// Close lets those go who wait. It is called once, after the last Do.
func (c *Crew) Close() { close(c.done) }
