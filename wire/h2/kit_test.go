package h2

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/selvage-edge/selvage/wire/h2/frame"
	"github.com/selvage-edge/selvage/wire/msg"
)

// memPipe is one direction of an in-memory connection with a window.
type memPipe struct {
	mu     sync.Mutex
	buf    []byte
	window int
	ended  bool // by the writer
	broken bool // by the reader
	change chan struct{}
	rd, wd time.Time
}

func (p *memPipe) signal() { close(p.change); p.change = make(chan struct{}) }

// wait is called with mu held and returns with it held.
func (p *memPipe) wait(deadline time.Time) error {
	ch := p.change
	p.mu.Unlock()
	defer p.mu.Lock()
	var fire <-chan time.Time
	if !deadline.IsZero() {
		d := time.Until(deadline)
		if d <= 0 {
			return os.ErrDeadlineExceeded
		}
		t := time.NewTimer(d)
		defer t.Stop()
		fire = t.C
	}
	select {
	case <-ch:
	case <-fire:
	}
	return nil
}

func (p *memPipe) read(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		if !p.rd.IsZero() && time.Until(p.rd) <= 0 {
			return 0, os.ErrDeadlineExceeded
		}
		switch {
		case p.broken:
			return 0, net.ErrClosed
		case len(p.buf) > 0:
			n := copy(b, p.buf)
			p.buf = p.buf[n:]
			p.signal()
			return n, nil
		case p.ended:
			return 0, io.EOF
		}
		if err := p.wait(p.rd); err != nil {
			return 0, err
		}
	}
}

func (p *memPipe) write(b []byte) (n int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		if !p.wd.IsZero() && time.Until(p.wd) <= 0 {
			return n, os.ErrDeadlineExceeded
		}
		switch {
		case p.broken || p.ended:
			return n, net.ErrClosed
		case len(p.buf) < p.window:
			k := min(len(b)-n, p.window-len(p.buf))
			p.buf = append(p.buf, b[n:n+k]...)
			n += k
			p.signal()
			if n == len(b) {
				return n, nil
			}
			continue
		}
		if err := p.wait(p.wd); err != nil {
			return n, err
		}
	}
}

func (p *memPipe) set(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
	p.signal()
}

// memConn is one end of an in-memory connection that can be half-closed.
type memConn struct{ in, out *memPipe }

func memConns(window int) (a, b *memConn) {
	x := &memPipe{window: window, change: make(chan struct{})}
	y := &memPipe{window: window, change: make(chan struct{})}
	return &memConn{x, y}, &memConn{y, x}
}

func (c *memConn) Read(b []byte) (int, error)  { return c.in.read(b) }
func (c *memConn) Write(b []byte) (int, error) { return c.out.write(b) }
func (c *memConn) CloseWrite() error           { c.out.set(func() { c.out.ended = true }); return nil }
func (c *memConn) Close() error {
	c.out.set(func() { c.out.ended = true })
	c.in.set(func() { c.in.broken = true })
	return nil
}
func (c *memConn) LocalAddr() net.Addr                { return &net.TCPAddr{} }
func (c *memConn) RemoteAddr() net.Addr               { return &net.TCPAddr{} }
func (c *memConn) SetReadDeadline(t time.Time) error  { c.in.set(func() { c.in.rd = t }); return nil }
func (c *memConn) SetWriteDeadline(t time.Time) error { c.out.set(func() { c.out.wd = t }); return nil }
func (c *memConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// site answers with a function and keeps what it was told.
type site struct {
	serve func(*msg.Request, *msg.Response)

	mu      sync.Mutex
	log     []string // one line per call
	served  int
	refused int
	lastErr error
	lastN   int64
}

func (s *site) Open(*msg.Conn) msg.Session { return s }

func (s *site) Serve(req *msg.Request, res *msg.Response) {
	s.note("serve " + string(req.MethodText) + " " + string(req.Target))
	s.mu.Lock()
	s.served++
	s.mu.Unlock()
	s.serve(req, res)
}

func (s *site) Done(_ *msg.Request, _ *msg.Response, sent int64, err error) {
	s.note("done")
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lastErr, s.lastN = err, sent
}

func (s *site) Refused(status int, reason error) {
	s.note("refused")
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refused, s.lastErr = status, reason
}

func (s *site) Close() { s.note("close") }

func (s *site) note(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log = append(s.log, line)
}

func (s *site) calls() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.log, "\n")
}

// describe answers with what the handler saw of the request.
func describe(req *msg.Request, res *msg.Response) {
	var b bytes.Buffer
	b.WriteString(string(req.MethodText) + " " + string(req.Target) + " @" + string(req.Authority))
	for _, f := range req.Fields.All() {
		b.WriteString("|" + string(f.Name) + "=" + string(f.Value))
	}
	if req.Body != nil {
		body, err := io.ReadAll(req.Body)
		b.WriteString("|body=" + string(body))
		if err != nil {
			b.WriteString("|error")
		}
		for _, f := range req.Trailer.All() {
			b.WriteString("|trailer " + string(f.Name) + "=" + string(f.Value))
		}
	}
	res.Status, res.Bytes = 200, b.Bytes()
}

