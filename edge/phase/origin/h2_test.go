package origin

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"github.com/selvage-edge/selvage/edge/request"
	"github.com/selvage-edge/selvage/fault"
	"github.com/selvage-edge/selvage/wire/h2/client"
	"github.com/selvage-edge/selvage/wire/h2/frame"
	"github.com/selvage-edge/selvage/wire/msg"
	"github.com/selvage-edge/selvage/zone"
)

func TestRequestsShareAConnectionOverHTTP2(t *testing.T) {
	const many = 60
	var conns, busy, peak atomic.Int32
	all := make(chan struct{})
	dial := serve2(t, func(w http.ResponseWriter, r *http.Request) {
		if busy.Add(1) == many {
			close(all)
		}
		<-all // everybody is here at once
		peak.Store(max(peak.Load(), busy.Load()))
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s %s %s|%s", r.Proto, r.Method, r.Host, r.RequestURI, body)
	}, &conns)
	e, p := engine2(t, dial, nil)
	var work sync.WaitGroup
	for i := range many {
		work.Go(func() {
			target := "/" + strconv.Itoa(i)
			method, body := "GET", io.Reader(nil)
			if i%2 == 1 {
				method, body = "POST", strings.NewReader(target)
			}
			r := ask(t, method, target, body)
			if _, err := e.Run(p, r); err != nil {
				t.Errorf("%s: %v", target, err)
				return
			}
			b, err := io.ReadAll(r.Out.Body)
			r.Out.Close()
			want := "HTTP/2.0 " + method + " shop.test " + target + "|"
			if i%2 == 1 {
				want += target
			}
			if err != nil || string(b) != want {
				t.Errorf("%s: got %q, %v", target, b, err)
			}
		})
	}
	work.Wait()
	if conns.Load() != 1 || peak.Load() != many {
		t.Errorf("%d connections, %d requests at a time; want 1 for all %d", conns.Load(), peak.Load(), many)
	}
	if open, idle := metric(t, e, "selvage_origin_connections", "busy"), metric(t, e, "selvage_origin_connections", "idle"); open != 0 || idle != 1 {
		t.Errorf("%v busy, %v idle; want 0, 1", open, idle)
	}
	if got := metric(t, e, "selvage_origin_streams", ""); got != 0 {
		t.Errorf("%v streams are left", got)
	}
	if got := metric(t, e, "selvage_origin_reuses_total", ""); got != many-1 {
		t.Errorf("reuses %v, want %d", got, many-1)
	}
}

func TestTheSettingForbidsHTTP2(t *testing.T) {
	var conns atomic.Int32
	dial := serve2(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Proto) }, &conns)
	e, p := engine2(t, dial, nil)
	if got := run(t, e, p, ask(t, "GET", "/", nil)); got != "HTTP/2.0" {
		t.Errorf("by default %q", got)
	}
	spec := &zone.Spec{Meta: zone.Meta{ID: zoneID, Name: "shop.test"}, Settings: zone.Settings{"ssl": []byte(`"full"`), "origin_max_http_version": []byte(`"1"`)},
		Records: []zone.Record{{Name: "shop.test", Type: "A", Content: addr, Proxied: true}}}
	p, err := Compile(spec)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if got := run(t, e, p, ask(t, "GET", "/", nil)); got != "HTTP/1.1" {
			t.Errorf("with the setting 1: %q", got)
		}
	}
	if conns.Load() != 2 {
		t.Errorf("%d connections, want one of each kind", conns.Load())
	}
}

