package h3

import (
	"io"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/selvage-edge/selvage/internal/clock"
	"github.com/selvage-edge/selvage/wire/msg"
)

func TestConnectionErrors(t *testing.T) {
	get := head3("GET", "/")
	for _, c := range []struct {
		name string
		uni  []string // on streams of their own
		req  string
		want code
	}{
		{"push stream", []string{"\x01\x00"}, "", codeStreamCreation},
		{"two control streams", []string{control(""), control("")}, "", codeStreamCreation},
		{"two encoder streams", []string{"\x02", "\x02"}, "", codeStreamCreation},
		{"two decoder streams", []string{"\x03", "\x03"}, "", codeStreamCreation},
		{"control stream without SETTINGS", []string{"\x00" + frame(frameGoAway, "\x00")}, "", codeMissingSettings},
		{"unknown frame before SETTINGS", []string{"\x00" + frame(0x21, "x") + frame(frameSettings, "")}, "", codeMissingSettings},
		{"SETTINGS twice", []string{control(frame(frameSettings, ""))}, "", codeFrameUnexpected},
		{"DATA on the control stream", []string{control(frame(frameData, "x"))}, "", codeFrameUnexpected},
		{"HEADERS on the control stream", []string{control(get)}, "", codeFrameUnexpected},
		{"PUSH_PROMISE on the control stream", []string{control(frame(framePushPromise, "\x00"))}, "", codeFrameUnexpected},
		{"frame of HTTP/2 on the control stream", []string{control(frame(0x2, "12345"))}, "", codeFrameUnexpected},
		{"setting twice", []string{"\x00" + frame(frameSettings, varints(0x21, 1, 0x21, 1))}, "", codeSettings},
		{"setting of HTTP/2", []string{"\x00" + frame(frameSettings, varints(2, 1))}, "", codeSettings},
		{"setting out of range", []string{"\x00" + frame(frameSettings, varints(settingConnect, 2))}, "", codeSettings},
		{"setting cut short", []string{"\x00" + frame(frameSettings, varints(settingSectionSize))}, "", codeFrame},
		{"SETTINGS without end", []string{"\x00\x04\x80\x10\x00\x00"}, "", codeExcessiveLoad},
		{"GOAWAY that grows", []string{control(frame(frameGoAway, "\x04") + frame(frameGoAway, "\x08"))}, "", codeID},
		{"GOAWAY of the wrong length", []string{control(frame(frameGoAway, "\x04\x04"))}, "", codeFrame},
		{"MAX_PUSH_ID that shrinks", []string{control(frame(frameMaxPushID, "\x08") + frame(frameMaxPushID, "\x04"))}, "", codeID},
		{"CANCEL_PUSH", []string{control(frame(frameCancelPush, "\x00"))}, "", codeID},
		{"priority of a push", []string{control(frame(framePriorityPush, "\x00u=1"))}, "", codeID},
		{"priority of no request", []string{control(frame(framePriorityRequest, "\x02u=1"))}, "", codeID},
		{"priority far ahead", []string{control(frame(framePriorityRequest, varints(1<<20)+"u=1"))}, "", codeID},
		{"insertion into the table", []string{"\x02\xc0\x01x"}, "", codeEncoderStream},
		{"capacity of the table", []string{"\x02\x3f\x01"}, "", codeEncoderStream},
		{"acknowledgement of a section", []string{"\x03\x84"}, "", codeDecoderStream},
		{"insert count", []string{"\x03\x01"}, "", codeDecoderStream},
		{"DATA before HEADERS", nil, frame(frameData, "x") + get, codeFrameUnexpected},
		{"SETTINGS on a request", nil, frame(frameSettings, "") + get, codeFrameUnexpected},
		{"SETTINGS behind HEADERS", nil, get + frame(frameSettings, ""), codeFrameUnexpected},
		{"PUSH_PROMISE on a request", nil, get + frame(framePushPromise, "\x00"), codeFrameUnexpected},
		{"GOAWAY on a request", nil, frame(frameGoAway, "\x00"), codeFrameUnexpected},
		{"PRIORITY_UPDATE on a request", nil, frame(framePriorityRequest, "\x00u=1"), codeFrameUnexpected},
		{"frame of HTTP/2 on a request", nil, frame(0x8, "1234"), codeFrameUnexpected},
		{"HEADERS cut short", nil, get[:len(get)-3], codeFrame},
		{"frame head cut short", nil, "\x40", codeFrame},
		{"reference to the dynamic table", nil, frame(frameHeaders, "\x02\x00\x80"), codeDecompression},
		{"bad Huffman code", nil, frame(frameHeaders, "\x00\x00\x51\x81\x00"), codeDecompression},
		{"third HEADERS", nil, head3("POST", "/") + frame(frameData, "x") + frame(frameHeaders, section("a", "b")) + frame(frameHeaders, section("a", "b")), codeFrameUnexpected},
		{"DATA behind trailers", nil, head3("POST", "/") + frame(frameHeaders, section("a", "b")) + frame(frameData, "x"), codeFrameUnexpected},
		{"DATA cut short", nil, head3("POST", "/") + "\x00\x05abc", codeFrame},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := &handler{serve: func(req *msg.Request, res *msg.Response) {
				if req.Body != nil {
					_, _ = io.Copy(io.Discard, req.Body)
				}
				res.Status = 200
			}}
			r := start(t, h, Limits{})
			p := r.peer(t)
			for _, text := range c.uni {
				p.uni(text)
			}
			if c.req != "" {
				p.whole(c.req)
			}
			if got := p.ended(); got != c.want {
				t.Errorf("ended with %#x, want %#x", got, c.want)
			}
		})
	}
}

