// Package client is the client's side of HTTP/2 (RFC 9113): one connection to
// an origin, many requests on it at a time. It promises that what an origin
// sends is bounded before it is kept, that a body is as long as its head said,
// that a slow reader of one answer holds up no other, and that an error says
// whether the request can have been processed.
package client

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/selvage-edge/selvage/fault"
	"github.com/selvage-edge/selvage/wire/h2/frame"
	"github.com/selvage-edge/selvage/wire/h2/hpack"
	"github.com/selvage-edge/selvage/wire/msg"
)

// Why a request failed, to be found by errors.Is in what Do and Body return.
var (
	// ErrUnprocessed: the origin has said, or it is otherwise sure, that it did
	// nothing with the request. Any method may be sent again (RFC 9113 §8.7).
	ErrUnprocessed = errors.New("h2: the request was not processed")
	// ErrHTTP11: the request has to be sent over HTTP/1.1. It comes with ErrUnprocessed.
	ErrHTTP11 = errors.New("h2: HTTP/1.1 is wanted")
	// ErrNoConnect: the origin does not take extended CONNECT. It comes with ErrHTTP11.
	ErrNoConnect = errors.New("h2: the origin does not take extended CONNECT")
)

var (
	errClosed   = errors.New("h2: connection closed")
	errGoAway   = errors.New("h2: the origin takes no more requests here")
	errSpent    = errors.New("h2: no stream numbers are left")
	errFull     = errors.New("h2: too many requests at a time")
	errSilent   = errors.New("h2: the origin has stopped answering")
	errCut      = errors.New("h2: the answer was given up")
	errReqHead  = errors.New("h2: request that must not be written")
	errReqBody  = errors.New("h2: request with a length but no body")
	errListSize = errors.New("h2: head larger than the origin takes")
)

// Conn is a connection to an origin. Its methods may be called by many
// goroutines.
type Conn struct {
	nc    net.Conn
	l     Limits
	start time.Time
	work  sync.WaitGroup // everything that runs on its behalf

	heard   atomic.Int64  // clock time of the latest bytes from the origin
	moved   atomic.Bool   // part of a body has been sent, see count
	settled chan struct{} // closed when the origin's first SETTINGS are in force, or never will be
	settle  func()        // closes it

	// Owned by the goroutine that reads.
	dec   hpack.Decoder
	scrap hpack.Section // for sections that nobody waits for
	block fragments
	junk  int
	since time.Duration // from when junk counts

	mu      sync.Mutex // guards what follows
	streams map[uint32]*stream
	next    uint32 // number of the next stream
	served  bool   // an answer has come on this connection
	enc     hpack.Encoder
	head    []byte // room for a block that is encoded
	peer    peer
	window  int64 // that the origin has left for bodies of requests
	extra   int   // see extraWindow
	credit  int   // bytes arrived that the origin has not been told to forget
	refuse  error // why no further request is taken; nil = they are
	dead    error // why the connection has ended; nil = it lives

	out     []byte // to be written
	spare   []byte
	writing bool
	blocked int           // streams that wait for room
	until   time.Duration // that the write deadline allows; owned by who is writing

	watch    *time.Timer
	watching bool
	begun    time.Duration // when there was a stream after none
	pinged   time.Duration // when the origin was last asked for a sign of life
}

// peer is what the origin's SETTINGS say.
type peer struct {
	streams int   // at a time
	window  int64 // of new streams
	frame   int   // largest payload
	list    int   // largest head, 0 = any
	connect bool  // extended CONNECT is taken
	greeted bool  // the first SETTINGS have come
}

