package h1

import (
	"io"

	"github.com/selvage-edge/selvage/wire/head"
)

// startSending sends the request's body while the answer is awaited.
func (ex *exchange) startSending() {
	ex.sentAt.Store(int64(ex.c.dl.Clock.Now()))
	if ex.req.Length == 0 {
		return
	}
	ex.sent = make(chan struct{})
	go func() { // join waits for it
		defer close(ex.sent)
		ex.sendErr = ex.send()
		if ex.srcErr != nil {
			ex.c.dl.Cut() // the request cannot be completed: no answer is to be had
		}
	}()
}

// halt tells the sender to end, wherever it waits.
func (ex *exchange) halt() {
	if ex.sent == nil || ex.stop.Swap(true) {
		return
	}
	select {
	case <-ex.sent:
		return
	default:
	}
	ex.c.dl.ShutWrite()
	if ex.reading.Load() {
		if body, ok := ex.src.(io.Closer); ok {
			_ = body.Close() // what it says goes to the sender's Read
		}
	}
}

// send copies the body in its framing. What it cannot write is the answer's
// reader's to explain: an origin that refuses a body often says why.
func (ex *exchange) send() error {
	c, length := ex.c, ex.req.Length
	blk := c.pools.stream.Get().(*block)
	defer c.pools.stream.Put(blk)
	for sent, empty := int64(0), 0; length < 0 || sent < length; {
		room := int64(streamMax)
		if length >= 0 {
			room = min(room, length-sent)
		}
		n, err := ex.readBody(blk.b[chunkFront : chunkFront+room])
		if ex.stop.Load() {
			return errStopped
		}
		if n > 0 {
			if _, err := c.write(frame(blk.b, n, length < 0, false)); err != nil {
				return err
			}
			sent, empty = sent+int64(n), 0
			ex.sentAt.Store(int64(c.dl.Clock.Now()))
		}
		switch {
		case err == io.EOF && length < 0:
			return ex.sendEnd()
		case err == io.EOF && sent < length:
			ex.srcErr = errShortBody
			return errShortBody
		case err != nil && err != io.EOF:
			ex.srcErr = err
			return err
		}
		if empty++; n == 0 && empty > 100 {
			ex.srcErr = errStuck
			return errStuck
		}
	}
	return nil
}

// readBody reads from the body unless halt was first. Of its flag and halt's,
// at least one is seen by the other side.
func (ex *exchange) readBody(p []byte) (int, error) {
	ex.reading.Store(true)
	defer ex.reading.Store(false)
	if ex.stop.Load() {
		return 0, errStopped
	}
	return ex.src.Read(p)
}

func (ex *exchange) sendEnd() error {
	p, err := appendFields([]byte("0\r\n"), &ex.req.Trailer, dropAll)
	if err == nil && !head.TrailerAllowed(&ex.req.Trailer) {
		err = errOutField
	}
	if err != nil {
		ex.srcErr = err
		return err
	}
	if _, err = ex.c.write(append(p, "\r\n"...)); err == nil {
		ex.sentAt.Store(int64(ex.c.dl.Clock.Now()))
	}
	return err
}