func TestClosedCriticalStream(t *testing.T) {
	for kind, text := range map[int]string{streamControl: control(""), streamEncoder: "\x02", streamDecoder: "\x03"} {
		for name, how := range map[string]func(*quic.SendStream){
			"closed": func(st *quic.SendStream) { _ = st.Close() },
			"reset":  func(st *quic.SendStream) { st.CancelWrite(codeNone.stream()) },
		} {
			r := start(t, &handler{step: inline(hello)}, Limits{})
			p := r.peer(t)
			st := p.uni(text)
			until(t, func() bool { return r.sees(kind) })
			how(st)
			if got := p.ended(); got != codeClosedCritical && got != codeMissingSettings {
				t.Errorf("stream of type %d %s: ended with %#x", kind, name, got)
			}
		}
	}
}

// sees reports whether the one connection has a critical stream of a type.
func (r *running) sees(kind int) bool {
	seen := false
	r.conns.Each(func(c *conn) {
		c.mu.Lock()
		defer c.mu.Unlock()
		seen = c.kinds[kind]
	})
	return seen
}

// updated reports that a PRIORITY_UPDATE of the one connection has been taken.
func (r *running) updated() (yes bool) {
	r.conns.Each(func(c *conn) {
		c.mu.Lock()
		defer c.mu.Unlock()
		yes = c.updates != clock.Meter{}
	})
	return yes
}

func TestStreamErrors(t *testing.T) {
	post := head3("POST", "/", "content-length", "5")
	for _, c := range []struct {
		name, text string
		want       code
	}{
		{"no head", "", codeIncomplete},
		{"unknown frame alone", frame(0x21, "abc"), codeIncomplete},
		{"capital letter", frame(frameHeaders, "\x00\x00"+"\x23Abc\x01x"), codeMessage},
		{"no path", frame(frameHeaders, section(":method", "GET", ":scheme", "https", ":authority", "h3.test")), codeMessage},
		{"connection field", head3("GET", "/", "connection", "close"), codeMessage},
		{"length and nothing", post, codeMessage},
		{"less than its length", post + frame(frameData, "1234"), codeMessage},
		{"more than its length", post + frame(frameData, "123456"), codeMessage},
		{"length of nothing", head3("GET", "/", "content-length", "x"), codeMessage},
		{"pseudo-header in trailers", head3("POST", "/") + frame(frameData, "x") + frame(frameHeaders, section(":path", "/")), codeMessage},
		{"framing in trailers", head3("POST", "/") + frame(frameData, "x") + frame(frameHeaders, section("content-length", "1")), codeMessage},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := &handler{serve: func(req *msg.Request, res *msg.Response) {
				if req.Body != nil {
					if _, err := io.Copy(io.Discard, req.Body); err == nil {
						t.Error("a malformed body was read whole")
					}
				}
				res.Status = 200
			}}
			r := start(t, h, Limits{})
			p := r.peer(t)
			if got := reset(t, p.whole(c.text)); got != c.want {
				t.Errorf("reset with %#x, want %#x", got, c.want)
			}
			// The connection goes on.
			if f, _ := answer(t, p.whole(head3("GET", "/"))); f[":status"] != "200" {
				t.Errorf("the next request: %v", f)
			}
		})
	}
}

