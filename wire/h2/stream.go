package h2

import (
	"errors"
	"sync"
	"time"

	"github.com/selvage-edge/selvage/internal/clock"
	"github.com/selvage-edge/selvage/wire/h2/frame"
	"github.com/selvage-edge/selvage/wire/h2/hpack"
	"github.com/selvage-edge/selvage/wire/head"
	"github.com/selvage-edge/selvage/wire/msg"
)

// stream is one request with its answer. It is used again for others: of the
// same connection together with its session, of another without.
//
// Before a goroutine takes it over (serving) and after that has ended, the
// connection's loop owns what is not guarded by conn.mu.
type stream struct {
	c       *conn
	sess    msg.Session
	step    msg.Stepper // sess, where it is one
	req     msg.Request
	res     msg.Response
	sec     hpack.Section
	builder head.Builder
	body    *body // nil without one; set before serving
	interim func(int, *msg.Fields) error

	// Guarded by conn.mu.
	id        uint32
	prio      head.Priority
	queued    bool   // in conn.queue
	listed    bool   // in conn.streams
	serving   bool   // a goroutine owns the stream
	inline    bool   // the loop does: it has not yet been handed over
	tunnel    bool   // bytes go both ways after the answer's head
	remoteEnd bool   // the visitor sends no more
	localEnd  bool   // we send no more
	started   bool   // the final answer's head has been appended
	reset     bool   // ended before its time, by why
	left      bool   // the session was, or will be, told that the visitor has left
	last      bool   // behind data nothing comes
	data      []byte // to be sent
	window    int64  // how much of it may be
	recv      int64  // how much of a body may come
	credit    int64  // read since the latest WINDOW_UPDATE
	sent      int64  // of the answer's body
	why       error
	moved     time.Duration // when bytes left, or the answer began
	cond      sync.Cond     // L is &c.mu: data was taken, or the stream was reset
	taken     taken
}

// taken is how a visitor takes an answer, as slowReader last saw it.
type taken struct {
	pace  clock.Pace
	at    time.Duration
	sent  int64
	stuck bool
}

var errGone = errors.New("h2: the connection has ended")

func newStream() *stream {
	st := &stream{prio: head.DefaultPriority}
	st.interim = st.sendInterim
	st.sec.Fields = &st.req.Fields
	return st
}

// count notes whether another request would be one too many. Only the loop
// adds requests, so that it needs no look while this says no. mu is held.
func (c *conn) count() {
	open := len(c.streams)
	c.full = open >= c.s.l.Streams || open+c.orphans >= 2*c.s.l.Streams
}

// take returns a stream for a new request, and whether there are too many
// already. c.mu is not held.
func (c *conn) take() (st *stream, full bool) {
	if c.hot != nil && !c.full {
		st, c.hot = c.hot, nil
		return st, false
	}
	c.mu.Lock()
	c.count()
	full = c.full
	if n := len(c.free); n > 0 {
		st = c.free[n-1]
		c.free[n-1] = nil
		c.free = c.free[:n-1]
	}
	c.mu.Unlock()
	if st != nil {
		return st, full
	}
	st = c.s.pools.stream.Get().(*stream)
	st.c, st.cond.L = c, &c.mu
	st.sec.Limit = c.s.l.Head
	st.sess = c.s.h.Open(c.mc)
	st.step, _ = st.sess.(msg.Stepper)
	return st, full
}

// keepMem is the largest memory of a head that a stream keeps.
const keepMem = 4 << 10

// give takes a stream back whose request is done.
func (c *conn) give(st *stream) {
	if st.wipe(); st.left {
		c.close(st)
		return
	}
	c.mu.Lock()
	c.free = append(c.free, st)
	c.mu.Unlock()
}

// wipe makes a stream that nobody else knows ready for the next request.
func (st *stream) wipe() {
	st.req.Reset()
	st.res.Reset()
	if cap(st.sec.Mem) > keepMem {
		st.sec.Mem = nil
	}
	if b := st.body; b != nil {
		st.c.mu.Lock()
		b.st = nil
		st.c.mu.Unlock()
	}
	st.id, st.prio, st.body = 0, head.DefaultPriority, nil
	st.serving, st.inline, st.tunnel, st.remoteEnd, st.localEnd, st.started, st.reset, st.last = false, false, false, false, false, false, false, false
	st.data, st.window, st.recv, st.credit, st.sent, st.why, st.taken = nil, 0, 0, 0, 0, nil, taken{}
}

