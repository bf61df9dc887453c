package h1

import (
	"errors"
	"io"
	"os"
	"sync/atomic"
	"time"

	"github.com/selvage-edge/selvage/wire/msg"
)

// upgrade writes the 101 and copies both ways until both sides have ended,
// one has failed, or IdleTimeout has passed without a byte. An end is passed
// on alone where the other side can be half-closed (CloseWrite), else it ends
// both. sent counts the bytes that went to the visitor.
func (c *conn) upgrade() (sent int64, err error) {
	c.broken = true
	c.turn.Add(1) // both sides are read from now on, and may be half-closed
	defer c.turn.Add(1)
	head, err := c.appendSwitch(make([]byte, 0, 1024))
	if err != nil {
		c.broken = false
		return 0, c.giveUp(err)
	}
	if _, err := c.write(head); err != nil {
		return 0, visitorFault("h1.write", err)
	}
	t := &tunnel{c: c, far: c.res.Tunnel, downEnd: make(chan struct{})}
	t.last.Store(int64(c.s.clock.Now()))
	t.watch = time.AfterFunc(time.Hour, t.check)
	t.watch.Reset(c.s.l.IdleTimeout) // after watch is set
	defer t.watch.Stop()
	go func() { // join waits for it
		defer close(t.downEnd)
		t.downErr = t.down()
	}()
	upErr := t.up()
	ended := c.dl.Held() // by down, which then knows why
	err = t.join(upErr)
	switch {
	case t.idle.Load():
		err = os.ErrDeadlineExceeded
	case ended:
		err = t.downErr
	}
	if errors.Is(err, errNoHalfClose) {
		err = nil
	}
	return t.sent.Load(), err
}

func (c *conn) appendSwitch(p []byte) ([]byte, error) {
	p, err := appendFields(appendStatus(p, 101), &c.res.Fields, keepUpgrade)
	if err != nil {
		return nil, err
	}
	if !c.res.Fields.Has(msg.Upgrade) {
		p = append(append(append(p, "Upgrade: "...), c.req.Upgrade...), "\r\n"...)
	}
	if !c.res.Fields.Has(msg.Date) {
		p = append(p, c.s.clock.Date()...)
	}
	return append(p, "Connection: Upgrade\r\n\r\n"...), nil
}

type tunnel struct {
	c       *conn
	far     io.ReadWriteCloser
	last    atomic.Int64 // clock time of the latest byte, either way
	sent    atomic.Int64
	downEnd chan struct{} // closed when down has returned
	downErr error         // what it returned
	watch   *time.Timer   // runs check
	idle    atomic.Bool   // check ended it
}

func (t *tunnel) touch() { t.last.Store(int64(t.c.s.clock.Now())) }

// quiet returns how long the tunnel may still be idle.
func (t *tunnel) quiet() time.Duration {
	return time.Duration(t.last.Load()) + t.c.s.l.IdleTimeout - t.c.s.clock.Now()
}

// up copies from the visitor, beginning with what came with its request. nil
// means that the visitor has ended its side and may still be listening.
func (t *tunnel) up() error {
	rd := &t.c.rd
	blk := t.c.s.pools.stream.Get().(*block)
	defer t.c.s.pools.stream.Put(blk)
	if p := rd.buffered(); len(p) > 0 {
		if _, err := t.far.Write(p); err != nil {
			return err
		}
		rd.r = rd.w
	}
	for {
		if rd.wait = t.quiet(); rd.wait <= 0 {
			return os.ErrDeadlineExceeded
		}
		n, err := rd.read(blk.b)
		switch {
		case err == io.EOF:
			return closeWrite(t.far)
		case errors.Is(err, os.ErrDeadlineExceeded) && t.quiet() > 0 && !t.c.dl.Held():
			continue // the other way was busy meanwhile
		case err != nil:
			return err
		}
		t.touch()
		if _, err := t.far.Write(blk.b[:n]); err != nil {
			return err
		}
		t.touch()
	}
}

// down copies to the visitor. An end or failure that cannot be passed on as a
// half-close ends the other way too.
func (t *tunnel) down() error {
	blk := t.c.s.pools.stream.Get().(*block)
	defer t.c.s.pools.stream.Put(blk)
	for {
		n, err := t.far.Read(blk.b)
		if n > 0 {
			t.touch()
			if _, werr := t.c.write(blk.b[:n]); werr != nil {
				t.c.dl.Hold()
				return werr
			}
			t.sent.Add(int64(n))
			t.touch()
		}
		if err == nil {
			continue
		}
		if err == io.EOF && closeWrite(t.c.nc) == nil {
			return nil
		}
		t.c.dl.Hold()
		if err == io.EOF {
			return nil
		}
		return err
	}
}

// join waits for down. After a clean end of the visitor's side the far side
// may go on; after a failure it is closed.
func (t *tunnel) join(upErr error) error {
	if upErr != nil {
		t.end()
	}
	<-t.downEnd
	if upErr == nil {
		return t.downErr
	}
	return upErr
}

// end cuts both sides.
func (t *tunnel) end() {
	_ = t.far.Close() // it ends what waits there; what it says does not matter any more
	t.c.dl.Cut()
}

// check runs when the tunnel may have been idle for too long. It is needed
// beside the visitor's read deadline for the sides that have none: a far side
// that takes nothing, or one that says nothing after the visitor has ended.
func (t *tunnel) check() {
	if left := t.quiet(); left > 0 {
		t.watch.Reset(left)
		return
	}
	t.idle.Store(true)
	t.end()
}

var errNoHalfClose = errors.New("h1: side cannot be half-closed")

func closeWrite(side any) error {
	if h, ok := side.(interface{ CloseWrite() error }); ok {
		return h.CloseWrite()
	}
	return errNoHalfClose
}