// All who ask while nothing is known of an origin wait for one dial; where it
// speaks HTTP/1.1, each opens a connection then.
func TestOneDialFindsOutWhatAnOriginSpeaks(t *testing.T) {
	var conns atomic.Int32
	cert, _ := certificate(t, time.Now().Add(time.Hour), "shop.test")
	inner := serveTLS(t, cert, 0, nil)
	e, p := engine2(t, func() (net.Conn, error) { conns.Add(1); return inner() }, nil)
	var work sync.WaitGroup
	for range 20 {
		work.Go(func() {
			r := ask(t, "GET", "/", nil)
			if _, err := e.Run(p, r); err != nil {
				t.Error(err)
				return
			}
			if b, err := io.ReadAll(r.Out.Body); err != nil || string(b) != "GET shop.test /|" {
				t.Errorf("got %q, %v", b, err)
			}
			r.Out.Close()
		})
	}
	work.Wait()
	if n := int(conns.Load()); n < 1 || n > 20 {
		t.Errorf("%d connections for 20 requests", n)
	}
	p0 := e.list()[0]
	p0.mu.Lock()
	defer p0.mu.Unlock()
	if p0.open != len(p0.idle) || p0.dialing != 0 || len(p0.waiters) != 0 {
		t.Errorf("%d open, %d idle, %d dialing, %d waiting", p0.open, len(p0.idle), p0.dialing, len(p0.waiters))
	}
}

func TestAFailedDialFailsAllWhoWaitForIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var conns atomic.Int32
		e := New(Config{Dial: func(ctx context.Context, _ string, _ uint16) (net.Conn, error) {
			conns.Add(1)
			time.Sleep(15 * time.Second) // longer than the queue's own time
			return nil, &fault.Error{Op: "world", Side: fault.Origin, Kind: fault.ConnectTime, Retry: true}
		}})
		defer e.Close()
		p := plan(t, "full", addr)
		left, leave := context.WithCancel(t.Context())
		var work sync.WaitGroup
		for i := range 10 {
			work.Go(func() {
				r := ask(t, "POST", "/", strings.NewReader("x"))
				want, side := fault.ConnectTime, fault.Origin
				if i == 0 { // who came first may leave, the others wait on
					r.Ctx, want, side = left, fault.Closed, fault.Visitor
				}
				_, err := e.Run(p, r)
				wantKind(t, err, side, want)
			})
		}
		synctest.Wait()
		leave()
		work.Wait()
		if conns.Load() != 1 {
			t.Errorf("%d dials, want 1", conns.Load())
		}
		wantConns(t, e, 0, 0)
	})
}

func TestCloseEndsADialUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := New(Config{Dial: func(ctx context.Context, _ string, _ uint16) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}})
		p := plan(t, "full", addr)
		var work sync.WaitGroup
		work.Go(func() {
			_, err := e.Run(p, ask(t, "GET", "/", nil))
			if err == nil {
				t.Error("an answer without a connection")
			}
		})
		synctest.Wait()
		e.Close()
		work.Wait()
		wantConns(t, e, 0, 0)
	})
}

// Visitors who take nothing hold every seat: whoever stands in line gets one.
func TestSlowVisitorsGiveWayOverHTTP2(t *testing.T) {
	var conns atomic.Int32
	dial := serve2(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/large" {
			_, _ = w.Write(make([]byte, 8<<20))
			return
		}
		_, _ = io.WriteString(w, "quick")
	}, &conns)
	e, p := engine2(t, dial, func(c *Config) {
		c.MaxSessions, c.MaxStreams, c.HoldTime, c.QueueTime = 1, 2, 20*time.Millisecond, 20*time.Second
	})
	stalled := [2]*request.Request{ask(t, "GET", "/large", nil), ask(t, "GET", "/large", nil)}
	for _, r := range stalled {
		if _, err := e.Run(p, r); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		if got := run(t, e, p, ask(t, "GET", "/quick", nil)); got != "quick" {
			t.Errorf("got %q", got)
		}
	}
	if got := metric(t, e, "selvage_origin_given_up_total", ""); got != 1 || conns.Load() != 1 {
		t.Errorf("%v given up over %d connections, want 1 over 1", got, conns.Load())
	}
	cut := 0
	for _, r := range stalled {
		if _, err := io.Copy(io.Discard, r.Out.Body); err != nil {
			cut++
			wantKind(t, err, fault.Origin, fault.Closed)
		}
		r.Out.Close()
	}
	if cut != 1 {
		t.Errorf("%d answers were cut, want 1", cut)
	}
	if got := metric(t, e, "selvage_origin_streams", ""); got != 0 {
		t.Errorf("%v seats are taken still", got)
	}
}

