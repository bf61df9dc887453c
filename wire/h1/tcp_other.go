//go:build !linux

package h1

import (
	"net"
	"os"
	"syscall"
)

// tcpWriter needs Linux's sendfile and MSG_MORE: elsewhere package net writes.
type tcpWriter struct{}

func newTCPWriter(*net.TCPConn, *conn) *tcpWriter { return nil }

func (w *tcpWriter) write([]byte, []byte) (int, error) { return 0, nil }

func (w *tcpWriter) sendFile([]byte, *os.File, int64, int64, bool) (int, error) { return 0, nil }

// readOnce reads what there is.
func readOnce(fd uintptr, p []byte) (int, error) { return syscall.Read(int(fd), p) }
