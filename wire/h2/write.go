package h2

import (
	"errors"
	"os"

	"github.com/selvage-edge/selvage/fault"
	"github.com/selvage-edge/selvage/wire/h2/frame"
)

// maxData is how many bytes of DATA make one frame at most: with its head it
// fills one TLS record.
const maxData = 1<<14 - frame.HeaderLen

// maxDone bounds the answers that wait for one write.
const maxDone = 256

// openOut makes sure that there is a buffer to append to. mu is held.
func (c *conn) openOut() {
	if c.outBuf == nil {
		c.outBuf = c.s.pools.out.Get().(*[]byte)
		c.out = (*c.outBuf)[:0]
	}
}

// fill moves what streams have to send into out, by priority, as far as
// windows and sendMark allow. mu is held.
func (c *conn) fill() {
	if c.queue.n == 0 {
		return
	}
	c.openOut()
	now := c.s.clock.Now()
	for len(c.out) < sendMark && c.window > 0 {
		st := c.queue.next()
		if st == nil {
			return
		}
		n := int(min(int64(len(st.data)), st.window, c.window, int64(c.maxFrame), maxData))
		h := frame.Header{Length: uint32(n), Type: frame.Data, Stream: st.id}
		all := n == len(st.data)
		if all && st.last {
			h.Flags = frame.EndStream
		}
		c.out = append(frame.Append(c.out, h), st.data[:n]...)
		c.sent(st, n)
		st.moved = now
		st.data = st.data[n:]
		switch {
		case all && st.last:
			c.endLocal(st)
		case all:
			c.queue.remove(st)
			st.cond.Broadcast()
		case st.window <= 0:
			c.queue.remove(st)
		default:
			c.queue.turn(st)
		}
	}
}

// sent takes n bytes of DATA off the windows. mu is held.
func (c *conn) sent(st *stream, n int) {
	st.window -= int64(n)
	c.window -= int64(n)
	c.all += int64(n)
	st.sent += int64(n)
	c.answers = min(c.answers+3, 1<<16)
}

// noteMuch finds whether so much waits, of what one read brought, that it is to
// be written before more is taken.
func (c *conn) noteMuch() {
	c.mu.Lock()
	c.much = len(c.out) >= sendMark || len(c.done) >= maxDone
	c.mu.Unlock()
}

// settle sends what is ready, and waits while too much is not taken.
func (c *conn) settle() error {
	c.much = false
	c.flush(1)
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.writing && (len(c.out) >= sendMark || len(c.done) >= maxDone) && c.dead == nil {
		c.room.Wait()
	}
	return c.dead
}

// flush writes out, and what streams have to send, unless somebody else is
// writing, who will see to it. After rounds writes (0 = no bound) a goroutine
// goes on.
func (c *conn) flush(rounds int) {
	c.mu.Lock()
	if c.writing {
		c.mu.Unlock()
		return
	}
	c.writing = true
	for n := 1; c.round(); n++ {
		if n == rounds && c.more() {
			c.work.Go(func() {
				c.mu.Lock()
				for c.round() {
				}
				c.rest()
			})
			c.mu.Unlock()
			return
		}
	}
	c.rest()
}

// more reports that another round would write something. mu is held.
func (c *conn) more() bool {
	return c.dead == nil && (len(c.out) > 0 || c.queue.n > 0 && c.window > 0)
}

// rest ends writing. mu is held, and given back.
func (c *conn) rest() {
	c.writing = false
	if c.outBuf != nil && len(c.out) == 0 {
		c.putOut(c.outBuf, c.out)
		c.outBuf, c.out = nil, nil
	}
	c.room.Broadcast()
	c.mu.Unlock()
}

func (c *conn) putOut(b *[]byte, p []byte) {
	if cap(p) <= outKeep {
		*b = p[:0]
		c.s.pools.out.Put(b)
	}
}

