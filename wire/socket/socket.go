// Package socket reads and writes TCP connections by system calls that Go's
// scheduler does not hear of: they never block, and telling it costs as much as
// the call. Waiting is still the scheduler's.
package socket

import (
	"io"
	"net"
	"os"
	"syscall"
	"unsafe"
)

// Conn is a TCP connection. Unlike others of package net it allows one Read and
// one Write at a time: what lies on top of it, TLS, holds locks anyway.
type Conn struct {
	*net.TCPConn
	raw  syscall.RawConn
	in   transfer
	out  transfer
	read func(fd uintptr) bool
	send func(fd uintptr) bool
}

// transfer is what a call is doing.
type transfer struct {
	p   []byte
	n   int
	err error
}

// Wrap returns nc so, or as it is where it is no TCP connection.
func Wrap(nc net.Conn) net.Conn {
	tcp, ok := nc.(*net.TCPConn)
	if !ok {
		return nc
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nc
	}
	c := &Conn{TCPConn: tcp, raw: raw}
	c.read, c.send = c.tryRead, c.tryWrite
	return c
}

// Read implements net.Conn.
func (c *Conn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	c.in = transfer{p: p}
	err := c.raw.Read(c.read)
	t := c.in
	c.in = transfer{}
	switch {
	case err != nil:
		return 0, err
	case t.err != nil:
		return 0, &net.OpError{Op: "read", Net: "tcp", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: os.NewSyscallError("read", t.err)}
	case t.n == 0:
		return 0, io.EOF
	}
	return t.n, nil
}

// tryRead reports whether it is done; false waits for more.
func (c *Conn) tryRead(fd uintptr) bool {
	for {
		n, errno := call(syscall.SYS_READ, fd, c.in.p)
		switch errno {
		case 0:
			c.in.n = n
			return true
		case syscall.EINTR:
		case syscall.EAGAIN:
			return false
		default:
			c.in.err = errno
			return true
		}
	}
}

// Write implements net.Conn.
func (c *Conn) Write(p []byte) (int, error) {
	c.out = transfer{p: p}
	err := c.raw.Write(c.send)
	t := c.out
	c.out = transfer{}
	if err == nil && t.err != nil {
		err = &net.OpError{Op: "write", Net: "tcp", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: os.NewSyscallError("write", t.err)}
	}
	return t.n, err
}

func (c *Conn) tryWrite(fd uintptr) bool {
	for t := &c.out; t.n < len(t.p); {
		n, errno := call(syscall.SYS_WRITE, fd, t.p[t.n:])
		switch errno {
		case 0:
			t.n += n
		case syscall.EINTR:
		case syscall.EAGAIN:
			return false
		default:
			t.err = errno
			return true
		}
	}
	return true
}

// call is read(2) or write(2) on a descriptor that does not block; p is not empty.
func call(number, fd uintptr, p []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall(number, fd, uintptr(unsafe.Pointer(&p[0])), uintptr(len(p))) //nolint:gosec // p lives on: it is the caller's
	return int(n), errno
}
