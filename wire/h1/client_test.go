package h1

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/selvage-edge/selvage/fault"
	"github.com/selvage-edge/selvage/wire/msg"
	"github.com/selvage-edge/selvage/wire/msg/msgtest"
)

// ask makes a request value for the client.
func ask(method, target string) *msg.Request {
	return &msg.Request{
		MethodText: []byte(method), Method: msg.MethodOf([]byte(method)), Target: []byte(target),
		Authority: []byte("o.test"), Proto: msg.HTTP11,
	}
}

func TestClientAgainstServer(t *testing.T) {
	s := &msgtest.Site{Answer: msgtest.Describe}
	visitor, _ := start(t, NewServer(s, Limits{}), 1<<20)
	c := NewClient(visitor, ClientLimits{})
	for i := range 3 {
		req := ask("POST", "/x")
		req.Fields.Add([]byte("X-A"), []byte("1"))
		req.Fields.AddID(msg.Connection, []byte("close"))
		req.Fields.AddID(msg.ContentLength, []byte("99"))
		req.Length = msg.LengthUnknown
		req.Trailer.Add([]byte("X-Sum"), []byte("9"))
		var res msg.Response
		if err := c.Do(t.Context(), req, strings.NewReader("hello"), &res); err != nil {
			t.Fatal(i, err)
		}
		want := "POST /x @o.test|Host=o.test|X-A=1|Transfer-Encoding=chunked|body=hello|trailer X-Sum=9"
		if got := readAll(t, &res); got != want {
			t.Errorf("%d: body = %q, want %q", i, got, want)
		}
		if !c.Reusable() {
			t.Fatalf("%d: not reusable", i)
		}
		req = ask("HEAD", "/y")
		res.Reset()
		if err := c.Do(t.Context(), req, nil, &res); err != nil {
			t.Fatal(i, err)
		}
		if res.Body != nil || string(res.Fields.Get(msg.ContentLength)) != "27" || !c.Reusable() {
			t.Errorf("%d: HEAD: %v, reusable %v", i, res.Fields.All(), c.Reusable())
		}
	}
}

func readAll(t *testing.T, res *msg.Response) string {
	t.Helper()
	if res.Body == nil {
		return ""
	}
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	res.Close()
	return string(body)
}

func TestRequestOnTheWire(t *testing.T) {
	cases := []struct {
		name string
		make func(*msg.Request)
		want string // "" = refused
	}{
		{"fields in order, as spelt", func(r *msg.Request) {
			r.Fields.Add([]byte("b"), []byte("1"))
			r.Fields.Add([]byte("A"), []byte("2"))
			r.Fields.Add([]byte("host"), []byte("other"))
		}, "GET /p?q HTTP/1.1\r\nHost: o.test\r\nb: 1\r\nA: 2\r\n\r\n"},
		{"connection's fields are ours", func(r *msg.Request) {
			for _, n := range []string{"Connection", "Keep-Alive", "Proxy-Connection", "Transfer-Encoding", "Content-Length", "Upgrade", "Expect", "HTTP2-Settings"} {
				r.Fields.Add([]byte(n), []byte("x"))
			}
		}, "GET /p?q HTTP/1.1\r\nHost: o.test\r\n\r\n"},
		{"TE", func(r *msg.Request) { r.Fields.AddID(msg.TE, []byte("trailers")) },
			"GET /p?q HTTP/1.1\r\nHost: o.test\r\nTE: trailers\r\nConnection: TE\r\n\r\n"},
		{"upgrade", func(r *msg.Request) { r.Upgrade = []byte("websocket") },
			"GET /p?q HTTP/1.1\r\nHost: o.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"},
		{"post without body", func(r *msg.Request) { r.MethodText, r.Method = []byte("POST"), msg.POST },
			"POST /p?q HTTP/1.1\r\nHost: o.test\r\nContent-Length: 0\r\n\r\n"},
		{"space in target", func(r *msg.Request) { r.Target = []byte("/a b") }, ""},
		{"line break in target", func(r *msg.Request) { r.Target = []byte("/a\r\nX:") }, ""},
		{"no target", func(r *msg.Request) { r.Target = nil }, ""},
		{"method", func(r *msg.Request) { r.MethodText = []byte("G T") }, ""},
		{"host", func(r *msg.Request) { r.Authority = []byte("a\r\nb: c") }, ""},
		{"no host", func(r *msg.Request) { r.Authority = nil }, ""},
		{"value", func(r *msg.Request) { r.Fields.AddID(msg.Cookie, []byte("a\r\nb: c")) }, ""},
		{"name", func(r *msg.Request) { r.Fields.Add([]byte("a: b\r\nc"), []byte("d")) }, ""},
		{"imitation", func(r *msg.Request) { r.Fields.Add([]byte("Content_Length"), []byte("4")) }, ""},
		{"upgrade value", func(r *msg.Request) { r.Upgrade = []byte("a\r\nb") }, ""},
		{"connect", func(r *msg.Request) { r.MethodText, r.Method = []byte("CONNECT"), msg.CONNECT }, ""},
	}
	for _, tc := range cases {
		req := ask("GET", "/p?q")
		tc.make(req)
		got, err := appendRequest(nil, req)
		if string(got) != tc.want || (err != nil) != (tc.want == "") {
			t.Errorf("%s: %q, %v\nwant %q", tc.name, got, err, tc.want)
		}
	}
}