// What the origin says it did not process is sent again, whatever the method.
func TestUnprocessedRequestsAreSentAgain(t *testing.T) {
	for name, refuse := range map[string]func(fr *http2.Framer, stream uint32){
		"refused": func(fr *http2.Framer, stream uint32) { _ = fr.WriteRSTStream(stream, http2.ErrCodeRefusedStream) },
		"going away": func(fr *http2.Framer, stream uint32) {
			_ = fr.WriteGoAway(stream-2&^(1<<31), http2.ErrCodeNo, nil)
		},
	} {
		dial := framed(t, nil, func(fr *http2.Framer, n int, h *http2.MetaHeadersFrame) {
			if n == 1 {
				refuse(fr, h.StreamID)
				return
			}
			reply(fr, h.StreamID, strconv.Itoa(n))
		})
		e, p := engine2(t, dial, nil)
		run(t, e, p, ask(t, "GET", "/", nil))
		r := ask(t, "POST", "/", strings.NewReader("held"))
		if _, _, err := r.Body.Peek(100); err != nil {
			t.Fatal(err)
		}
		if got := run(t, e, p, r); got != "2" {
			t.Errorf("%s: got %q", name, got)
		}
		if got := metric(t, e, "selvage_origin_retries_total", ""); got != 1 {
			t.Errorf("%s: %v retries", name, got)
		}
	}
}

// A request that may have been processed is not sent again unless its method
// allows it.
func TestResetRequestsAreNotSentAgain(t *testing.T) {
	dial := framed(t, nil, func(fr *http2.Framer, _ int, h *http2.MetaHeadersFrame) {
		_ = fr.WriteRSTStream(h.StreamID, http2.ErrCodeInternal)
	})
	e, p := engine2(t, dial, nil)
	_, err := e.Run(p, ask(t, "GET", "/", nil))
	wantKind(t, err, fault.Origin, fault.Closed)
	if got := metric(t, e, "selvage_origin_retries_total", ""); got != 0 {
		t.Errorf("%v retries", got)
	}
}

// A cancelled request is told apart, before an answer and in its middle.
func TestTheOriginCallsARequestOff(t *testing.T) {
	dial := framed(t, nil, func(fr *http2.Framer, n int, h *http2.MetaHeadersFrame) {
		if n > 0 {
			_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: h.StreamID, EndHeaders: true, BlockFragment: block(":status", "200")})
		}
		_ = fr.WriteRSTStream(h.StreamID, http2.ErrCodeCancel)
	})
	e, p := engine2(t, dial, nil)
	_, err := e.Run(p, ask(t, "GET", "/", nil))
	wantKind(t, err, fault.Origin, fault.Cancelled)
	r := ask(t, "GET", "/", nil)
	if _, err = e.Run(p, r); err == nil { // else the reset overtook the head's reader
		_, err = io.ReadAll(r.Out.Body)
		r.Out.Close()
	}
	wantKind(t, err, fault.Origin, fault.Cancelled)
	if code, ok := client.ResetCode(err); !ok || code != frame.Cancel {
		t.Errorf("reset with %v, %v", code, ok)
	}
	if code, ok := client.ResetCode(fault.As(io.EOF)); ok {
		t.Errorf("no reset is one with %v", code)
	}
}