func TestRefusedWithAStatus(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"section too long", head3("GET", "/", "a", strings.Repeat("x", 2000)), "431"},
		{"section too long when decoded", frame(frameHeaders, "\x00\x00"+strings.Repeat("\xdd", 60)), "431"},
		{"frame too long", "\x01\x80\x10\x00\x00", "431"},
		{"too many lines", head3("GET", "/", strings.Fields(strings.Repeat("a b ", 20))...), "431"},
		{"body too large", head3("POST", "/", "content-length", "2000"), "413"},
		{"CONNECT", frame(frameHeaders, section(":method", "CONNECT", ":authority", "h3.test:443")), "501"},
		{"expectation", head3("POST", "/", "expect", "more"), "417"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := &handler{step: inline(hello), serve: hello}
			r := start(t, h, Limits{Head: 1024, Fields: 16, Body: 1000})
			p := r.peer(t)
			f, _ := answer(t, p.request(c.text))
			if f[":status"] != c.want {
				t.Errorf("status %q, want %s", f[":status"], c.want)
			}
			until(t, func() bool { return len(h.statuses()) == 1 }) // once, behind the answer
			if f, _ := answer(t, p.whole(head3("GET", "/"))); f[":status"] != "200" {
				t.Errorf("the next request: %v", f)
			}
		})
	}
}

func TestBodyBeyondItsBoundIsCut(t *testing.T) {
	h := &handler{serve: func(req *msg.Request, res *msg.Response) {
		if n, err := io.Copy(io.Discard, req.Body); err == nil {
			t.Errorf("%d bytes were read", n)
		}
		res.Status = 413
	}}
	p := start(t, h, Limits{Body: 1000}).peer(t)
	st := p.request(head3("POST", "/") + frame(frameData, strings.Repeat("x", 1001)))
	if f, _ := answer(t, st); f[":status"] != "413" {
		t.Errorf("%v", f)
	}
}

func TestUnknownIsIgnored(t *testing.T) {
	h := &handler{serve: func(req *msg.Request, res *msg.Response) {
		res.Status, res.Body, res.Length = 200, req.Body, msg.LengthUnknown
	}}
	p := start(t, h, Limits{}).peer(t)
	p.uni("\x21some grease")
	p.uni("\x40") // and one that never says what it is
	p.uni(control(frame(0x21, strings.Repeat("x", 5000)) + frame(frameMaxPushID, "\x08") + frame(framePriorityRequest, "\x00u=1") + frame(0x1f*9+0x21, "")))
	grease := frame(0x21, strings.Repeat("g", 3000))
	st := p.whole(grease + frame(0x40, "") + head3("POST", "/") + grease + frame(frameData, "he") + grease + frame(frameData, "") + frame(frameData, "llo") + grease + frame(frameHeaders, section("a", "b")) + grease)
	if f, body := answer(t, st); f[":status"] != "200" || body != "hello" {
		t.Errorf("%v %q", f, body)
	}
}

// A request in pieces, each in a packet of its own as far as that can be had.
func TestRequestByteByByte(t *testing.T) {
	h := &handler{step: func(req *msg.Request, res *msg.Response) bool { return false }, serve: func(req *msg.Request, res *msg.Response) {
		hello(req, res)
		if req.Body != nil {
			body, err := io.ReadAll(req.Body)
			if err != nil {
				t.Error(err)
			}
			res.Bytes = append(res.Bytes, body...)
		}
	}}
	r := start(t, h, Limits{})
	p := r.peer(t)
	text := frame(0x21, "gg") + head3("GET", "/x", "accept", "*/*") + frame(frameData, "bo") + frame(frameData, "dy")
	st := p.request(text[:1])
	for i := 1; i < len(text); i++ {
		if _, err := st.Write([]byte(text[i : i+1])); err != nil {
			t.Fatal(err)
		}
		if i%7 == 0 {
			answer(t, p.whole(head3("GET", "/"))) // let the byte be seen
		}
	}
	_ = st.Close()
	if f, body := answer(t, st); f[":status"] != "200" || body != "GET h3.test /x HTTP/3 httpsbody" {
		t.Errorf("%v %q", f, body)
	}
}

