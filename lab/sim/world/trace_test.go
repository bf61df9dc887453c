package world

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// trace is what happened, with simulated times.
type trace struct {
	start time.Time
	mu    sync.Mutex
	text  bytes.Buffer // guarded by mu
}

func (t *trace) add(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	fmt.Fprintf(&t.text, "%10.6f ", time.Since(t.start).Seconds())
	fmt.Fprintf(&t.text, format, args...)
	t.text.WriteByte('\n')
}

// Write is for slog.
func (t *trace) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	fmt.Fprintf(&t.text, "%10.6f ", time.Since(t.start).Seconds())
	return t.text.Write(p)
}

// logger logs for a machine.
func (t *trace) logger(name string) *slog.Logger {
	return slog.New(slog.NewTextHandler(t, &slog.HandlerOptions{Level: slog.LevelInfo, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}})).With("at", name)
}

func (t *trace) save(dir string, seed uint64) (string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	path, err := filepath.Abs(filepath.Join(dir, fmt.Sprintf("seed-%d.trace", seed)))
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	return path, os.WriteFile(path, t.text.Bytes(), 0o644)
}