func TestAnOriginThatWantsHTTP1GetsIt(t *testing.T) {
	cert, _ := certificate(t, time.Now().Add(time.Hour), "shop.test")
	two := framed(t, nil, func(fr *http2.Framer, _ int, h *http2.MetaHeadersFrame) {
		_ = fr.WriteRSTStream(h.StreamID, http2.ErrCodeHTTP11Required)
	})
	one := serveTLS(t, cert, 0, nil)
	var calls atomic.Int32
	e, p := engine2(t, func() (net.Conn, error) {
		if calls.Add(1) == 1 {
			return two()
		}
		return one()
	}, nil)
	for range 3 {
		if got := run(t, e, p, ask(t, "GET", "/", nil)); got != "GET shop.test /|" {
			t.Errorf("got %q", got)
		}
	}
	if calls.Load() != 2 {
		t.Errorf("%d connections, want 2", calls.Load())
	}
}

// A gRPC call: both bodies stream at once, trailers end the answer.
func TestGRPCGoesThrough(t *testing.T) {
	var conns atomic.Int32
	dial := serve2(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Te") != "trailers" || r.Header.Get("Content-Type") != "application/grpc" {
			w.WriteHeader(415)
			return
		}
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Trailer", "Grpc-Status, Grpc-Message")
		w.WriteHeader(200)
		flush := http.NewResponseController(w).Flush
		_ = flush()
		head := make([]byte, 5)
		n := 0
		for ; ; n++ {
			if _, err := io.ReadFull(r.Body, head); err != nil {
				break
			}
			text := make([]byte, head[4])
			_, _ = io.ReadFull(r.Body, text)
			_, _ = w.Write(append(head, bytes.ToUpper(text)...))
			_ = flush()
		}
		w.Header().Set("Grpc-Status", "0")
		w.Header().Set("Grpc-Message", strconv.Itoa(n))
	}, &conns)
	e, p := engine2(t, dial, nil)
	in, out := io.Pipe()
	r := ask(t, "POST", "/pkg.Service/Method", in, "TE: trailers", "Content-Type: application/grpc", "Grpc-Timeout: 1S")
	if _, err := e.Run(p, r); err != nil {
		t.Fatal(err)
	}
	if r.Out.Status != 200 {
		t.Fatalf("status %d", r.Out.Status)
	}
	for _, word := range []string{"one", "second"} {
		msg := append([]byte{0, 0, 0, 0, byte(len(word))}, word...)
		if _, err := out.Write(msg); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(r.Out.Body, msg); err != nil || string(msg[5:]) != strings.ToUpper(word) {
			t.Errorf("got %q, %v", msg, err)
		}
	}
	_ = out.Close()
	if rest, err := io.ReadAll(r.Out.Body); err != nil || len(rest) > 0 {
		t.Errorf("rest %q, %v", rest, err)
	}
	if got := fieldsOf(r.Out.Trailer); !strings.EqualFold(got, "Grpc-Message: 2\nGrpc-Status: 0") {
		t.Errorf("trailers %q", got)
	}
	r.Out.Close()
}