const ok = "HTTP/1.1 200 OK\r\n"

// malformed is how an origin that breaks the protocol is reported.
const malformed = "origin malformed"

var responseCases = []struct {
	name, method, in string
	err              string // "" = none
	status           int
	body             string
	reusable         bool
}{
	{"length", "GET", ok + "Content-Length: 2\r\n\r\nab", "", 200, "ab", true},
	{"length zero", "GET", ok + "Content-Length: 0\r\n\r\n", "", 200, "", true},
	{"chunked", "GET", ok + "Transfer-Encoding: chunked\r\n\r\n2;x=y\r\nab\r\n0\r\nT: u\r\n\r\n", "", 200, "ab", true},
	{"until close", "GET", ok + "\r\nabc", "", 200, "abc", false},
	{"1.0 until close", "GET", "HTTP/1.0 200 OK\r\n\r\nabc", "", 200, "abc", false},
	{"1.0 length", "GET", "HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\na", "", 200, "a", false},
	{"1.0 keep-alive", "GET", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\na", "", 200, "a", true},
	{"close", "GET", ok + "Connection: close\r\nContent-Length: 1\r\n\r\na", "", 200, "a", false},
	{"excess", "GET", ok + "Content-Length: 1\r\n\r\nab", "", 200, "a", false},
	{"second answer behind", "GET", ok + "Content-Length: 1\r\n\r\na" + ok + "\r\n", "", 200, "a", false},
	{"HEAD", "HEAD", ok + "Content-Length: 5\r\n\r\n", "", 200, "", true},
	{"HEAD with a body", "HEAD", ok + "Content-Length: 5\r\n\r\nabcde", "", 200, "", false},
	{"204", "GET", "HTTP/1.1 204 No Content\r\n\r\n", "", 204, "", true},
	{"204 with length", "GET", "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", "", 204, "", false},
	{"304 with length", "GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", "", 304, "", true},
	{"interim", "GET", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + ok + "Content-Length: 1\r\n\r\na", "", 200, "a", true},
	{"no reason", "GET", "HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n", "", 200, "", true},
	{"no reason, no space", "GET", "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", "", 200, "", true},
	{"reason in Latin-1", "GET", "HTTP/1.1 404 pas trouv\xe9\r\nContent-Length: 0\r\n\r\n", "", 404, "", true},

	{"nothing", "GET", "", "origin closed", 0, "", false},
	{"half a head", "GET", "HTTP/1.1 200 OK\r\nA:", "origin closed", 0, "", false},
	{"short body", "GET", ok + "Content-Length: 3\r\n\r\nab", "body origin closed", 200, "ab", false},
	{"short chunked", "GET", ok + "Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n", "body origin closed", 200, "ab", false},
	{"bad chunk", "GET", ok + "Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\nx\r\n", "body origin malformed", 200, "ab", false},
	{"bad trailer", "GET", ok + "Transfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 3\r\n\r\n", "body origin malformed", 200, "", false},
	{"0.9", "GET", "<html>\r\n\r\n", malformed, 0, "", false},
	{"version 2", "GET", "HTTP/2.0 200 OK\r\n\r\n", malformed, 0, "", false},
	{"version 1.2", "GET", "HTTP/1.2 200 OK\r\n\r\n", malformed, 0, "", false},
	{"version lower case", "GET", "http/1.1 200 OK\r\n\r\n", malformed, 0, "", false},
	{"status short", "GET", "HTTP/1.1 20 OK\r\n\r\n", malformed, 0, "", false},
	{"status long", "GET", "HTTP/1.1 2000 OK\r\n\r\n", malformed, 0, "", false},
	{"status 600", "GET", "HTTP/1.1 600 X\r\n\r\n", malformed, 0, "", false},
	{"status 099", "GET", "HTTP/1.1 099 X\r\n\r\n", malformed, 0, "", false},
	{"status word", "GET", "HTTP/1.1 2x0 OK\r\n\r\n", malformed, 0, "", false},
	{"two spaces", "GET", "HTTP/1.1  200 OK\r\n\r\n", malformed, 0, "", false},
	{"NUL in reason", "GET", "HTTP/1.1 200 O\x00K\r\n\r\n", malformed, 0, "", false},
	{"CR in reason", "GET", "HTTP/1.1 200 O\rK\r\n\r\n", malformed, 0, "", false},
	{"leading CRLF", "GET", "\r\n" + ok + "\r\n", malformed, 0, "", false},
	{"lines by LF", "GET", "HTTP/1.1 200 OK\nContent-Length: 0\n\n", malformed, 0, "", false},
	{"fold", "GET", ok + "A: b\r\n c\r\nContent-Length: 0\r\n\r\n", malformed, 0, "", false},
	{"space before colon", "GET", ok + "Content-Length : 0\r\n\r\n", malformed, 0, "", false},
	{"NUL in value", "GET", ok + "A: \x00\r\nContent-Length: 0\r\n\r\n", malformed, 0, "", false},
	{"TE and CL", "GET", ok + "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n", malformed, 0, "", false},
	{"TE in 1.0", "GET", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", malformed, 0, "", false},
	{"TE gzip", "GET", ok + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", malformed, 0, "", false},
	{"TE twice", "GET", ok + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", malformed, 0, "", false},
	{"CL twice", "GET", ok + "Content-Length: 0\r\nContent-Length: 0\r\n\r\n", malformed, 0, "", false},
	{"CL list", "GET", ok + "Content-Length: 1, 1\r\n\r\na", malformed, 0, "", false},
	{"CL minus", "GET", ok + "Content-Length: -1\r\n\r\n", malformed, 0, "", false},
	{"CL bad for HEAD", "HEAD", ok + "Content-Length: x\r\n\r\n", malformed, 0, "", false},
	{"101 not asked for", "GET", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", malformed, 0, "", false},
	{"interim without end", "GET", strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 40), malformed, 0, "", false},
	{"long line", "GET", ok + "A: " + strings.Repeat("a", 40<<10) + "\r\n\r\n", malformed, 0, "", false},
	{"many fields", "GET", ok + strings.Repeat("A: b\r\n", 300) + "\r\n", malformed, 0, "", false},
	{"long head", "GET", ok + strings.Repeat("A: "+strings.Repeat("b", 1000)+"\r\n", 80) + "\r\n", malformed, 0, "", false},
}

// TestResponseFraming: bytes from an origin in, the fault or the body out.
func TestResponseFraming(t *testing.T) {
	for _, tc := range responseCases {
		t.Run(tc.name, func(t *testing.T) {
			far, near := msgtest.Conns(1 << 20)
			send(t, far, tc.in)
			if !tc.reusable {
				_ = far.CloseWrite()
			}
			c := NewClient(near, ClientLimits{})
			defer c.Close()
			var res msg.Response
			var body []byte
			err := c.Do(t.Context(), ask(tc.method, "/"), nil, &res)
			status, got := res.Status, kindOf(err)
			if err == nil && res.Body != nil {
				if body, err = io.ReadAll(res.Body); err != nil {
					got = "body " + kindOf(err)
				}
				res.Close()
			}
			if tc.err == "" {
				tc.err = "ok"
			}
			if got != tc.err || status != tc.status || string(body) != tc.body || c.Reusable() != tc.reusable {
				t.Errorf("%s, status %d, body %q, reusable %v\nwant %s, %d, %q, %v", got, status, body, c.Reusable(), tc.err, tc.status, tc.body, tc.reusable)
			}
			if f := fault.As(err); err != nil && f.Retry {
				t.Error("a first request must not be retried")
			}
		})
	}
}

func TestResponseFieldsAndTrailers(t *testing.T) {
	far, near := msgtest.Conns(1 << 20)
	send(t, far, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"+ok+"Connection: x-hop, keep-alive\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nTransfer-Encoding: chunked\r\nUpgrade: h2c\r\nETag: \"e\"\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n\r\n1\r\nx\r\n0\r\nX-Sum: 3\r\n\r\n")
	var hints string
	c := NewClient(near, ClientLimits{OnInterim: func(status int, f *msg.Fields) {
		hints += string(appendInt(nil, int64(status))) + " " + string(f.Get(msg.Link))
	}})
	defer c.Close()
	var res msg.Response
	if err := c.Do(t.Context(), ask("GET", "/"), nil, &res); err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, f := range res.Fields.All() {
		lines = append(lines, string(f.Name)+"="+string(f.Value))
	}
	if got, want := strings.Join(lines, " "), `ETag="e" Set-Cookie=a Set-Cookie=b`; got != want {
		t.Errorf("fields %s, want %s", got, want)
	}
	if hints != "103 </a>" || res.Length != msg.LengthUnknown {
		t.Errorf("hints %q, length %d", hints, res.Length)
	}
	trailer := res.Trailer
	if got := readAll(t, &res); got != "x" || string(trailer.Lookup("x-sum")) != "3" {
		t.Errorf("body %q, trailer %v", got, trailer.All())
	}
}

func TestRetryIsSafeOnlyOnAReusedConnection(t *testing.T) {
	for _, tc := range []struct {
		name, second string
		retry        bool
	}{
		{"ended silently", "", true},
		{"ended in the head", "HTTP/1.1 2", false},
	} {
		far, near := msgtest.Conns(1 << 20)
		send(t, far, ok+"Content-Length: 0\r\n\r\n")
		c := NewClient(near, ClientLimits{})
		var res msg.Response
		if err := c.Do(t.Context(), ask("GET", "/"), nil, &res); err != nil {
			t.Fatal(err)
		}
		send(t, far, tc.second)
		_ = far.CloseWrite()
		err := c.Do(t.Context(), ask("GET", "/"), nil, &res)
		f, isFault := errors.AsType[*fault.Error](err)
		if !isFault || f.Retry != tc.retry || f.Kind != fault.Closed || f.Side != fault.Origin {
			t.Errorf("%s: %#v", tc.name, err)
		}
	}
}

// TestStaleConnectionIsNotUsed: what an origin says unasked must not become
// the answer to the next request.
func TestStaleConnectionIsNotUsed(t *testing.T) {
	for _, unasked := range []string{"", ok + "Content-Length: 4\r\n\r\nevil"} {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		near, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		far, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		c := NewClient(near, ClientLimits{})
		send(t, far, ok+"Content-Length: 0\r\n\r\n")
		var res msg.Response
		if err := c.Do(t.Context(), ask("GET", "/"), nil, &res); err != nil {
			t.Fatal(err)
		}
		if c.stale() {
			t.Error("stale while it is open and quiet")
		}
		send(t, far, unasked)
		_ = far.(*net.TCPConn).CloseWrite()
		for deadline := time.Now().Add(5 * time.Second); !c.stale(); {
			if time.Now().After(deadline) {
				t.Fatal("not seen to be stale")
			}
		}
		err = c.Do(t.Context(), ask("GET", "/"), nil, &res)
		if f := fault.As(err); err == nil || !f.Retry || res.Status == 200 && res.Length == 4 {
			t.Errorf("err = %v, status %d", err, res.Status)
		}
		_ = c.Close()
		_ = far.Close()
		_ = ln.Close()
	}
}

func TestClientTimeOuts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		far, near := msgtest.Conns(1 << 20)
		c := NewClient(near, ClientLimits{HeadTimeout: 20 * time.Second})
		began := time.Now()
		var res msg.Response
		err := c.Do(t.Context(), ask("GET", "/"), nil, &res)
		if kindOf(err) != "origin timeout" || time.Since(began) > 20*time.Second || time.Since(began) < 18*time.Second {
			t.Errorf("head: %v after %v", err, time.Since(began))
		}
		_ = far.Close()

		far, near = msgtest.Conns(1 << 20)
		c = NewClient(near, ClientLimits{HeadTimeout: 20 * time.Second})
		patient := ask("GET", "/")
		patient.Patience = 5 * time.Second
		began = time.Now()
		if err := c.Do(t.Context(), patient, nil, &res); kindOf(err) != "origin timeout" || time.Since(began) > 5*time.Second || time.Since(began) < 3*time.Second {
			t.Errorf("head, with a patience of its own: %v after %v", err, time.Since(began))
		}
		_ = far.Close()

		far, near = msgtest.Conns(1 << 20)
		c = NewClient(near, ClientLimits{BodyTimeout: 20 * time.Second})
		send(t, far, ok+"Content-Length: 5\r\n\r\nab")
		if err := c.Do(t.Context(), ask("GET", "/"), nil, &res); err != nil {
			t.Fatal(err)
		}
		began = time.Now()
		_, err = io.ReadAll(res.Body)
		if kindOf(err) != "origin timeout" || time.Since(began) > 20*time.Second {
			t.Errorf("body: %v after %v", err, time.Since(began))
		}
		res.Close()
		if c.Reusable() {
			t.Error("reusable")
		}
	})
}

func TestContextCutsTheExchange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, near := msgtest.Conns(1 << 20)
		ctx, cancel := context.WithCancel(t.Context())
		c := NewClient(near, ClientLimits{})
		done := make(chan error)
		go func() {
			var res msg.Response
			done <- c.Do(ctx, ask("GET", "/"), nil, &res)
		}()
		synctest.Wait()
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) || c.Reusable() {
			t.Errorf("err = %v", err)
		}

		far, near := msgtest.Conns(1 << 20)
		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		c = NewClient(near, ClientLimits{})
		send(t, far, ok+"Content-Length: 5\r\n\r\nab")
		var res msg.Response
		if err := c.Do(ctx, ask("GET", "/"), nil, &res); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(res.Body); kindOf(err) != "origin timeout" {
			t.Errorf("err = %v", err)
		}
		res.Close()
	})
}

