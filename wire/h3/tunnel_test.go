package h3

import (
	"bufio"
	"io"
	"net"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/selvage-edge/selvage/wire/msg"
)

// connect is the HEADERS frame of an extended CONNECT.
func connect(more ...string) string {
	return frame(frameHeaders, section(append([]string{":method", "CONNECT", ":protocol", "websocket", ":scheme", "https", ":authority", "h3.test", ":path", "/chat"}, more...)...))
}

// readHead reads the HEADERS frame of an answer.
func readHead(t *testing.T, st *quic.Stream) (*bufio.Reader, map[string]string) {
	t.Helper()
	r := bufio.NewReader(st)
	f, err := r.Peek(5)
	if err != nil {
		t.Fatal(err)
	}
	_, length, n := readFrame(f)
	whole, err := r.Peek(n + int(length))
	if err != nil {
		t.Fatal(err)
	}
	fields := map[string]string{}
	lines, err := readSection(whole[n:])
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range lines {
		fields[l[0]] = l[1]
	}
	if _, err := r.Discard(len(whole)); err != nil {
		t.Fatal(err)
	}
	return r, fields
}

// readPayload reads the payload of one DATA frame.
func readPayload(t *testing.T, r *bufio.Reader) string {
	t.Helper()
	f, err := r.Peek(5)
	if err != nil {
		t.Fatal(err)
	}
	kind, length, n := readFrame(f)
	if kind != frameData {
		t.Fatalf("frame of type %d", kind)
	}
	p := make([]byte, n+int(length))
	if _, err := io.ReadFull(r, p); err != nil {
		t.Fatal(err)
	}
	return string(p[n:])
}

func TestExtendedConnect(t *testing.T) {
	near, far := net.Pipe()
	h := &handler{serve: func(req *msg.Request, res *msg.Response) {
		if req.Method != msg.GET || string(req.Upgrade) != "websocket" || string(req.Path) != "/chat" || req.Body != nil {
			t.Errorf("%+v", req)
		}
		res.Status, res.Tunnel = 101, near
		res.Fields.AddID(msg.Upgrade, []byte("websocket"))
		res.Fields.AddID(msg.SecWebSocketAccept, []byte("x"))
	}}
	r := start(t, h, Limits{})
	p := r.peer(t)
	st := p.request(connect("sec-websocket-version", "13") + frame(frameData, "early "))
	in, fields := readHead(t, st)
	if fields[":status"] != "200" || fields["upgrade"] != "" || fields["sec-websocket-accept"] != "" || fields["content-length"] != "" {
		t.Errorf("%v", fields)
	}
	if _, err := st.Write([]byte(frame(0x21, "grease") + frame(frameData, "hello"))); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len("early hello"))
	if _, err := io.ReadFull(far, got); err != nil || string(got) != "early hello" {
		t.Errorf("%q %v", got, err)
	}
	if _, err := far.Write([]byte("welcome")); err != nil {
		t.Fatal(err)
	}
	if got := readPayload(t, in); got != "welcome" {
		t.Errorf("%q", got)
	}
	_ = far.Close()
	if _, err := in.ReadByte(); err != io.EOF {
		t.Errorf("after the far end's: %v", err)
	}
	_ = st.Close()
	until(t, func() bool { return len(h.results()) == 1 })
	if done := h.results(); done[0].sent != int64(len("welcome")) {
		t.Errorf("%+v", done)
	}
}

func TestTunnelEndsWithTheVisitor(t *testing.T) {
	for name, leave := range map[string]func(*quic.Stream){
		"end":       func(st *quic.Stream) { _ = st.Close() },
		"reset":     func(st *quic.Stream) { st.CancelWrite(0x10c); st.CancelRead(0x10c) },
		"bad frame": func(st *quic.Stream) { _, _ = st.Write([]byte(frame(frameHeaders, section("a", "b")))) },
	} {
		near, far := net.Pipe()
		h := &handler{serve: func(_ *msg.Request, res *msg.Response) { res.Status, res.Tunnel = 101, near }}
		st := start(t, h, Limits{}).peer(t).request(connect())
		readHead(t, st)
		leave(st)
		_ = far.SetReadDeadline(time.Now().Add(peerWait))
		if _, err := far.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("%s: the far end sees %v", name, err)
		}
		until(t, func() bool { return len(h.results()) == 1 })
	}
}

func TestQuietTunnelEnds(t *testing.T) {
	near, far := net.Pipe()
	h := &handler{serve: func(_ *msg.Request, res *msg.Response) { res.Status, res.Tunnel = 101, near }}
	p := start(t, h, Limits{IdleTimeout: 100 * time.Millisecond}).peer(t)
	p.request(connect())
	_ = far.SetReadDeadline(time.Now().Add(peerWait))
	if _, err := far.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the far end sees %v", err)
	}
}

func TestConnectThatIsRefused(t *testing.T) {
	h := &handler{serve: func(_ *msg.Request, res *msg.Response) { res.Status, res.Bytes = 403, []byte("no") }}
	st := start(t, h, Limits{}).peer(t).request(connect())
	if f, body := answer(t, st); f[":status"] != "403" || body != "no" {
		t.Errorf("%v %q", f, body)
	}
}
