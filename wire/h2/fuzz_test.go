package h2

import (
	"bytes"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/selvage-edge/selvage/wire/h2/frame"
	"github.com/selvage-edge/selvage/wire/msg"
	"github.com/selvage-edge/selvage/wire/msg/msgtest"
)

// script is a connection on which one visitor says all of in, piece bytes at a time.
type script struct {
	in    []byte
	piece int
	mu    sync.Mutex
	out   bytes.Buffer
}

func (s *script) Read(p []byte) (int, error) {
	if len(s.in) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), s.piece)], s.in)
	s.in = s.in[n:]
	return n, nil
}

func (s *script) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.out.Write(p)
}
func (*script) Close() error                     { return nil }
func (*script) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (*script) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (*script) SetDeadline(time.Time) error      { return nil }
func (*script) SetReadDeadline(time.Time) error  { return nil }
func (*script) SetWriteDeadline(time.Time) error { return nil }

// FuzzServer feeds bytes to a connection: whatever comes, each Serve has one
// Done, no request with a line break reaches a session, what is written is
// frames, and it ends.
func FuzzServer(f *testing.F) {
	seed := func(write func(fr *http2.Framer, lines func(nv ...string) []byte)) {
		var b, block bytes.Buffer
		b.WriteString(frame.Preface)
		fr, enc := http2.NewFramer(&b, nil), hpack.NewEncoder(&block)
		fr.AllowIllegalWrites = true
		_ = fr.WriteSettings()
		write(fr, func(nv ...string) []byte {
			block.Reset()
			for i := 0; i < len(nv); i += 2 {
				_ = enc.WriteField(hpack.HeaderField{Name: nv[i], Value: nv[i+1]})
			}
			return block.Bytes()
		})
		f.Add(b.Bytes(), uint16(7))
		f.Add(b.Bytes(), uint16(10000))
	}
	head := func(id uint32, block []byte, end, whole bool) http2.HeadersFrameParam {
		return http2.HeadersFrameParam{StreamID: id, BlockFragment: block, EndStream: end, EndHeaders: whole}
	}
	seed(func(fr *http2.Framer, lines func(...string) []byte) {
		_ = fr.WriteHeaders(head(1, lines(get("/")...), true, true))
		_ = fr.WriteHeaders(head(3, lines(get("/big", "priority", "u=1, i")...), true, true))
		_ = fr.WriteWindowUpdate(0, 1<<20)
		_ = fr.WriteWindowUpdate(3, 1<<20)
		_ = fr.WriteRSTStream(3, http2.ErrCodeCancel)
	})
	seed(func(fr *http2.Framer, lines func(...string) []byte) {
		_ = fr.WriteHeaders(head(1, lines(post("/", "content-length", "5", "expect", "100-continue")...), false, false))
		_ = fr.WriteContinuation(1, true, lines("cookie", "a=b", "cookie", "c=d"))
		_ = fr.WriteDataPadded(1, false, []byte("he"), make([]byte, 9))
		_ = fr.WriteData(1, false, []byte("llo"))
		_ = fr.WriteHeaders(head(1, lines("x-trailer", "y"), true, true))
		_ = fr.WritePing(false, [8]byte{1})
	})
	seed(func(fr *http2.Framer, lines func(...string) []byte) {
		_ = fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0}, http2.Setting{ID: http2.SettingMaxFrameSize, Val: 1 << 20})
		_ = fr.WriteHeaders(head(1, lines(":method", "CONNECT", ":protocol", "websocket", ":scheme", "https", ":authority", "a.test", ":path", "/"), false, true))
		_ = fr.WriteData(1, true, []byte("x"))
		_ = fr.WriteRawFrame(http2.FrameType(0x10), 0, 0, []byte("\x00\x00\x00\x01u=1"))
		_ = fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20})
	})
	f.Fuzz(func(t *testing.T, in []byte, piece uint16) {
		h := &judge{t: t}
		c := &script{in: in, piece: int(piece) + 1}
		NewServer(h, Limits{Streams: 8, Head: 2000, Window: 1 << 14, Windows: 1 << 16, Body: 1000}).ServeConn(c, new(msg.Conn))
		if h.begun != h.done || h.opened != h.closed {
			t.Errorf("%d begun, %d done; %d opened, %d closed", h.begun, h.done, h.opened, h.closed)
		}
		checkFrames(t, c.out.Bytes())
	})
}

// checkFrames wants whole frames, and blocks that can be decoded.
func checkFrames(t *testing.T, out []byte) {
	t.Helper()
	for len(out) > 0 {
		if len(out) < frame.HeaderLen {
			t.Fatalf("%d bytes of a frame's head", len(out))
		}
		h := frame.Parse(out)
		n := frame.HeaderLen + int(h.Length)
		if n > len(out) || h.Length > frame.MinFrame && h.Type != frame.Data {
			t.Fatalf("frame of %d bytes, %d are there", n, len(out))
		}
		if h.Type == frame.Headers && h.Flags.Has(frame.EndHeaders) {
			if _, err := hpack.NewDecoder(0, nil).DecodeFull(out[frame.HeaderLen:n]); err != nil {
				t.Fatalf("block: %v", err)
			}
		}
		out = out[n:]
	}
}

// judge is a handler that looks at what reaches it and answers in each way.
type judge struct {
	t                           *testing.T
	mu                          sync.Mutex
	opened, closed, begun, done int
}

func (j *judge) count(n *int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	*n++
}

func (j *judge) Open(*msg.Conn) msg.Session {
	j.count(&j.opened)
	return judging{j}
}

type judging struct{ *judge }

func (j judging) Step(req *msg.Request, res *msg.Response) bool {
	if req.Body != nil || len(req.Path) > 1 && req.Path[1] == 'w' {
		return false
	}
	j.Serve(req, res)
	return true
}

func (j judging) Serve(req *msg.Request, res *msg.Response) {
	j.count(&j.begun)
	all := string(req.MethodText) + string(req.Target) + string(req.Authority)
	for _, l := range req.Fields.All() {
		all += string(l.Name) + string(l.Value)
	}
	if strings.ContainsAny(all, "\r\n\x00") || req.Fields.Count(msg.Host) != 1 || req.Path == nil {
		j.t.Errorf("request %q", all)
	}
	switch {
	case req.Upgrade != nil:
		near, far := msgtest.Conns(100)
		_ = far.Close()
		res.Status, res.Tunnel = 101, near
	case req.Body != nil:
		res.Status, res.Length, res.Body, res.Trailer = 200, msg.LengthUnknown, req.Body, &req.Trailer
	default:
		res.Status, res.Bytes = 200, make([]byte, 100*len(req.Path))
	}
}

func (j judging) Done(*msg.Request, *msg.Response, int64, error) { j.count(&j.done) }
func (judging) Refused(int, error)                               {}
func (j judging) Close()                                         { j.count(&j.closed) }
