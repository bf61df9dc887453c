package h3

import (
	"errors"
	"io"
	"os"
	"sync/atomic"
	"time"

	"github.com/selvage-edge/selvage/internal/clock"
	"github.com/selvage-edge/selvage/wire/h3/qpack"
	"github.com/selvage-edge/selvage/wire/msg"
)

// tunnel answers an extended CONNECT (RFC 9220) and copies both ways until
// both sides have ended, one has failed, or IdleTimeout has passed without a
// byte. An end is passed on alone where the other side can be half-closed
// (CloseWrite), else it ends both. x.sent counts the bytes that went to the
// visitor.
func (x *exchange) tunnel() {
	x.res.Fields.DelFunc(func(l *msg.Field) bool { return l.ID == msg.SecWebSocketAccept })
	p := append(x.out[:0], frameHeaders, 0, 0, 0, 0)
	p = qpack.AppendStatus(qpack.AppendPrefix(p), 200)
	p, err := appendFields(p, &x.res.Fields, false)
	if err != nil {
		x.giveUp(err)
		return
	}
	if !x.res.Fields.Has(msg.Date) {
		p = append(p, x.c.s.clock.Date()...)
	}
	putLength(p[1:], len(p)-headRoom)
	x.out = p
	if err := x.write(p); err != nil {
		x.lost(err)
		return
	}
	t := &tunnel{x: x, far: x.res.Tunnel}
	t.moved()
	w := startWatch(x.c.s.l.IdleTimeout, t.check)
	up := make(chan error, 1)
	go func() { up <- t.up() }() // joined below
	downErr := t.down()
	if downErr != nil {
		t.stop() // up may wait for a visitor who says nothing
	}
	upErr := <-up
	w.stop()
	if err := errors.Join(downErr, upErr); err != nil {
		x.err = visitorFault("h3.tunnel", err)
		x.reset(codeConnect)
	}
}

type tunnel struct {
	x     *exchange
	far   io.ReadWriteCloser
	last  atomic.Int64 // when a byte last moved, on the clock
	ended atomic.Bool
}

func (t *tunnel) moved() { t.last.Store(int64(t.x.c.s.clock.Now())) }

// check ends the tunnel when nothing has moved for IdleTimeout, and says when to
// look again.
func (t *tunnel) check() (next time.Duration) {
	quiet := t.x.c.s.clock.Now() - time.Duration(t.last.Load())
	if left := t.x.c.s.l.IdleTimeout - quiet; left > 0 {
		return left
	}
	t.stop()
	return 0
}

// stop ends both ways.
func (t *tunnel) stop() {
	t.ended.Store(true)
	_ = t.far.Close() // whoever reads or writes it learns of it
	_ = t.x.st.SetDeadline(t.x.c.s.clock.At(0))
}

// up copies what the visitor sends.
func (t *tunnel) up() error {
	buf := t.x.c.s.pools.stream.Get().(*chunk)
	defer t.x.c.s.pools.stream.Put(buf)
	x := t.x
	f := frames{x: x, pace: clock.Pace{Most: x.c.s.l.BodyTimeout}, halt: &t.ended, buf: x.in[x.r:x.w:x.w], eof: x.eof}
	defer func() {
		x.eof = f.eof
		f.release()
	}()
	for {
		n, err := f.read(buf.b[:])
		if n > 0 {
			t.moved()
			if _, werr := t.far.Write(buf.b[:n]); werr != nil {
				t.stop()
				return werr
			}
			t.moved()
		}
		switch {
		case err == nil:
		case errors.Is(err, os.ErrDeadlineExceeded) && !t.ended.Load():
			f.pace.Moved(0, 1) // the other way may be busy; check decides
		case err == io.EOF:
			if half, ok := t.far.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
				return nil
			}
			t.stop()
			return nil
		default:
			if failed, ok := errors.AsType[*failure](err); ok {
				x.c.end(failed)
			}
			t.stop()
			return err
		}
	}
}

// down copies what the far side sends.
func (t *tunnel) down() error {
	buf := t.x.c.s.pools.stream.Get().(*chunk)
	defer t.x.c.s.pools.stream.Put(buf)
	for {
		n, err := t.far.Read(buf.b[frameRoom:])
		if n > 0 {
			t.moved()
			if werr := t.x.piece(nil, buf, n); werr != nil {
				t.stop()
				return werr
			}
			t.x.sent += int64(n)
			t.moved()
		}
		if err == io.EOF {
			return t.x.st.Close()
		}
		if err != nil {
			return err
		}
	}
}

func isTimeout(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }
