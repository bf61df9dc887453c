package h2

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/selvage-edge/selvage/fault"
	"github.com/selvage-edge/selvage/internal/clock"
	"github.com/selvage-edge/selvage/wire/h2/frame"
	"github.com/selvage-edge/selvage/wire/h2/hpack"
	"github.com/selvage-edge/selvage/wire/head"
	"github.com/selvage-edge/selvage/wire/msg"
)

// firstWindow is what both sides may send before anything is said (RFC 9113 §6.9.2).
const firstWindow = frame.InitialWindow

// conn is a visitor's connection. The goroutine in serve, its loop, reads.
type conn struct {
	s   *Server
	nc  net.Conn
	mc  *msg.Conn
	dl  clock.Deadlines
	tls bool

	// Owned by the loop.
	buf       *[]byte // of pools.small or pools.big; nil = tiny
	tiny      [64]byte
	r, w      int
	dec       hpack.Decoder
	greeted   bool   // the preface and the first SETTINGS have come
	prefaced  bool   // the preface has
	lastID    uint32 // highest stream of the visitor's
	block     []byte // of a section that goes on in CONTINUATION
	blockHead frame.Header
	blocks    int // frames of that section
	blockErr  *frame.Error
	trailer   hpack.Section
	startAt   time.Duration
	checkAt   time.Duration // when check is due
	partialAt time.Duration // since when a frame or section is incomplete, 0 = none is
	arrivedAt time.Duration // latest bytes
	busyAt    time.Duration // latest request
	spared    bool          // buffers were given back
	meters    [reasons]clock.Meter
	hot       *stream // the latest that was answered inline, with its session
	full      bool    // another request would be one too many
	much      bool    // so much waits to be written that nothing more is taken
	reason    Reason  // why the connection ends, where its error does not tell
	goneSaid  time.Duration
	early     []earlyPrio // of requests that have not come yet, the latest earlyMax
	earlyAt   int         // where the next one goes

	work sync.WaitGroup // goroutines that serve

	mu        sync.Mutex // guards what follows
	ids       []uint32   // of streams, in the same order
	streams   []*stream
	past      history
	free      []*stream // done, with their sessions
	done      []*stream // whose last byte is in out
	doneSpare []*stream
	orphans   int // cancelled streams that are still being served
	queue     queue
	out       []byte
	outBuf    *[]byte
	writing   bool // somebody writes, and will write what comes meanwhile
	room      sync.Cond
	dead      error  // nothing can be written any more
	endSoon   bool   // the connection is to end when all that is asked for is answered
	lastTaken uint32 // no request beyond it is taken
	window    int64  // how much DATA may be sent
	initial   int64  // of a stream's window
	maxFrame  int
	recv      int64 // how much DATA may come
	credited  int64 // read since the latest WINDOW_UPDATE
	all, seen int64 // bytes of DATA sent, and how many of them by the latest check
	answers   int   // frames sent that a well-behaved visitor may answer by PING or WINDOW_UPDATE
}

// earlyMax is how many PRIORITY_UPDATE are kept for requests that have not come yet.
const earlyMax = 16

type earlyPrio struct {
	id   uint32
	prio head.Priority
}

func newConn(s *Server, nc net.Conn, mc *msg.Conn) *conn {
	c := &conn{
		s: s, nc: nc, mc: mc, tls: mc.TLS != nil, dec: hpack.NewDecoder(),
		window: firstWindow, initial: firstWindow, maxFrame: frame.MinFrame, recv: firstWindow,
		lastTaken: frame.MaxStream,
	}
	c.dl.Conn, c.dl.Clock = nc, s.clock
	c.room.L = &c.mu
	c.startAt = s.clock.Now()
	c.arrivedAt, c.busyAt, c.checkAt, c.spared = c.startAt, c.startAt, c.startAt+tick, true
	return c
}

// cut is called by Drain, from outside.
func (c *conn) cut() {
	c.dl.Cut()
	_ = rawConn(c.nc).Close() // whatever it says, the connection is done with
}

// rawConn is what nc runs over: closing that does not wait for TLS's farewell.
func rawConn(nc net.Conn) net.Conn {
	if t, ok := nc.(*tls.Conn); ok {
		return t.NetConn()
	}
	return nc
}

func (c *conn) serve() {
	c.greet()
	err := c.weak()
	for err == nil {
		err = c.turn()
	}
	c.end(err)
}

// greet says how much we take. It leaves with the first answer: a visitor
// speaks first.
func (c *conn) greet() {
	l := &c.s.l
	c.mu.Lock()
	defer c.mu.Unlock()
	c.openOut()
	c.out = frame.AppendSettings(c.out,
		frame.Param{Name: frame.MaxConcurrentStreams, Value: uint32(l.Streams)},
		frame.Param{Name: frame.InitialWindowSize, Value: uint32(l.Window)},
		frame.Param{Name: frame.MaxHeaderListSize, Value: uint32(l.Head)},
		frame.Param{Name: frame.EnableConnect, Value: 1},
		frame.Param{Name: frame.NoPriorities, Value: 1},
	)
	if more := int64(l.Windows) - c.recv; more > 0 {
		c.out = frame.AppendWindowUpdate(c.out, 0, uint32(more))
		c.recv += more
	}
}

// weak refuses what HTTP/2 forbids of TLS 1.2: everything but AEAD ciphers with
// ephemeral keys (RFC 9113 §9.2.2).
func (c *conn) weak() error {
	if c.mc.TLS == nil || c.mc.TLS.Version != tls.VersionTLS12 {
		return nil
	}
	switch c.mc.TLS.CipherSuite {
	case tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
		tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256:
		return nil
	}
	return frame.ConnError(frame.InadequateSecurity, "cipher suite not allowed for HTTP/2")
}

// turn takes what one read brings and sends what became of it. Its error is
// the end: *frame.Error where the visitor is to be told why.
func (c *conn) turn() error {
	if err := c.read(); err != nil {
		return err
	}
	if err := c.frames(); err != nil {
		return err
	}
	return c.settle()
}

// frames takes all whole frames of the buffer.
func (c *conn) frames() error {
	for {
		p := c.held()
		if !c.prefaced {
			ok, err := c.preface(p)
			if err != nil || !ok {
				return err
			}
			continue
		}
		if len(p) < frame.HeaderLen {
			break
		}
		h := frame.Parse(p)
		if h.Length > frame.MinFrame {
			return frame.ConnError(frame.FrameSizeError, "frame larger than allowed")
		}
		if n := frame.HeaderLen + int(h.Length); len(p) >= n {
			c.r += n
			if err := c.frame(h, p[frame.HeaderLen:n]); err != nil {
				return err
			}
			if h.Type != frame.Headers {
				c.noteMuch()
			}
			if c.much {
				if err := c.settle(); err != nil {
					return err
				}
			}
			continue
		}
		break
	}
	c.notePartial()
	return nil
}

// held is what was read and not yet used.
func (c *conn) held() []byte {
	if c.buf == nil {
		return c.tiny[c.r:c.w]
	}
	return (*c.buf)[c.r:c.w]
}

var errPreface = errors.New("h2: the visitor does not speak HTTP/2")

func (c *conn) preface(p []byte) (whole bool, err error) {
	n := min(len(p), len(frame.Preface))
	if string(p[:n]) != frame.Preface[:n] {
		return false, errPreface
	}
	if n < len(frame.Preface) {
		return false, nil
	}
	c.r += n
	c.prefaced = true
	return true, nil
}

// notePartial remembers since when something incomplete is waited for.
func (c *conn) notePartial() {
	switch {
	case c.r == c.w && c.blockHead.Stream == 0:
		c.partialAt = 0
	case c.partialAt == 0:
		c.partialAt = max(c.s.clock.Now(), 1)
	}
}

// makeRoom makes room behind what is held, and for a whole frame.
func (c *conn) makeRoom() []byte {
	if c.spared && c.r == c.w {
		c.r, c.w = 0, 0
		return c.tiny[:]
	}
	p := c.held()
	switch {
	case c.buf == nil:
		b := c.s.pools.small.Get().(*[]byte)
		copy(*b, p)
		c.buf = b
	case len(p) == 0 && len(*c.buf) == bigRead && !c.uploading():
		c.s.pools.big.Put(c.buf)
		c.buf = c.s.pools.small.Get().(*[]byte)
	case c.needs(p) > len(*c.buf):
		b := c.s.pools.big.Get().(*[]byte)
		copy(*b, p)
		c.s.pools.small.Put(c.buf)
		c.buf = b
	case c.r > 0:
		copy(*c.buf, p)
	}
	c.r, c.w = 0, len(p)
	return (*c.buf)[c.w:]
}

// needs is how large a buffer has to be for the frame that begins p.
func (c *conn) needs(p []byte) int {
	if !c.prefaced || len(p) < frame.HeaderLen {
		return 0
	}
	return frame.HeaderLen + int(frame.Parse(p).Length)
}

// uploading reports that the latest read filled its buffer: more is coming.
func (c *conn) uploading() bool { return c.w > smallRead }

// tick is how often a connection looks after what it waits for.
const tick = time.Second

// read waits for bytes. It looks after time-outs meanwhile.
func (c *conn) read() error {
	for {
		now := c.s.clock.Now()
		if now >= c.checkAt || c.s.conns.Draining() && c.goneSaid == 0 {
			if err := c.check(now); err != nil {
				return err
			}
			if err := c.settle(); err != nil {
				return err
			}
		}
		p := c.makeRoom()
		want, slack := now+tick, tick/2
		if c.spared && c.greeted {
			want, slack = c.busyAt+c.s.l.IdleTimeout, 0
		}
		n, err := 0, c.armRead(want, slack)
		if err == nil {
			n, err = c.nc.Read(p)
		}
		c.w += n
		if n > 0 {
			c.arrivedAt = c.s.clock.Now()
			return c.unspare()
		}
		if err == nil {
			continue
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
		if c.dl.Gone() {
			return errGone
		}
		c.checkAt = 0
	}
}

// armRead fails once after each Hold: the loop has something to look at.
func (c *conn) armRead(want, early time.Duration) error {
	err := c.dl.ArmReadUntil(want, early)
	if err != nil {
		c.dl.Free()
	}
	return err
}

// unspare takes a buffer for what has come into tiny, and what else has come:
// TLS has decrypted more than fits there.
func (c *conn) unspare() error {
	if !c.spared {
		return nil
	}
	c.spared = false
	b := c.s.pools.small.Get().(*[]byte)
	copy(*b, c.tiny[c.r:c.w])
	c.buf, c.r, c.w = b, 0, c.w-c.r
	if c.w < len(c.tiny) {
		return nil
	}
	if err := c.armRead(0, 0); err != nil {
		c.checkAt = 0 // somebody wants the loop's attention
		return nil
	}
	n, err := c.nc.Read((*b)[c.w:])
	if c.w += n; err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	return nil
}

// spare gives back what a connection without a request does not need.
func (c *conn) spare() {
	c.spared = true
	if c.buf != nil {
		c.putBuf()
	}
	c.block = nil
	c.trailer = hpack.Section{}
	c.mu.Lock()
	free := c.free
	if c.hot != nil {
		free = append(free, c.hot)
		c.hot = nil
	}
	c.free, c.done, c.doneSpare, c.queue = nil, nil, nil, queue{}
	c.ids, c.streams = nil, nil
	c.mu.Unlock()
	for _, st := range free {
		c.close(st)
	}
}

func (c *conn) putBuf() {
	pool := c.s.pools.small
	if len(*c.buf) == bigRead {
		pool = c.s.pools.big
	}
	pool.Put(c.buf)
	c.buf, c.r, c.w = nil, 0, 0
}

// end tells the visitor why, ends all streams, waits for who serves them and
// closes the connection.
func (c *conn) end(err error) {
	c.mu.Lock()
	told := false
	if fe, ok := errors.AsType[*frame.Error](err); ok && c.dead == nil {
		told = true
		c.openOut()
		c.out = frame.AppendGoAway(c.out, min(c.lastID, c.lastTaken), fe.Code, fe.Reason)
	}
	c.mu.Unlock()
	c.s.count.end(c.reasonOf(err))
	if told {
		c.flushAll()
		c.linger()
	}
	c.bury(visitorFault("h2.conn", kindOf(err), err))
	if !told {
		_ = rawConn(c.nc).Close() // no farewell to one who has left or broke the rules of TLS
	}
	_ = c.nc.Close() // whatever it says, the connection is done with
	c.work.Wait()
	c.flushAll() // finishes what was not: nothing is written any more
	c.mu.Lock()
	free := c.free
	if c.hot != nil {
		free = append(free, c.hot)
	}
	c.free = nil
	c.mu.Unlock()
	for _, st := range free {
		c.close(st)
	}
	if c.buf != nil {
		c.putBuf()
	}
}

// bury ends all streams.
func (c *conn) bury(why error) {
	var tell []func()
	c.mu.Lock()
	if c.dead == nil {
		c.dead = why
	}
	for len(c.streams) > 0 {
		tell = append(tell, c.cancel(c.streams[0], byUs, why))
	}
	c.room.Broadcast()
	c.mu.Unlock()
	for _, f := range tell {
		f()
	}
}

const (
	lingerTime  = time.Second
	lingerBytes = 256 << 10
)

// linger reads away what the visitor still sends, so that a reset does not
// overtake the GOAWAY.
func (c *conn) linger() {
	half, ok := c.nc.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	var away [512]byte
	until := c.s.clock.Now() + lingerTime
	for seen := 0; seen < lingerBytes; {
		if c.s.clock.Now() >= until || c.armRead(until, 0) != nil {
			return
		}
		n, err := c.nc.Read(away[:])
		if err != nil {
			return
		}
		seen += n
	}
}

func kindOf(err error) fault.Kind {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fault.Timeout
	case errors.Is(err, io.EOF), errors.Is(err, errGone):
		return fault.Closed
	}
	if fe, ok := errors.AsType[*frame.Error](err); ok && fe.Code != frame.NoError {
		return fault.Malformed
	}
	return fault.Closed
}

// reasonOf names why a connection ended, for the counters.
func (c *conn) reasonOf(err error) Reason {
	if c.reason != None {
		return c.reason
	}
	if errors.Is(err, errPreface) {
		return Protocol
	}
	fe, ok := errors.AsType[*frame.Error](err)
	if !ok {
		return None
	}
	switch fe.Code {
	case frame.NoError:
		return None
	case frame.CompressionError:
		return Compression
	case frame.FlowControlError:
		return Flow
	}
	return Protocol
}
