package client

import (
	"errors"
	"io"
	"os"
	"time"

	"github.com/selvage-edge/selvage/wire/h2/frame"
	"github.com/selvage-edge/selvage/wire/head"
)

var (
	errStopped   = errors.New("h2: the answer came before the body was sent")
	errShortBody = errors.New("h2: request body ended before its length")
	errStuck     = errors.New("h2: stream gives neither bytes nor an error")
	errOutField  = errors.New("h2: trailer that must not be written")
)

// flush writes what is in out, unless somebody is at it who will. The reading
// goroutine does not call it: were it to wait for the origin to read, while that
// waits for us, both would for ever.
func (c *Conn) flush() {
	c.mu.Lock()
	if c.writing || c.dead != nil {
		c.mu.Unlock()
		return
	}
	c.writing = true
	for len(c.out) > 0 && c.dead == nil {
		p := c.out
		c.out, c.spare = c.spare[:0], nil
		c.mu.Unlock()
		err := c.write(p)
		c.mu.Lock()
		if cap(p) <= maxPending {
			c.spare = p[:0]
		}
		if err != nil {
			c.writing = false
			c.mu.Unlock()
			c.fail(err, silent)
			return
		}
		c.wakeBlocked()
	}
	c.writing = false
	c.mu.Unlock()
}

func (c *Conn) write(p []byte) error {
	if now := c.now(); c.until-now < c.l.WriteTimeout*3/4 {
		c.until = now + c.l.WriteTimeout
		if err := c.nc.SetWriteDeadline(time.Now().Add(c.l.WriteTimeout)); err != nil {
			return err
		}
	}
	_, err := c.nc.Write(p)
	return err
}

// flushLater is flush for who must not wait.
func (c *Conn) flushLater() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.out) > 0 && !c.writing && c.dead == nil {
		c.work.Go(c.flush)
	}
}

// wakeBlocked tells those who wait for room that there may be some; the caller
// holds mu.
func (c *Conn) wakeBlocked() {
	if c.blocked == 0 {
		return
	}
	for _, st := range c.streams {
		st.unblock()
	}
}

// unblock wakes who sends the body, if it waits for room; the caller holds mu.
func (st *stream) unblock() {
	if st.blocked {
		st.blocked = false
		st.c.blocked--
		signal(st.kit.room)
	}
}

// startSending sends the request's body while the answer is awaited.
func (st *stream) startSending() {
	st.sentAt.Store(int64(st.c.now()))
	if st.req.Length == 0 {
		return
	}
	st.sent = make(chan struct{})
	go func() { // finish waits for it
		defer close(st.sent)
		if err := st.send(); err != nil && err != errStopped {
			st.cut(err)
		}
	}()
}

// halt tells the sender to end, wherever it waits, and waits until it has.
func (st *stream) halt() {
	if st.sent == nil {
		return
	}
	st.c.mu.Lock()
	first := !st.stop
	st.stop = true
	reading := st.reading
	signal(st.kit.room)
	st.c.mu.Unlock()
	if body, ok := st.src.(io.Closer); ok && first && reading {
		_ = body.Close() // what it says goes to the sender's Read
	}
	<-st.sent
}

// send copies the body into DATA frames.
func (st *stream) send() error {
	k := st.c.l.Memory.chunk()
	defer st.c.l.Memory.chunks.Put(k)
	length := st.req.Length
	for sent, empty := int64(0), 0; ; {
		room := int64(len(k.b))
		if length >= 0 {
			room = min(room, length-sent)
		}
		n, err := st.readBody(k.b[:room])
		sent += int64(n)
		ended := err == io.EOF && length < 0 || length >= 0 && sent == length
		switch {
		case err == errStopped:
			return nil
		case err == io.EOF && length >= 0 && sent < length:
			st.srcErr = errShortBody
			return errShortBody
		case err != nil && err != io.EOF:
			st.srcErr = err
			return err
		case ended:
			return st.sendLast(k.b[:n])
		case n > 0:
			if err := st.sendData(k.b[:n], false, st.c.l.WriteTimeout); err != nil {
				return err
			}
			empty = 0
		}
		if empty++; n == 0 && empty > 100 {
			st.srcErr = errStuck
			return errStuck
		}
	}
}

