package telemetry

import (
	"fmt"
	"io"
	"os"

	"gopkg.in/natefinch/lumberjack.v2"
)

// keepFiles is how many rotated files stay beside the current one.
const keepFiles = 5

// OpenLogFile opens a log that is a file, rotated beyond maxBytes (counted in
// whole MiB, keeping five older files), or "stderr". Older files are not
// compressed here: gzip would take the processor from visitors.
func OpenLogFile(path string, maxBytes int64) (io.WriteCloser, error) {
	if path == "stderr" {
		return stderr{}, nil
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o640)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	if err := f.Close(); err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	return &lumberjack.Logger{Filename: path, MaxSize: int(max(maxBytes>>20, 1)), MaxBackups: keepFiles}, nil
}

// stderr is never closed by us.
type stderr struct{}

func (stderr) Write(p []byte) (int, error) { return os.Stderr.Write(p) }
func (stderr) Close() error                { return nil }