// close gives a stream back to all connections, its session closed.
func (c *conn) close(st *stream) {
	st.sess.Close()
	st.sess, st.step, st.c, st.cond.L, st.left = nil, nil, nil, nil, false
	c.s.pools.stream.Put(st)
}

// find returns an open stream, nil when there is none. mu is held.
func (c *conn) find(id uint32) *stream {
	for i, have := range c.ids {
		if have == id {
			return c.streams[i]
		}
	}
	return nil
}

// list makes a stream one that find finds. mu is held.
func (c *conn) list(st *stream) {
	st.listed = true
	c.ids = append(c.ids, st.id)
	c.streams = append(c.streams, st)
}

// unlist takes a stream off the list and remembers how it ended. mu is held.
func (c *conn) unlist(st *stream, by ending) {
	c.past.note(st.id, by)
	if !st.listed {
		return
	}
	st.listed = false
	for i, have := range c.ids {
		if have != st.id {
			continue
		}
		n := len(c.ids) - 1
		c.ids[i], c.streams[i] = c.ids[n], c.streams[n]
		c.streams[n] = nil
		c.ids, c.streams = c.ids[:n], c.streams[:n]
		break
	}
	if len(c.ids) == 0 && (c.endSoon || c.lastTaken != frame.MaxStream) {
		c.dl.Hold() // the loop may be waiting for a reason to end
	}
}

// ending is how a stream ended: what may still come on it depends on that
// (RFC 9113 §5.1, closed).
type ending uint8

const (
	unknown ending = iota
	byEnd          // both sides said END_STREAM
	byThem         // the visitor reset it
	byUs           // we did: frames may still be on the way
)

// history remembers the latest streams that ended.
type history struct {
	ids [pastSize]uint32
	how [pastSize]ending
	at  int
}

const pastSize = 128

func (p *history) note(id uint32, by ending) {
	p.ids[p.at], p.how[p.at] = id, by
	p.at = (p.at + 1) % pastSize
}

func (p *history) find(id uint32) ending {
	for i, have := range p.ids {
		if have == id {
			return p.how[i]
		}
	}
	return unknown
}

// endLocal notes that our END_STREAM is on its way: the stream is over, unless
// it is a tunnel whose other side goes on. A body that is still coming is not
// wanted any more (RFC 9113 §8.1). mu is held.
func (c *conn) endLocal(st *stream) {
	st.localEnd = true
	c.queue.remove(st)
	st.cond.Broadcast()
	if st.tunnel && !st.remoteEnd {
		return
	}
	c.over(st)
}

// over ends a stream both of whose sides are done. mu is held.
func (c *conn) over(st *stream) {
	how := byEnd
	if !st.remoteEnd {
		c.out = frame.AppendReset(c.out, st.id, frame.NoError)
		how = byUs
	}
	c.unlist(st, how)
	if !st.serving && !st.inline {
		c.done = append(c.done, st)
	}
}

// cancel ends a stream before its time. What is to be told of it, is told by
// the function it returns, which is called without mu. mu is held.
func (c *conn) cancel(st *stream, by ending, why error) (tell func()) {
	if st.reset || !st.listed {
		return func() {}
	}
	st.reset, st.why, st.data = true, why, nil
	c.queue.remove(st)
	c.unlist(st, by)
	st.cond.Broadcast()
	if !st.serving {
		c.done = append(c.done, st)
		return func() {}
	}
	c.orphans++
	st.left = true
	sess, b := st.sess, st.body
	return func() {
		if b != nil {
			c.endBody(b, why)
		}
		if l, ok := sess.(msg.Leaver); ok {
			l.Left()
		}
	}
}

// finish is the end of a stream that its own goroutine served.
func (c *conn) finish(st *stream, err error) {
	c.settleUp(st, err)
	c.give(st)
}

// settleUp tells the session of its request's end. Nobody else uses the stream
// any more.
func (c *conn) settleUp(st *stream, err error) {
	if st.body != nil {
		_ = st.body.Close() // never fails
	}
	st.res.Close()
	if st.why != nil {
		err = st.why
	}
	st.sess.Done(&st.req, &st.res, st.sent, err)
}
