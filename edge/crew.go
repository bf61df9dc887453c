package edge

import "sync/atomic"

// crewIdle is how many goroutines of a crew wait for work.
const crewIdle = 64

// crew does short jobs in goroutines that it keeps for a while: a new one begins
// with a small stack and copies it three times on its way through a handshake.
type crew struct {
	jobs    chan func()
	done    chan struct{}
	waiting atomic.Int32
}

func newCrew() *crew { return &crew{jobs: make(chan func()), done: make(chan struct{})} }

// do runs a job, at once, in another goroutine. Whoever gives it counts it and
// waits for it.
func (c *crew) do(job func()) {
	select {
	case c.jobs <- job:
	default:
		go c.work(job)
	}
}

func (c *crew) work(job func()) {
	for job != nil {
		job()
		job = c.next()
	}
}

// next waits for another job; nil when there are enough who wait, or no more
// comes.
func (c *crew) next() func() {
	defer c.waiting.Add(-1)
	if c.waiting.Add(1) > crewIdle {
		return nil
	}
	select {
	case job := <-c.jobs:
		return job
	case <-c.done:
		return nil
	}
}

// close lets those go who wait. No job may follow.
func (c *crew) close() { close(c.done) }