// endless is a visitor's body that stops after some bytes and waits.
type endless struct {
	first  string
	closed chan struct{}
}

func (e *endless) Read(p []byte) (int, error) {
	if e.first != "" {
		n := copy(p, e.first)
		e.first = e.first[n:]
		return n, nil
	}
	<-e.closed
	return 0, errBodyClosed
}
func (e *endless) Close() error { close(e.closed); return nil }

func TestEarlyAnswerEndsSending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		far, near := msgtest.Conns(1 << 20)
		send(t, far, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno")
		c := NewClient(near, ClientLimits{})
		req := ask("POST", "/")
		req.Length = 1 << 20
		var res msg.Response
		if err := c.Do(t.Context(), req, &endless{first: "some", closed: make(chan struct{})}, &res); err != nil {
			t.Fatal(err)
		}
		if res.Status != 413 || readAll(t, &res) != "no" || c.Reusable() {
			t.Errorf("status %d, reusable %v", res.Status, c.Reusable())
		}
	})
}

// TestBothWaysAtOnce: an origin that answers while it reads, with windows so
// small that either way alone would stop.
func TestBothWaysAtOnce(t *testing.T) {
	s := &msgtest.Site{Answer: func(req *msg.Request, res *msg.Response) {
		res.Status, res.Length, res.Body = 200, msg.LengthUnknown, req.Body
	}}
	visitor, _ := start(t, NewServer(s, Limits{}), 2000)
	c := NewClient(visitor, ClientLimits{})
	for range 2 {
		req := ask("POST", "/")
		req.Length = msg.LengthUnknown
		want := strings.Repeat("0123456789", 50000)
		var res msg.Response
		if err := c.Do(t.Context(), req, strings.NewReader(want), &res); err != nil {
			t.Fatal(err)
		}
		if got := readAll(t, &res); got != want {
			t.Fatalf("%d bytes came back, want %d", len(got), len(want))
		}
		if !c.Reusable() {
			t.Fatal("not reusable")
		}
	}
}