// start serves one in-memory connection and returns the visitor's end.
func start(t testing.TB, s *Server, window int) (visitor *memConn, ended <-chan struct{}) {
	t.Helper()
	a, b := memConns(window)
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.ServeConn(b, new(msg.Conn))
	}()
	t.Cleanup(func() {
		_ = a.Close()
		<-done
	})
	return a, done
}

// stepper is a site whose Step answers what step says is done.
type stepper struct {
	*site
	step func(*msg.Request, *msg.Response) bool
}

func (s stepper) Open(*msg.Conn) msg.Session { return s }

func (s stepper) Step(req *msg.Request, res *msg.Response) bool {
	if !s.step(req, res) {
		return false
	}
	s.note("step " + string(req.MethodText) + " " + string(req.Target))
	return true
}

// inline is a stepper that answers everything without waiting.
func inline(serve func(*msg.Request, *msg.Response)) stepper {
	return stepper{&site{serve: serve}, func(req *msg.Request, res *msg.Response) bool { serve(req, res); return true }}
}

// peer speaks frames by hand, with golang.org/x/net's framer.
type peer struct {
	t     testing.TB
	nc    *memConn
	ended <-chan struct{}
	fr    *http2.Framer
	block bytes.Buffer
	enc   *hpack.Encoder
}

// dial starts a server and a peer that has greeted it.
func dial(t testing.TB, h msg.Handler, l Limits) *peer { return dialServer(t, NewServer(h, l), 1<<20) }

func dialServer(t testing.TB, s *Server, window int) *peer {
	t.Helper()
	p := bare(t, s, window)
	p.send(func() error { _, err := p.nc.Write([]byte(frame.Preface)); return err })
	p.send(func() error { return p.fr.WriteSettings() })
	return p
}

// bare has not greeted.
func bare(t testing.TB, s *Server, window int) *peer {
	t.Helper()
	nc, ended := start(t, s, window)
	p := newPeer(t, nc)
	p.ended = ended
	return p
}

func newPeer(t testing.TB, nc *memConn) *peer {
	p := &peer{t: t, nc: nc}
	p.fr = http2.NewFramer(p.nc, p.nc)
	p.fr.AllowIllegalWrites, p.fr.AllowIllegalReads = true, true
	p.fr.ReadMetaHeaders = nil
	p.enc = hpack.NewEncoder(&p.block)
	return p
}

func (p *peer) send(f func() error) {
	p.t.Helper()
	if err := f(); err != nil {
		p.t.Fatal(err)
	}
}

// lines codes field lines: name, value, name, value.
func (p *peer) lines(nv ...string) []byte {
	p.block.Reset()
	for i := 0; i < len(nv); i += 2 {
		_ = p.enc.WriteField(hpack.HeaderField{Name: nv[i], Value: nv[i+1]})
	}
	return bytes.Clone(p.block.Bytes())
}

func get(path string, more ...string) []string {
	return append([]string{":method", "GET", ":scheme", "https", ":authority", "a.test", ":path", path}, more...)
}

func post(path string, more ...string) []string {
	return append([]string{":method", "POST", ":scheme", "https", ":authority", "a.test", ":path", path}, more...)
}

func (p *peer) headers(id uint32, end bool, nv ...string) {
	p.t.Helper()
	p.send(func() error {
		return p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: p.lines(nv...), EndHeaders: true, EndStream: end})
	})
}

func (p *peer) data(id uint32, end bool, text string) {
	p.t.Helper()
	p.send(func() error { return p.fr.WriteData(id, end, []byte(text)) })
}

// next reads frames up to one that is neither SETTINGS nor WINDOW_UPDATE and
// describes it; "end" when the connection has ended.
func (p *peer) next() string {
	p.t.Helper()
	for {
		f, err := p.fr.ReadFrame()
		if err != nil {
			return "end"
		}
		switch f := f.(type) {
		case *http2.SettingsFrame, *http2.WindowUpdateFrame:
			continue
		case *http2.HeadersFrame:
			fields, err := hpack.NewDecoder(4096, nil).DecodeFull(f.HeaderBlockFragment())
			if err != nil {
				p.t.Fatal(err)
			}
			return fmt.Sprintf("HEADERS %d %s%s", f.StreamID, fields[0].Value, ended(f.StreamEnded()))
		case *http2.DataFrame:
			return fmt.Sprintf("DATA %d %d%s", f.StreamID, len(f.Data()), ended(f.StreamEnded()))
		case *http2.RSTStreamFrame:
			return fmt.Sprintf("RST_STREAM %d %s", f.StreamID, f.ErrCode)
		case *http2.GoAwayFrame:
			return fmt.Sprintf("GOAWAY %d %s", f.LastStreamID, f.ErrCode)
		case *http2.PingFrame:
			return fmt.Sprintf("PING %v", f.IsAck())
		default:
			return f.Header().String()
		}
	}
}

func ended(end bool) string {
	if end {
		return " end"
	}
	return ""
}

// want compares the next frames with what is expected, in order.
func (p *peer) want(frames ...string) {
	p.t.Helper()
	for _, w := range frames {
		if got := p.next(); got != w {
			p.t.Errorf("got frame %q, want %q", got, w)
		}
	}
}

// last reads to the end and returns the last frame before it.
func (p *peer) last() string {
	p.t.Helper()
	before := "nothing"
	for {
		got := p.next()
		if got == "end" {
			return before
		}
		before = got
	}
}
