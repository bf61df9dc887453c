package h3

import (
	"sync"
	"time"
)

// watch calls look again and again while something of an exchange goes on: after
// each call when that says, until it says 0 or stop is called. Behind stop look is
// not called, and does not run: an exchange is used again.
type watch struct {
	look func() (next time.Duration)

	mu    sync.Mutex
	timer *time.Timer // guarded by mu; nil = ended
}

func startWatch(first time.Duration, look func() time.Duration) *watch {
	w := &watch{look: look}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer = time.AfterFunc(first, w.run)
	return w
}

func (w *watch) run() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timer == nil {
		return
	}
	if next := w.look(); next > 0 {
		w.timer.Reset(next)
	}
}

func (w *watch) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer.Stop()
	w.timer = nil
}
