package feed

import (
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
// found it. Damage that a background job found is kept for the next write to
// return; Pebble's own answer would be to end the process.
type health struct {
	log     *slog.Logger
	broken  atomic.Bool
	corrupt atomic.Bool
	failed  chan struct{} // closed by the first fatal failure
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
	h.broken.Store(true)
	h.log.Error("copy store failed; nothing more is written to it", "error", fmt.Sprintf(format, args...))
	h.once.Do(func() { close(h.failed) })
	runtime.Goexit()
}

func (h *health) damage(info pebble.DataCorruptionInfo) {
	h.corrupt.Store(true)
	h.log.Error("copy store is damaged", "file", info.Path, "error", info.Details)
}
