package h1

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// tcpWriter writes to a TCP connection by system calls that Go's scheduler does
// not hear of: they never block, and telling it costs as much as a small one. The
// kernel takes what the visitor's window has room for; the visitor has
// WriteTimeout for each sliceMax bytes.
type tcpWriter struct {
	raw  syscall.RawConn
	c    *conn
	try  func(fd uintptr) bool // writable, made once
	head []byte
	body []byte
	iov  [2]syscall.Iovec
	size int   // of the body, in bytes
	file int   // descriptor of a body that is not in memory
	at   int64 // of body in it
	fast bool  // reading that file never blocks
	from int64 // where the kernel goes on in it
	sent int   // bytes of both
	mark int   // of sent, when the deadline was set
	err  error
}

// newTCPWriter returns nil when nc has no descriptor.
func newTCPWriter(nc *net.TCPConn, c *conn) *tcpWriter {
	if nc == nil {
		return nil
	}
	raw, err := nc.SyscallConn()
	if err != nil {
		return nil
	}
	w := &tcpWriter{raw: raw, c: c}
	w.try = w.writable
	return w
}

// write writes head and body, either of which may be empty, and returns how many
// bytes of both have left. The deadline is set.
func (w *tcpWriter) write(head, body []byte) (sent int, err error) {
	w.body = body
	return w.run(head, len(body))
}

// sendFile is write for a body of n bytes that begins at byte from of a file. fast
// says that the file is in memory.
func (w *tcpWriter) sendFile(head []byte, f *os.File, from, n int64, fast bool) (sent int, err error) {
	w.file, w.at, w.fast = int(f.Fd()), from, fast //nolint:gosec // G115: descriptors are small
	return w.run(head, int(n))
}

func (w *tcpWriter) run(head []byte, size int) (sent int, err error) {
	w.head, w.size, w.sent, w.mark, w.err = head, size, 0, 0, nil
	if err = w.raw.Write(w.try); err == nil && w.err != nil {
		err = os.NewSyscallError("write", w.err)
	}
	w.head, w.body, w.iov = nil, nil, [2]syscall.Iovec{}
	return w.sent, err
}

// writable writes until all has left (true) or the kernel has no more room.
func (w *tcpWriter) writable(fd uintptr) bool {
	for w.sent < len(w.head)+w.size {
		n, err := w.part(fd)
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case errors.Is(err, syscall.EAGAIN):
			w.c.wrote = 0
			return false
		case err == nil && n == 0:
			err = io.ErrShortWrite // the file is shorter than it was said to be
		}
		if err != nil {
			w.err = err
			return true
		}
		w.sent += n
		if w.sent-w.mark < sliceMax || w.sent == len(w.head)+w.size {
			continue
		}
		w.mark = w.sent
		if w.err = w.c.armWrite(); w.err != nil {
			return true
		}
	}
	return true
}

// part writes once.
func (w *tcpWriter) part(fd uintptr) (int, error) {
	done := w.sent - len(w.head)
	switch {
	case w.body == nil && w.size > 0 && done < 0:
		p := w.head[w.sent:]
		n, _, errno := syscall.RawSyscall6(unix.SYS_SENDTO, fd, uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)), unix.MSG_MORE|unix.MSG_NOSIGNAL, 0, 0) //nolint:gosec // p lives on: it is the caller's
		return result(n, errno)
	case w.body == nil && w.size > 0 && w.fast:
		w.from = w.at + int64(done)
		n, _, errno := syscall.RawSyscall6(unix.SYS_SENDFILE, fd, uintptr(w.file), uintptr(unsafe.Pointer(&w.from)), uintptr(w.size-done), 0, 0) //nolint:gosec // w lives on
		return result(n, errno)
	case w.body == nil && w.size > 0: // reading it may block
		w.from = w.at + int64(done)
		return unix.Sendfile(int(fd), w.file, &w.from, w.size-done) //nolint:gosec // G115: as above
	case done >= 0:
		return rawIO(syscall.SYS_WRITE, fd, w.body[done:])
	case w.size == 0:
		return rawIO(syscall.SYS_WRITE, fd, w.head[w.sent:])
	}
	w.iov[0].Base, w.iov[1].Base = &w.head[w.sent], &w.body[0]
	w.iov[0].SetLen(-done)
	w.iov[1].SetLen(len(w.body))
	n, _, errno := syscall.RawSyscall(syscall.SYS_WRITEV, fd, uintptr(unsafe.Pointer(&w.iov)), uintptr(len(w.iov))) //nolint:gosec // w holds what it points to
	return result(n, errno)
}

// rawIO is read(2) or write(2) on a descriptor that does not block; p is not
// empty.
func rawIO(number, fd uintptr, p []byte) (int, error) {
	n, _, errno := syscall.RawSyscall(number, fd, uintptr(unsafe.Pointer(&p[0])), uintptr(len(p))) //nolint:gosec // p lives on: it is the caller's
	return result(n, errno)
}

func result(n uintptr, errno syscall.Errno) (int, error) {
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil //nolint:gosec // G115: bytes that were there
}

// readOnce reads what there is.
func readOnce(fd uintptr, p []byte) (int, error) { return rawIO(syscall.SYS_READ, fd, p) }
