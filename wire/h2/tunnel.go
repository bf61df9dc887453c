package h2

import (
	"errors"
	"io"
	"sync/atomic"

	"github.com/selvage-edge/selvage/fault"
)

var errNoHalfClose = errors.New("h2: side cannot be half-closed")

func closeWrite(side any) error {
	if h, ok := side.(interface{ CloseWrite() error }); ok {
		return h.CloseWrite()
	}
	return errNoHalfClose
}

// join copies both ways between an answer's Tunnel and the visitor (RFC 8441)
// until both sides have ended or one has failed. An end is passed on alone
// where the other side can be half-closed, else it ends both. The loop ends a
// tunnel without a byte for IdleTimeout.
func (c *conn) join(st *stream) error {
	c.flush(0)
	far := st.res.Tunnel
	ended := make(chan struct{})
	var byVisitor atomic.Bool
	c.work.Go(func() {
		defer close(ended)
		c.up(st, far, &byVisitor)
	})
	err := c.down(st, far, &byVisitor)
	<-ended
	return err
}

// up copies from the visitor. When it returns, nothing waits for far any more
// that the visitor's side could end. byVisitor tells down that far was closed
// because the visitor has ended its side and far cannot be half-closed.
func (c *conn) up(st *stream, far io.ReadWriteCloser, byVisitor *atomic.Bool) {
	blk := c.s.pools.block.Get().(*block)
	defer c.s.pools.block.Put(blk)
	for {
		n, err := st.body.Read(blk.b[:])
		if n > 0 {
			if _, werr := far.Write(blk.b[:n]); werr != nil {
				_ = c.breakOff(st, farFault("h2.tunnel", werr)) // down returns why
				err = werr
			}
		}
		if err == nil {
			continue
		}
		if err != io.EOF || closeWrite(far) != nil {
			byVisitor.Store(err == io.EOF)
			_ = far.Close() // it ends what waits there; what it says does not matter any more
			return
		}
		break
	}
	c.mu.Lock()
	for !st.reset && !st.localEnd {
		st.cond.Wait()
	}
	reset := st.reset
	c.mu.Unlock()
	if reset {
		_ = far.Close() // likewise
	}
}

// down copies to the visitor.
func (c *conn) down(st *stream, far io.Reader, byVisitor *atomic.Bool) error {
	blk := c.s.pools.block.Get().(*block)
	defer c.s.pools.block.Put(blk)
	for {
		n, err := far.Read(blk.b[:maxData])
		if n > 0 {
			if serr := c.send(st, blk.b[:n], false); serr != nil {
				return serr
			}
		}
		switch {
		case err == io.EOF, err != nil && byVisitor.Load():
			return c.send(st, nil, true)
		case err != nil:
			err = c.breakOff(st, farFault("h2.tunnel", err))
			c.endBody(st.body, err)
			return err
		}
	}
}

func farFault(op string, err error) error {
	if f, ok := errors.AsType[*fault.Error](err); ok {
		return f
	}
	return &fault.Error{Op: op, Side: fault.Origin, Kind: fault.Closed, Err: err}
}
