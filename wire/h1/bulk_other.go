//go:build !linux

package h1

import (
	"net"
	"os"
)

// bulkWriter needs Linux's sendfile and MSG_MORE: elsewhere large bodies are
// written in slices.
type bulkWriter struct{}

func newBulkWriter(*net.TCPConn, *conn) *bulkWriter { return nil }

func (w *bulkWriter) takes([]byte) bool { return false }

func (w *bulkWriter) write([]byte, []byte) (int64, error) { return 0, nil }

func (w *bulkWriter) sendFile([]byte, *os.File, int64, int64) (int64, error) { return 0, nil }
