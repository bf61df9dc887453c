package h1

import (
	"errors"
	"os"
	"sync/atomic"
)

// Reason is why a visitor was not waited for any longer.
type Reason uint8

const (
	SlowHead   Reason = iota // a head did not come whole in time
	SlowBody                 // a body did not come in time, or below MinRate
	SlowReader               // an answer was not taken in time
	reasons
)

var reasonNames = [reasons]string{"slow head", "slow body", "slow reader"}

func (r Reason) String() string { return reasonNames[r] }

// counters of a server. Safe for all.
type counters [reasons]atomic.Uint64

// Each calls f with how often each reason ended a connection so far.
func (s *Server) Each(f func(r Reason, n uint64)) {
	for r := range reasons {
		f(r, s.ended[r].Load())
	}
}

// slow counts a visitor whose time was over, where that is what err says: we end
// waits ourselves too.
func (c *conn) slow(r Reason, err error) {
	if errors.Is(err, os.ErrDeadlineExceeded) && !c.dl.Gone() {
		c.s.ended[r].Add(1)
	}
}