func TestWebSocketWays(t *testing.T) {
	const key, accept = "dGhlIHNhbXBsZSBub25jZQ==", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" // RFC 6455 §1.3
	two := framed(t, []http2.Setting{{ID: http2.SettingEnableConnectProtocol, Val: 1}}, func(fr *http2.Framer, _ int, h *http2.MetaHeadersFrame) {
		if h.PseudoValue("protocol") == "" {
			reply(fr, h.StreamID, "ok")
			return
		}
		said := ""
		for _, f := range h.RegularFields() {
			if strings.HasPrefix(f.Name, "sec-websocket") {
				said += f.Name + ": " + f.Value + ";"
			}
		}
		status := "200"
		if said != "sec-websocket-version: 13;" || h.PseudoValue("method") != "CONNECT" || h.PseudoValue("protocol") != "websocket" || h.StreamEnded() {
			status = "400"
		}
		_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: h.StreamID, EndHeaders: true, BlockFragment: block(":status", status)})
	})
	one := func(wrong bool) func() (net.Conn, error) {
		cert, _ := certificate(t, time.Now().Add(time.Hour), "shop.test")
		return scripted(t, func(_ int, nc net.Conn) {
			tc := tls.Server(nc, &tls.Config{Certificates: []tls.Certificate{cert}, SessionTicketsDisabled: true})
			br := bufio.NewReader(tc)
			req, err := http.ReadRequest(br)
			if err != nil {
				return
			}
			in := request.Request{Arena: ask(t, "GET", "/", nil).Arena}
			sum := string(proof(&in, []byte(req.Header.Get("Sec-WebSocket-Key"))))
			if wrong {
				sum = accept
			}
			_, _ = io.WriteString(tc, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "+sum+"\r\n\r\n")
			_, _ = io.Copy(tc, br)
		})
	}
	for _, c := range []struct {
		name   string
		newer  bool // the visitor comes by extended CONNECT
		dial   func() (net.Conn, error)
		warm   bool // a connection is open
		fields string
		broken bool
	}{
		{name: "1 to 1", dial: one(false), fields: "Sec-WebSocket-Accept: " + accept + "\nUpgrade: websocket"},
		{name: "2 to 1", newer: true, dial: one(false)},
		{name: "1 to 2", dial: two, warm: true, fields: "Sec-WebSocket-Accept: " + accept + "\nUpgrade: websocket"},
		{name: "2 to 2", newer: true, dial: two, warm: true},
		{name: "2 to 1, not proven", newer: true, dial: one(true), broken: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, p := engine2(t, c.dial, nil)
			if c.warm {
				run(t, e, p, ask(t, "GET", "/", nil))
			}
			r := ask(t, "GET", "/ws", nil, "Sec-WebSocket-Version: 13")
			r.In.Upgrade = []byte("websocket")
			if c.newer {
				r.In.Proto = msg.HTTP2
			} else {
				r.In.Fields.Add([]byte("Connection"), []byte("Upgrade"))
				r.In.Fields.Add([]byte("Upgrade"), []byte("websocket"))
				r.In.Fields.Add([]byte("Sec-WebSocket-Key"), []byte(key))
			}
			v, err := e.Run(p, r)
			if c.broken {
				wantKind(t, err, fault.Origin, fault.Malformed)
				return
			}
			if err != nil || v != request.Hijack || r.Out.Status != 101 {
				t.Fatalf("verdict %d, status %d, %v", v, r.Out.Status, err)
			}
			if got := fieldsOf(&r.Out.Fields); got != c.fields {
				t.Errorf("fields %q, want %q", got, c.fields)
			}
			if _, err := io.WriteString(r.Out.Tunnel, "echo this"); err != nil {
				t.Fatal(err)
			}
			b := make([]byte, 9)
			if _, err := io.ReadFull(r.Out.Tunnel, b); err != nil || string(b) != "echo this" {
				t.Errorf("read %q, %v", b, err)
			}
			r.Out.Close()
		})
	}
}

// An origin that ignores the wish for a WebSocket and says 200 has opened no
// tunnel, which is what a visitor of HTTP/2 would take it for.
func TestAPlainSuccessIsNoTunnel(t *testing.T) {
	e := newEngine(t, &world{hosts: map[string]func() (net.Conn, error){addr + ":80": serve(t, echo)}}, nil)
	p := plan(t, "flexible", addr)
	for _, proto := range []msg.Proto{msg.HTTP11, msg.HTTP2, msg.HTTP3} {
		r := ask(t, "GET", "/ws", nil)
		r.In.Upgrade, r.In.Proto = []byte("websocket"), proto
		_, err := e.Run(p, r)
		if proto == msg.HTTP11 {
			if err != nil || r.Out.Status != 200 {
				t.Errorf("%s: %d, %v", proto, r.Out.Status, err)
			}
			r.Out.Close()
			continue
		}
		wantKind(t, err, fault.Origin, fault.Malformed)
	}
}

