package h1

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Bodies from bulkMin bytes on are given to the kernel as a whole, which takes
// what the visitor's window has room for; from fileMin bytes on without copying
// where Limits.FileOf knows their place.
const (
	bulkMin = 64 << 10
	fileMin = 16 << 10
)

// bulkWriter writes a head and a large body to a TCP connection. The visitor
// has WriteTimeout for each sliceMax bytes, as elsewhere.
type bulkWriter struct {
	raw  syscall.RawConn
	c    *conn
	try  func(fd uintptr) bool // writable, made once
	head []byte
	body []byte
	size int   // of the body, in bytes
	file int   // descriptor of body, -1 = none
	at   int64 // of body in it
	sent int   // bytes of both
	mark int   // of sent, when the deadline was set
	err  error
}

// newBulkWriter returns nil when nc has no descriptor.
func newBulkWriter(nc *net.TCPConn, c *conn) *bulkWriter {
	if nc == nil {
		return nil
	}
	raw, err := nc.SyscallConn()
	if err != nil {
		return nil
	}
	w := &bulkWriter{raw: raw, c: c}
	w.try = w.writable
	return w
}

// takes reports whether a body is to be written by write, which follows at once.
func (w *bulkWriter) takes(body []byte) bool {
	if w == nil || len(body) < fileMin {
		return false
	}
	w.file = -1
	if find := w.c.s.l.FileOf; find != nil {
		if fd, at, ok := find(body); ok {
			w.file, w.at = fd, at
		}
	}
	return w.file >= 0 || len(body) >= bulkMin
}

// write returns how many bytes of the body have left.
func (w *bulkWriter) write(head, body []byte) (sent int64, err error) {
	w.body = body
	return w.run(head, len(body))
}

// sendFile is write for a body of n bytes that begins at byte from of a file.
func (w *bulkWriter) sendFile(head []byte, f *os.File, from, n int64) (sent int64, err error) {
	w.file, w.at = int(f.Fd()), from //nolint:gosec // G115: descriptors are small
	return w.run(head, int(n))
}

func (w *bulkWriter) run(head []byte, size int) (sent int64, err error) {
	w.head, w.size, w.sent, w.mark, w.err = head, size, 0, 0, nil
	w.c.moved()
	if err := w.c.dl.armWrite(w.c.s.l.WriteTimeout); err != nil {
		return 0, visitorFault("h1.write", err)
	}
	err = w.raw.Write(w.try)
	if err == nil {
		err = w.err
	}
	sent = max(0, int64(w.sent-len(head)))
	w.head, w.body = nil, nil
	if err != nil {
		return sent, visitorFault("h1.write", err)
	}
	return sent, nil
}

// writable writes until all has left (true) or the kernel has no more room.
func (w *bulkWriter) writable(fd uintptr) bool {
	for w.sent < len(w.head)+w.size {
		n, err := w.part(int(fd)) //nolint:gosec // G115: descriptors are small
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case errors.Is(err, syscall.EAGAIN):
			return false
		case err == nil && n == 0:
			err = io.ErrShortWrite // the file is shorter than it was said to be
		}
		if err != nil {
			w.err = err
			return true
		}
		w.sent += n
		if w.sent-w.mark < sliceMax {
			continue
		}
		w.mark = w.sent
		w.c.moved()
		if w.err = w.c.dl.armWrite(w.c.s.l.WriteTimeout); w.err != nil {
			return true
		}
	}
	return true
}

// part writes once.
func (w *bulkWriter) part(fd int) (int, error) {
	if w.sent < len(w.head) {
		n, err := unix.SendmsgN(fd, w.head[w.sent:], nil, nil, unix.MSG_MORE|unix.MSG_NOSIGNAL)
		return n, err
	}
	done := w.sent - len(w.head)
	if w.file < 0 {
		return unix.Write(fd, w.body[done:])
	}
	offset := w.at + int64(done)
	return unix.Sendfile(fd, w.file, &offset, w.size-done)
}
