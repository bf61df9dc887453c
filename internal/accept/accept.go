// Package accept says what a listener's error means: whether it passes, and how
// long to rest before the next try.
package accept

import (
	"errors"
	"syscall"
	"time"
)

// Pause is how long accepting rests after an error that passes, so that it
// cannot spin and connections that end can give descriptors back.
const Pause = 50 * time.Millisecond

// Passes tells errors of one connection, or of the moment, from those of the
// listener.
func Passes(err error) bool {
	return errors.Is(err, syscall.ECONNABORTED) || errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}
