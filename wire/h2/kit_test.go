package h2

import (
	"bytes"
	"fmt"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/selvage-edge/selvage/wire/h2/frame"
	"github.com/selvage-edge/selvage/wire/msg"
	"github.com/selvage-edge/selvage/wire/msg/msgtest"
)

// start serves one in-memory connection and returns the visitor's end.
func start(t testing.TB, s *Server, window int) (visitor *msgtest.Conn, ended <-chan struct{}) {
	t.Helper()
	return msgtest.Start(t, s.ServeConn, window)
}

// stepper is a site whose Step answers what step says is done.
type stepper struct {
	*msgtest.Site
	step func(*msg.Request, *msg.Response) bool
}

func (s stepper) Open(*msg.Conn) msg.Session { return s }

func (s stepper) Step(req *msg.Request, res *msg.Response) bool {
	if !s.step(req, res) {
		return false
	}
	s.Note("step " + string(req.MethodText) + " " + string(req.Target))
	return true
}

// inline is a stepper that answers everything without waiting.
func inline(serve func(*msg.Request, *msg.Response)) stepper {
	return stepper{&msgtest.Site{Answer: serve}, func(req *msg.Request, res *msg.Response) bool { serve(req, res); return true }}
}

// peer speaks frames by hand, with golang.org/x/net's framer.
type peer struct {
	t     testing.TB
	nc    *msgtest.Conn
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

func newPeer(t testing.TB, nc *msgtest.Conn) *peer {
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