// New speaks HTTP/2 on an established connection, which it owns. Over TLS the
// protocol h2 has been agreed on; without, the origin is known to speak it (RFC
// 9113 §3.3), and Greeted tells whether it does.
func New(nc net.Conn, l Limits) *Conn {
	l = l.withDefaults()
	c := &Conn{
		nc: nc, l: l, start: time.Now(), settled: make(chan struct{}), dec: hpack.NewDecoder(),
		streams: make(map[uint32]*stream), next: 1, enc: hpack.NewEncoder(),
		peer: peer{streams: 100, window: frame.InitialWindow, frame: frame.MinFrame}, window: frame.InitialWindow,
	}
	c.settle = sync.OnceFunc(func() { close(c.settled) })
	c.scrap = hpack.Section{Fields: &msg.Fields{}, Limit: 0}
	c.watch = time.AfterFunc(time.Hour, c.check)
	c.watch.Stop()
	c.out = append(c.out, frame.Preface...)
	c.out = frame.AppendSettings(c.out,
		frame.Param{Name: frame.EnablePush, Value: 0},
		frame.Param{Name: frame.InitialWindowSize, Value: firstWindow},
		frame.Param{Name: frame.MaxHeaderListSize, Value: uint32(l.Head)})
	c.out = frame.AppendWindowUpdate(c.out, 0, connWindow-frame.InitialWindow)
	c.work.Go(c.read)
	return c
}

func (c *Conn) now() time.Duration { return time.Since(c.start) }

// Capacity returns how many requests may be in flight at a time, those whose
// answers are not closed included; 0 when no more are taken.
func (c *Conn) Capacity() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.refuse != nil {
		return 0
	}
	return min(c.peer.streams, c.l.Streams)
}

// Greeted reports that the origin has sent its SETTINGS: it does speak HTTP/2.
func (c *Conn) Greeted() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.peer.greeted
}

// Upgrades waits for the origin's SETTINGS and reports whether it takes
// requests with Upgrade, as extended CONNECT (RFC 8441).
func (c *Conn) Upgrades(ctx context.Context) (bool, error) {
	select {
	case <-c.settled:
	case <-ctx.Done():
		return false, ctx.Err()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.peer.connect && c.refuse == nil, c.dead
}

// Do sends req and fills res with the head of the answer; res has been reset.
//
// Written are MethodText, Target, Authority and Scheme as pseudo-header fields,
// and req.Fields in order, without Host, Expect, Content-Length, which follow
// from the others, and what belongs to an HTTP/1.1 connection. req.Trailer
// follows a body of unknown length. A request with Upgrade becomes an extended
// CONNECT, without Sec-WebSocket-Key; a 200 to it is returned as a 101 with
// res.Tunnel.
//
// body gives what Length says; nil when it is 0. It is read by another
// goroutine, which has ended when Do returns an error or the answer's Body is
// closed; it goes on while the answer streams. If its Read can wait it should
// be an io.Closer: it is closed when an answer makes the rest of it pointless.
//
// 1xx answers go to req.Interim, in Do. res.Fields never has a field of a
// connection; Content-Length stays for HEAD and 304, elsewhere see res.Length.
// res.Body is nil when there is no body. res has to be closed, and its bytes
// are valid until then. res.Trailer is filled when Body has returned io.EOF.
//
// The error is a *fault.Error, except that a failure of body.Read that is one
// itself comes back as it is. Retry is true with ErrUnprocessed, and when
// a connection that had served before ended without a byte of an answer. When
// ctx ends the request is reset, and the connection goes on.
func (c *Conn) Do(ctx context.Context, req *msg.Request, body io.Reader, res *msg.Response) error {
	if body == nil && req.Length != 0 && len(req.Upgrade) == 0 {
		return &fault.Error{Op: "h2.do", Side: fault.Edge, Err: errReqBody}
	}
	if !writable(req) {
		return &fault.Error{Op: "h2.do", Side: fault.Edge, Kind: fault.Malformed, Err: errReqHead}
	}
	st := newStream(c, ctx, req, body)
	if err := c.begin(st); err != nil {
		st.kit.reset()
		c.l.Memory.kits.Put(st.kit)
		return err
	}
	c.flush()
	st.startSending()
	if err := st.awaitHead(res); err != nil {
		err = st.failure("h2.do", err)
		st.finish()
		res.Reset()
		return err
	}
	return nil
}

// begin numbers the stream and puts its head into out.
func (c *Conn) begin(st *stream) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	refused := c.refuse
	switch {
	case refused != nil:
	case len(c.streams) >= min(c.peer.streams, c.l.Streams):
		refused = errFull
	case len(st.req.Upgrade) > 0 && !c.peer.connect:
		refused = errors.Join(ErrHTTP11, ErrNoConnect)
	}
	if refused != nil {
		return &fault.Error{Op: "h2.begin", Side: fault.Origin, Kind: fault.Closed, Retry: true, Err: errors.Join(ErrUnprocessed, refused)}
	}
	if c.peer.list > 0 && listSize(st.req) > c.peer.list {
		return &fault.Error{Op: "h2.begin", Side: fault.Visitor, Kind: fault.TooLarge, Err: errListSize}
	}
	st.id, st.reused = c.next, c.served
	c.next += 2
	if c.next > frame.MaxStream-2 {
		c.refuse = errSpent
	}
	st.window = c.peer.window
	c.head = appendRequest(c.enc.Begin(c.head[:0]), &c.enc, st.req)
	st.sendDone = st.req.Length == 0 && len(st.req.Upgrade) == 0
	c.out = frame.AppendHeaders(c.out, st.id, c.head, c.peer.frame, st.sendDone)
	if len(c.streams) == 0 {
		c.begun = c.now()
	}
	c.streams[st.id] = st
	st.open = true
	if !c.watching {
		c.watching = true
		c.watch.Reset(c.l.PingAfter)
	}
	return nil
}

