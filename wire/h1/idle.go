package h1

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// settleTime is how long a connection that has been answered is taken to ask
// again soon. After it, what it does not need while it waits is given back.
const settleTime = 2 * time.Second

// idleReader waits for bytes on a TCP connection without holding a buffer: one
// is taken when there is something to read into it.
//
// Requests that need nobody's waiting are answered right here, within one
// RawConn.Read. There the poller keeps what comes meanwhile, so that after a
// read that did not fill the buffer there is no need to read in vain before
// waiting again: half of all reads. What such a read would have found, and the
// poller will not tell again, is an end that came together with the data; it is
// looked for when the connection has been quiet for settleTime. Other
// connections keep their smallest buffer while they wait; both ways pass the
// same tests.
type idleReader struct {
	raw   syscall.RawConn
	c     *conn
	try   func(fd uintptr) bool // readable, made once
	n     int
	err   error
	ended bool // a request was answered here and is the last one
}

// newIdleReader returns nil when nc has no descriptor.
func newIdleReader(nc *net.TCPConn, c *conn) *idleReader {
	if nc == nil {
		return nil
	}
	raw, err := nc.SyscallConn()
	if err != nil {
		return nil
	}
	r := &idleReader{raw: raw, c: c}
	r.try = r.readable
	return r
}

// readable reads and answers until there is nothing to read (false) or
// something that has to be looked at elsewhere (true).
func (r *idleReader) readable(fd uintptr) bool {
	rd := &r.c.rd
	for {
		if r.err = rd.room(1); r.err != nil {
			return true
		}
		space := rd.buf[rd.w:]
		r.n, r.err = readOnce(fd, space)
		switch {
		case errors.Is(r.err, syscall.EINTR):
			continue
		case errors.Is(r.err, syscall.EAGAIN):
			rd.drop()
			return false
		case r.err != nil || r.n <= 0:
			return true
		}
		rd.w += r.n
		drained := r.n < len(space)
		for rd.r < rd.w {
			if !r.c.quick() {
				return true
			}
			if r.ended = !r.c.settle(); r.ended {
				return true
			}
		}
		if drained {
			rd.drop()
			return false
		}
	}
}

// fill waits until there is a request that was not answered here. Nothing is
// buffered or lent out before.
func (r *idleReader) fill() error {
	limit := r.c.s.l.IdleTimeout
	r.ended = false
	settle := min(limit, r.c.s.settle)
	err := r.wait(settle)
	if limit > settle && errors.Is(err, os.ErrDeadlineExceeded) && !r.c.dl.Held() {
		r.c.slim()
		if r.c.quiet = r.c.parks && !r.c.s.noPark; r.c.quiet {
			return err
		}
		err = r.wait(limit - settle)
	}
	return err
}

func (r *idleReader) wait(timeout time.Duration) error {
	if err := r.c.dl.ArmRead(timeout); err != nil {
		return err
	}
	if err := r.raw.Read(r.try); err != nil {
		return err
	}
	switch {
	case r.ended:
		return io.EOF
	case r.err != nil:
		return os.NewSyscallError("read", r.err)
	case r.n <= 0:
		return io.EOF
	}
	return nil
}
