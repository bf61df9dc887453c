package feed

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
)

// health is what Pebble says of itself, and where its log goes. What it calls
// fatal (a failed write to its log or manifest) must not end an edge that can go
// on serving from memory: it marks the copy broken and ends the goroutine that
// found it. Damage that a background job or a reader found is kept for the next
// write to return; Pebble's own answer would be to end the process.
type health struct {
	log     *slog.Logger
	broken  atomic.Bool
	corrupt atomic.Pointer[error] // nil = nothing is known
	leaving atomic.Bool           // the store is being closed: long readers end
	failed  chan struct{}         // closed by the first fatal failure
	once    sync.Once
}

func newHealth(log *slog.Logger) *health { return &health{log: log, failed: make(chan struct{})} }

func (h *health) Infof(format string, args ...any) {
	h.log.Debug("copy store", "note", fmt.Sprintf(format, args...))
}

func (h *health) Errorf(format string, args ...any) {
	h.log.Warn("copy store", "error", fmt.Sprintf(format, args...))
}

func (h *health) Fatalf(format string, args ...any) {
	h.fail(fmt.Sprintf(format, args...))
	runtime.Goexit()
}

func (h *health) fail(why string) {
	h.broken.Store(true)
	h.log.Error("copy store failed; nothing more is written to it", "error", why)
	h.once.Do(func() { close(h.failed) })
}

// died takes what a write panicked with: the disk's error marks the copy broken,
// anything else comes back.
func (h *health) died(cause any) any {
	err, ok := cause.(error)
	if _, bug := errors.AsType[runtime.Error](err); !ok || bug {
		return cause
	}
	h.fail(err.Error())
	return nil
}

func (h *health) damage(info pebble.DataCorruptionInfo) {
	h.condemn(fmt.Errorf("%w: found in the background: %s: %w", ErrCorrupt, info.Path, info.Details))
}

// condemn notes damage and names the first.
func (h *health) condemn(why error) {
	if h.corrupt.CompareAndSwap(nil, &why) {
		h.log.Error("copy store is damaged; it is replaced when a parent is there, and read on until then", "error", why)
	}
}