// Close ends the connection and all requests on it, and waits until nothing
// runs for it any more. It never fails.
func (c *Conn) Close() error {
	c.fail(errClosed, frame.NoError)
	c.work.Wait()
	return nil
}

// silent marks ends of a connection that the origin is not told of.
const silent frame.Code = 1 << 31

// fail ends the connection; code is what the origin is told, if it listens.
func (c *Conn) fail(why error, code frame.Code) {
	c.mu.Lock()
	if c.dead != nil {
		c.mu.Unlock()
		return
	}
	c.dead, c.refuse = why, why
	for _, st := range c.streams {
		st.end(why)
		st.open = false
	}
	clear(c.streams)
	c.watch.Stop()
	tell := code != silent && !c.writing
	c.writing = true // for good
	c.mu.Unlock()
	if tell && c.nc.SetWriteDeadline(time.Now().Add(100*time.Millisecond)) == nil {
		_, _ = c.nc.Write(frame.AppendGoAway(nil, 0, code, "")) // a courtesy
	}
	if tc, ok := c.nc.(*tls.Conn); ok {
		_ = tc.NetConn().Close() // first: nobody waits for a TLS goodbye
	}
	_ = c.nc.Close()
	c.settle()
}

// check runs while there are streams: an origin that is silent for too long is
// asked for a sign of life, and given up without one.
func (c *Conn) check() {
	c.mu.Lock()
	if c.dead != nil || len(c.streams) == 0 {
		c.watching = false
		c.mu.Unlock()
		return
	}
	c.work.Add(1) // dead is nil: Close does not wait yet
	defer c.work.Done()
	now := c.now()
	last := max(time.Duration(c.heard.Load()), c.begun)
	switch {
	case now-last < c.l.PingAfter:
		c.watch.Reset(last + c.l.PingAfter - now)
		c.mu.Unlock()
		return
	case c.pinged <= last:
		c.pinged = now
		c.out = frame.AppendPing(c.out, false, [8]byte{'s', 'e', 'l', 'v', 'a', 'g', 'e'})
		c.watch.Reset(c.l.PingTimeout)
		c.mu.Unlock()
		c.flush()
		return
	case now-c.pinged < c.l.PingTimeout:
		c.watch.Reset(c.pinged + c.l.PingTimeout - now)
		c.mu.Unlock()
		return
	}
	c.mu.Unlock()
	c.fail(errSilent, silent)
}
