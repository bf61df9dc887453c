//go:build !linux

package h1

import (
	"errors"
	"time"
)

// park needs epoll: elsewhere quiet connections keep their goroutines.
type park struct{}

type parked struct{}

func newPark(*Server) (*park, error) { return nil, errors.ErrUnsupported }

func (p *park) add(*conn, time.Duration) bool { return false }
func (p *park) expire(time.Duration)          {}
func (p *park) close()                        {}