// readBody reads from the body unless halt was first. Of its mark and halt's,
// at least one is seen by the other side.
func (st *stream) readBody(p []byte) (int, error) {
	mu := &st.c.mu
	mu.Lock()
	stop := st.stop
	st.reading = !stop
	mu.Unlock()
	if stop {
		return 0, errStopped
	}
	n, err := st.src.Read(p)
	mu.Lock()
	stop = st.stop
	st.reading = false
	mu.Unlock()
	st.sentAt.Store(int64(st.c.now()))
	if stop {
		return 0, errStopped
	}
	return n, err
}

// sendLast sends the end of the body, and the trailers behind one of unknown length.
func (st *stream) sendLast(p []byte) error {
	trailer := &st.req.Trailer
	if st.req.Length >= 0 || trailer.Len() == 0 {
		return st.sendData(p, true, st.c.l.WriteTimeout)
	}
	if !writableFields(trailer) || !head.TrailerAllowed(trailer) {
		st.srcErr = errOutField
		return errOutField
	}
	if len(p) > 0 {
		if err := st.sendData(p, false, st.c.l.WriteTimeout); err != nil {
			return err
		}
	}
	c := st.c
	c.mu.Lock()
	if err := st.sendable(); err != nil {
		c.mu.Unlock()
		return err
	}
	c.head = c.enc.Begin(c.head[:0])
	for i := range trailer.Len() {
		if l := trailer.At(i); !left(st.req, l) {
			c.head = c.enc.Field(c.head, l)
		}
	}
	c.out = frame.AppendHeaders(c.out, st.id, c.head, c.peer.frame, true)
	st.ours()
	c.mu.Unlock()
	c.flush()
	return nil
}

// sendable says why nothing more can be sent, nil when it can; the caller holds mu.
func (st *stream) sendable() error {
	switch {
	case st.stop:
		return errStopped
	case !st.open || st.sendDone:
		if st.err != nil {
			return st.err
		}
		return errStopped
	}
	return nil
}

// ours notes that our side of the stream has ended; the caller holds mu.
func (st *stream) ours() {
	st.sendDone = true
	if st.ended {
		st.forget()
	}
}

// sendData sends p in frames as the origin's windows allow, and the end of our
// side with the last. It waits at most timeout for each frame; 0 = for ever.
func (st *stream) sendData(p []byte, end bool, timeout time.Duration) error {
	since := st.c.now()
	for {
		n, err := st.putData(p, end)
		if err != nil {
			return err
		}
		if n >= 0 {
			st.c.flush()
			since = st.c.now()
			st.sentAt.Store(int64(since))
			if p = p[n:]; len(p) == 0 {
				return nil
			}
			continue
		}
		if timeout == 0 {
			<-st.kit.room
			continue
		}
		st.kit.sendTimer.Reset(since + timeout - st.c.now())
		select {
		case <-st.kit.room:
		case <-st.kit.sendTimer.C:
			return os.ErrDeadlineExceeded
		}
	}
}

// putData puts one frame into out and returns how much of p is in it, or -1
// when there is no room: the stream is blocked then.
func (st *stream) putData(p []byte, end bool) (int, error) {
	c := st.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := st.sendable(); err != nil {
		return 0, err
	}
	n := int(min(int64(len(p)), int64(c.peer.frame), max(0, st.window), max(0, c.window)))
	if n == 0 && len(p) > 0 || len(c.out) > maxPending {
		if !st.blocked {
			st.blocked = true
			c.blocked++
		}
		return -1, nil
	}
	h := frame.Header{Length: uint32(n), Type: frame.Data, Stream: st.id}
	if end = end && n == len(p); end {
		h.Flags = frame.EndStream
	}
	c.out = append(frame.Append(c.out, h), p[:n]...)
	st.window -= int64(n)
	c.window -= int64(n)
	c.moved.Store(true)
	if end {
		st.ours()
	}
	return n, nil
}
