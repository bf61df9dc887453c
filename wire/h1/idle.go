package h1

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
)

// idleReader waits for bytes on a TCP connection without holding a buffer:
// one is taken when there is something to read into it. It does what
// net.Conn.Read does, try, then wait, then try again, and so cannot miss
// data or an end that came together with data. Other connections keep their
// smallest buffer while they wait; both ways pass the same tests.
type idleReader struct {
	raw syscall.RawConn
	rd  *reader
	try func(fd uintptr) bool // readable, made once
	n   int
	err error
}

// newIdleReader returns nil when nc has no descriptor.
func newIdleReader(nc *net.TCPConn, rd *reader) *idleReader {
	if nc == nil {
		return nil
	}
	raw, err := nc.SyscallConn()
	if err != nil {
		return nil
	}
	r := &idleReader{raw: raw, rd: rd}
	r.try = r.readable
	return r
}

func (r *idleReader) readable(fd uintptr) bool {
	if err := r.rd.room(1); err != nil {
		r.n, r.err = 0, err
		return true
	}
	for {
		r.n, r.err = syscall.Read(int(fd), r.rd.buf[r.rd.w:])
		switch {
		case errors.Is(r.err, syscall.EINTR):
			continue
		case errors.Is(r.err, syscall.EAGAIN):
			r.rd.drop()
			return false
		}
		return true
	}
}

// fill is reader.fill for an empty buffer of which nothing is lent out.
func (r *idleReader) fill() error {
	if err := r.rd.dl.armRead(r.rd.wait); err != nil {
		return err
	}
	if err := r.raw.Read(r.try); err != nil {
		return err
	}
	switch {
	case r.err != nil:
		return os.NewSyscallError("read", r.err)
	case r.n <= 0:
		return io.EOF
	}
	r.rd.w += r.n
	return nil
}