// round writes once and finishes the streams whose last byte that was. It
// reports whether there was anything to do. mu is held, and given up meanwhile.
func (c *conn) round() bool {
	if c.dead == nil {
		c.fill()
	}
	out, buf, done := c.out, c.outBuf, c.done
	if len(out) == 0 && len(done) == 0 {
		return false
	}
	dead := c.dead
	c.out, c.outBuf = nil, nil
	c.done, c.doneSpare = c.doneSpare[:0], nil
	c.mu.Unlock()
	err := dead
	if dead == nil && len(out) > 0 {
		err = c.write(out)
	}
	if buf != nil {
		c.putOut(buf, out)
	}
	for _, st := range done {
		c.settleUp(st, err)
		st.wipe()
	}
	if err != nil && dead == nil {
		c.die(err)
	}
	c.mu.Lock()
	for i, st := range done { // of these no session was told that its visitor left
		c.free = append(c.free, st)
		done[i] = nil
	}
	c.doneSpare = done[:0]
	c.room.Broadcast()
	return true
}

// write writes p within WriteTimeout for each sendMark bytes of it.
func (c *conn) write(p []byte) error {
	for len(p) > 0 {
		if err := c.dl.ArmWrite(c.s.l.WriteTimeout); err != nil {
			return visitorFault("h2.write", fault.Closed, err)
		}
		n, err := c.nc.Write(p[:min(len(p), sendMark)])
		if err != nil {
			kind := fault.Closed
			if errors.Is(err, os.ErrDeadlineExceeded) {
				kind = fault.Timeout
				c.s.count.end(SlowReader)
			}
			return visitorFault("h2.write", kind, err)
		}
		p = p[n:]
	}
	return nil
}

// die notes that nothing can be written any more; the loop ends by it.
func (c *conn) die(err error) {
	c.mu.Lock()
	if c.dead == nil {
		c.dead = err
	}
	c.mu.Unlock()
	_ = rawConn(c.nc).Close() // ends the loop's read
}

// flushAll writes until nothing is left and nobody else writes.
func (c *conn) flushAll() {
	for {
		c.flush(0)
		c.mu.Lock()
		for c.writing {
			c.room.Wait()
		}
		more := c.more() || len(c.done) > 0
		c.mu.Unlock()
		if !more {
			return
		}
	}
}

// credit lets the visitor send n more bytes of a body, as they were taken.
func (c *conn) credit(b *body, n int) {
	c.mu.Lock()
	said := c.creditConn(int64(n))
	if st := b.st; st != nil && st.listed && !st.remoteEnd {
		said = c.creditStream(st, int64(n)) || said
	}
	c.mu.Unlock()
	if said {
		c.flush(0)
	}
}

// creditConn counts n bytes of DATA as taken and tells the visitor, now and
// then, that it may send as many more. It reports whether it did. mu is held.
func (c *conn) creditConn(n int64) bool {
	c.credited += n
	if c.credited < int64(c.s.l.Windows)/4 {
		return false
	}
	c.openOut()
	c.out = frame.AppendWindowUpdate(c.out, 0, uint32(c.credited))
	c.recv += c.credited
	c.credited = 0
	return true
}

// creditStream is creditConn for one stream. mu is held.
func (c *conn) creditStream(st *stream, n int64) bool {
	st.credit += n
	if st.credit < int64(c.s.l.Window)/4 {
		return false
	}
	c.openOut()
	c.out = frame.AppendWindowUpdate(c.out, st.id, uint32(st.credit))
	st.recv += st.credit
	st.credit = 0
	return true
}

// discard counts bytes that nobody will read as taken.
func (c *conn) discard(n int) {
	c.mu.Lock()
	c.creditConn(int64(n))
	c.mu.Unlock()
}

// endBody ends a body by a failure.
func (c *conn) endBody(b *body, err error) {
	if held := b.end(err); held > 0 {
		c.discard(held)
	}
}