func TestInterimAnswersComeOverHTTP2(t *testing.T) {
	var conns atomic.Int32
	dial := serve2(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "</a.css>; rel=preload")
		w.Header().Set("X-Other", "1")
		w.WriteHeader(103)
		w.WriteHeader(200)
	}, &conns)
	e, p := engine2(t, dial, nil)
	r := ask(t, "GET", "/", nil)
	got := ""
	r.In.Interim = func(status int, f *msg.Fields) error {
		got += fmt.Sprintf("%d %s", status, fieldsOf(f))
		return nil
	}
	run(t, e, p, r)
	if got != "103 Link: </a.css>; rel=preload\nx-other: 1" {
		t.Errorf("got %q", got)
	}
}

// An origin that refuses, resets, goes away and cuts: each request gets its own
// answer or a fault of the origin's, and nothing is left behind.
func TestManyRequestsToAnUnreliableOrigin(t *testing.T) {
	const workers, each = 20, 25
	dial := framed(t, []http2.Setting{{ID: http2.SettingMaxConcurrentStreams, Val: 7}, {ID: http2.SettingInitialWindowSize, Val: 100}},
		func(fr *http2.Framer, n int, h *http2.MetaHeadersFrame) {
			path := h.PseudoValue("path")
			switch {
			case n%29 == 3:
				_ = fr.WriteRSTStream(h.StreamID, http2.ErrCodeRefusedStream)
			case n%31 == 5:
				_ = fr.WriteRSTStream(h.StreamID, http2.ErrCodeInternal)
			case n%53 == 7:
				_ = fr.WriteGoAway(h.StreamID, http2.ErrCodeNo, nil)
				reply(fr, h.StreamID, path)
			case n%97 == 11:
				_ = fr.WriteRawFrame(0, 0, 0, nil) // DATA on stream 0 ends the connection
			case n%17 == 13:
				_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: h.StreamID, EndHeaders: true, BlockFragment: block(":status", "200", "content-length", "999")})
				_ = fr.WriteData(h.StreamID, true, []byte(path))
			default:
				reply(fr, h.StreamID, path)
			}
		})
	e, p := engine2(t, dial, func(c *Config) { c.MaxSessions = 2 })
	var failed atomic.Int32
	var work sync.WaitGroup
	for worker := range workers {
		work.Go(func() {
			for i := range each {
				path := fmt.Sprintf("/%d/%d", worker, i)
				r := ask(t, "GET", path, nil)
				_, err := e.Run(p, r)
				if err == nil {
					var b []byte
					if b, err = io.ReadAll(r.Out.Body); err == nil && string(b) != path {
						t.Errorf("%s: got %q", path, b)
					}
					r.Out.Close()
				}
				if err == nil {
					continue
				}
				failed.Add(1)
				if f, ok := errors.AsType[*fault.Error](err); !ok || f.Side != fault.Origin {
					t.Errorf("%s: %v", path, err)
				}
			}
		})
	}
	work.Wait()
	if n := failed.Load(); n > workers*each/4 {
		t.Errorf("%d of %d requests failed: what was refused is not sent again", n, workers*each)
	}
	for deadline := time.Now().Add(10 * time.Second); ; {
		left := remains(e)
		if left == "" {
			return
		}
		if time.Now().After(deadline) { // a dial for who has left meanwhile may be under way until then
			t.Fatal(left)
		}
	}
}

// remains tells what is in use.
func remains(e *Engine) string {
	for _, p := range e.list() {
		p.mu.Lock()
		defer p.mu.Unlock()
		busy := 0
		for _, s := range p.sessions {
			busy += s.busy
		}
		if busy != 0 || p.dialing != 0 || len(p.waiters) != 0 || p.open != len(p.sessions)+len(p.idle) || len(p.streaming) != 0 {
			return fmt.Sprintf("left: %d seats, %d dials, %d in line, %d open of which %d take requests, %d streaming", busy, p.dialing, len(p.waiters), p.open, len(p.sessions), len(p.streaming))
		}
	}
	return ""
}