func TestFailingRequestBody(t *testing.T) {
	gone := &fault.Error{Op: "x", Side: fault.Visitor, Kind: fault.Closed}
	for _, length := range []int64{msg.LengthUnknown, 10} {
		for _, tc := range []struct {
			cause error
			want  string
		}{{gone, "visitor closed"}, {errors.New("boom"), "visitor closed"}, {io.EOF, "visitor closed"}} {
			if tc.cause == io.EOF && length < 0 {
				continue
			}
			far, near := msgtest.Conns(1 << 20)
			c := NewClient(near, ClientLimits{})
			req := ask("POST", "/")
			req.Length = length
			var res msg.Response
			err := c.Do(t.Context(), req, &failing{strings.NewReader("abc"), tc.cause}, &res)
			if kindOf(err) != tc.want || c.Reusable() {
				t.Errorf("%d %v: %v", length, tc.cause, err)
			}
			sent, _ := io.ReadAll(far)
			if strings.HasSuffix(string(sent), "0\r\n\r\n") {
				t.Errorf("the broken request was finished: %q", sent)
			}
		}
	}
}

func kindOf(err error) string {
	if err == nil {
		return "ok"
	}
	f, isFault := errors.AsType[*fault.Error](err)
	if !isFault {
		return "no fault"
	}
	return f.Side.String() + " " + f.Kind.String()
}