func TestFloodsEndTheConnection(t *testing.T) {
	for _, c := range []struct {
		name  string
		limit Limits
		flood func(*peer)
	}{
		{"unknown frames", Limits{Unknown: 50}, func(p *peer) { p.uni(control(strings.Repeat(frame(0x21, ""), 60))) }},
		{"unknown frames of a request", Limits{Unknown: 50}, func(p *peer) { p.whole(strings.Repeat(frame(0x21, ""), 60)) }},
		{"unknown frames of a body", Limits{Unknown: 50}, func(p *peer) { p.whole(head3("POST", "/") + strings.Repeat(frame(0x21, ""), 60)) }},
		{"capacities", Limits{Unknown: 50}, func(p *peer) { p.uni("\x02" + strings.Repeat("\x20", 60)) }},
		{"cancelled streams", Limits{Unknown: 50}, func(p *peer) { p.uni("\x03" + strings.Repeat("\x44", 60)) }},
		{"priorities", Limits{Updates: 50}, func(p *peer) { p.uni(control(strings.Repeat(frame(framePriorityRequest, "\x00u=1"), 60))) }},
		{"malformed requests", Limits{Resets: 10}, func(p *peer) {
			for range 11 {
				_, _ = io.ReadAll(p.whole(head3("GET", "/", "connection", "close"))) // the last may see the connection's end
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := &handler{serve: func(req *msg.Request, res *msg.Response) {
				if req.Body != nil {
					_, _ = io.Copy(io.Discard, req.Body)
				}
				res.Status = 200
			}}
			r := start(t, h, c.limit)
			p := r.peer(t)
			c.flood(p)
			if got := p.ended(); got != codeExcessiveLoad {
				t.Errorf("ended with %#x", got)
			}
			st := r.Stats()
			if st.Ended[UnknownFlood]+st.Ended[PriorityFlood]+st.Ended[ResetFlood] == 0 {
				t.Errorf("not counted: %+v", st.Ended)
			}
		})
	}
}

// Requests that are given up as soon as they are sent are counted, and at no
// time are more served than streams are allowed.
func TestRapidReset(t *testing.T) {
	gate := make(chan struct{})
	h := &handler{left: make(chan struct{}, 10_000), serve: func(_ *msg.Request, res *msg.Response) {
		<-gate
		res.Status = 200
	}}
	r := start(t, h, Limits{Streams: 8, Resets: 20})
	p := r.peer(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			st, err := p.qc.OpenStreamSync(p.qc.Context())
			if err != nil {
				return
			}
			if _, err := st.Write([]byte(head3("GET", "/"))); err != nil {
				return
			}
			_ = st.Close()
			st.CancelRead(quic.StreamErrorCode(codeRequestCancelled))
		}
	}()
	<-h.left // a session was told
	close(gate)
	if got := p.ended(); got != codeExcessiveLoad {
		t.Errorf("ended with %#x", got)
	}
	<-done
	if st := r.Stats(); st.Ended[ResetFlood] == 0 {
		t.Errorf("not counted: %+v", st.Ended)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.opened > 8+40 { // a session that was told is not used again
		t.Errorf("%d sessions", h.opened)
	}
}

func TestSlowSendersAreTimedOut(t *testing.T) {
	l := Limits{HeadTimeout: 50 * time.Millisecond, BodyTimeout: 50 * time.Millisecond}
	t.Run("head", func(t *testing.T) {
		r := start(t, &handler{serve: hello}, l)
		if f, _ := answer(t, r.peer(t).request("\x01\x20")); f[":status"] != "408" {
			t.Errorf("%v", f)
		}
		if st := r.Stats(); st.Ended[SlowHead] != 1 {
			t.Errorf("%+v", st.Ended)
		}
	})
	t.Run("whether a body follows", func(t *testing.T) {
		r := start(t, &handler{serve: hello}, l)
		if f, _ := answer(t, r.peer(t).request(head3("GET", "/"))); f[":status"] != "408" {
			t.Errorf("%v", f)
		}
	})
	t.Run("body", func(t *testing.T) {
		read := make(chan error, 1)
		h := &handler{serve: func(req *msg.Request, res *msg.Response) {
			_, err := io.Copy(io.Discard, req.Body)
			read <- err
			res.Status = 408
		}}
		r := start(t, h, l)
		if f, _ := answer(t, r.peer(t).request(head3("POST", "/")+"\x00\x05abc")); f[":status"] != "408" {
			t.Errorf("%v", f)
		}
		if err := <-read; !isTimeout(err) {
			t.Errorf("%v", err)
		}
		if st := r.Stats(); st.Ended[SlowBody] != 1 {
			t.Errorf("%+v", st.Ended)
		}
	})
	t.Run("body that dribbles", func(t *testing.T) {
		h := &handler{serve: func(req *msg.Request, res *msg.Response) {
			_, err := io.Copy(io.Discard, req.Body)
			res.Status = 200
			if err != nil {
				res.Status = 408
			}
		}}
		r := start(t, h, Limits{BodyTimeout: 200 * time.Millisecond})
		st := r.peer(t).request(head3("POST", "/") + "\x00\x80\x00\xff\xff")
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for len(h.results()) == 0 {
			<-tick.C
			if _, err := st.Write([]byte("x")); err != nil {
				break // it has been asked to stop
			}
		}
		if f, _ := answer(t, st); f[":status"] != "408" {
			t.Errorf("%v", f)
		}
		if st := r.Stats(); st.Ended[SlowBody] != 1 {
			t.Errorf("%+v", st.Ended)
		}
	})
	t.Run("control frame", func(t *testing.T) {
		r := start(t, &handler{serve: hello}, l)
		p := r.peer(t)
		p.uni("\x00\x04\x20x")
		if got := p.ended(); got != codeExcessiveLoad {
			t.Errorf("ended with %#x", got)
		}
	})
}

func TestSlowReaderIsTimedOut(t *testing.T) {
	h := &handler{serve: func(_ *msg.Request, res *msg.Response) { res.Status, res.Bytes = 200, make([]byte, 8<<20) }}
	r := start(t, h, Limits{WriteTimeout: 100 * time.Millisecond})
	p := r.peer(t)
	st := p.whole(head3("GET", "/"))
	until(t, func() bool { return len(h.results()) > 0 }) // nothing of the answer is read meanwhile
	if done := h.results(); len(done) != 1 || !isTimeout(done[0].err) || done[0].sent >= 8<<20 {
		t.Errorf("%+v", done)
	}
	if got := reset(t, st); got != codeRequestCancelled {
		t.Errorf("reset with %#x", got)
	}
}

func TestIdleConnectionEnds(t *testing.T) {
	r := start(t, &handler{serve: hello}, Limits{IdleTimeout: 300 * time.Millisecond})
	p := r.peer(t)
	if f, _ := answer(t, p.whole(head3("GET", "/"))); f[":status"] != "200" {
		t.Errorf("%v", f)
	}
	if got := p.ended(); got != codeNone {
		t.Errorf("ended with %#x", got)
	}
	if st := r.Stats(); st.Ended[Idle] != 1 {
		t.Errorf("%+v", st.Ended)
	}
}

// After many requests at a time a connection keeps the means for one.
func TestSpareSessionsAreClosed(t *testing.T) {
	gate := make(chan struct{})
	h := &handler{serve: func(_ *msg.Request, res *msg.Response) {
		<-gate
		res.Status = 200
	}}
	r := start(t, h, Limits{})
	p := r.peer(t)
	var all []*quic.Stream
	for range 20 {
		all = append(all, p.whole(head3("GET", "/")))
	}
	until(t, func() bool { return r.Stats().Requests == 20 })
	close(gate)
	for _, st := range all {
		answer(t, st)
	}
	until(t, func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.opened-h.closed == 1
	})
	answer(t, p.whole(head3("GET", "/")))
}
