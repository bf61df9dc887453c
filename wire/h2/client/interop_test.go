package client

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/selvage-edge/selvage/fault"
	"github.com/selvage-edge/selvage/wire/msg"
	"github.com/selvage-edge/selvage/wire/msg/msgtest"
)

// serve starts somebody else's HTTP/2 server and connects to it.
func serve(t testing.TB, l Limits, h http.HandlerFunc) *Conn {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.EnableHTTP2 = true
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	nc, err := tls.Dial("tcp", s.Listener.Addr().String(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	c := New(nc, l)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// ask makes a request; lines are "Name: value".
func ask(method, target string, lines ...string) *msg.Request {
	req := &msg.Request{
		MethodText: []byte(method), Method: msg.MethodOf([]byte(method)), Scheme: msg.HTTPS,
		Authority: []byte("origin.test"), Target: []byte(target), Path: []byte(target), Proto: msg.HTTP2,
	}
	req.Fields.AddID(msg.Host, req.Authority)
	for _, l := range lines {
		name, value, _ := strings.Cut(l, ": ")
		req.Fields.Add([]byte(name), []byte(value))
	}
	return req
}

// get does a request and returns status and body.
func get(t testing.TB, c *Conn, req *msg.Request, body io.Reader) (int, string) {
	t.Helper()
	var res msg.Response
	if err := c.Do(t.Context(), req, body, &res); err != nil {
		t.Fatalf("%s: %v", req.Target, err)
	}
	defer res.Close()
	if res.Body == nil {
		return res.Status, ""
	}
	p, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("%s: %v", req.Target, err)
	}
	return res.Status, string(p)
}

func TestRequestsAndAnswers(t *testing.T) {
	c := serve(t, Limits{}, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("X-Method", r.Method)
		w.Header().Set("X-Proto", r.Proto)
		w.Header().Set("X-Length", strconv.FormatInt(r.ContentLength, 10))
		w.Header().Set("X-Sum", r.Trailer.Get("X-Sum"))
		if n, err := strconv.Atoi(r.URL.Query().Get("status")); err == nil {
			w.WriteHeader(n)
		}
		if r.Method != "HEAD" {
			fmt.Fprintf(w, "%s %s %s|%s|%s", r.Host, r.RequestURI, r.Header.Get("Cookie"), r.Header.Get("Connection"), body)
		}
	})
	long := strings.Repeat("0123456789abcdef", 20_000)
	for _, x := range []struct {
		method, target, body string
		length               int64
		want                 string
	}{
		{"GET", "/a?b=c", "", 0, "origin.test /a?b=c a=b||"},
		{"HEAD", "/", "", 0, ""},
		{"POST", "/p", "", 0, "origin.test /p a=b||"},
		{"POST", "/p", "some", 4, "origin.test /p a=b||some"},
		{"POST", "/p", "some", -1, "origin.test /p a=b||some"},
		{"PUT", "/p", long, int64(len(long)), "origin.test /p a=b||" + long},
		{"PUT", "/p", long, -1, "origin.test /p a=b||" + long},
		{"GET", "/?status=404", "", 0, "origin.test /?status=404 a=b||"},
		{"GET", "/?status=204", "", 0, ""},
		{"GET", "/?status=304", "", 0, ""},
	} {
		req := ask(x.method, x.target, "Cookie: a=b", "Connection: close", "Keep-Alive: 1", "TE: gzip", "Expect: 100-continue", "Transfer-Encoding: chunked")
		var body io.Reader
		if req.Length = x.length; x.length != 0 {
			body = strings.NewReader(x.body)
		}
		var res msg.Response
		if err := c.Do(t.Context(), req, body, &res); err != nil {
			t.Fatalf("%s %s: %v", x.method, x.target, err)
		}
		got := ""
		if res.Body != nil {
			p, err := io.ReadAll(res.Body)
			if err != nil {
				t.Fatalf("%s %s: %v", x.method, x.target, err)
			}
			got = string(p)
		}
		if got != x.want {
			t.Errorf("%s %s: got %.100q, want %.100q", x.method, x.target, got, x.want)
		}
		if string(res.Fields.Lookup("X-Method")) != x.method || string(res.Fields.Lookup("X-Proto")) != "HTTP/2.0" {
			t.Errorf("%s %s: fields %q", x.method, x.target, res.Fields.All())
		}
		if x.length > 0 && string(res.Fields.Lookup("X-Length")) != strconv.FormatInt(x.length, 10) {
			t.Errorf("%s %s: length %q", x.method, x.target, res.Fields.Lookup("X-Length"))
		}
		if (res.Fields.Has(msg.ContentLength)) && x.method != "HEAD" && res.Status != 304 {
			t.Errorf("%s %s: Content-Length stays", x.method, x.target)
		}
		res.Close()
	}
	if c.Capacity() != 100 {
		t.Errorf("room for %d, want 100", c.Capacity())
	}
}

func TestTrailersBothWaysAndInterimAnswers(t *testing.T) {
	c := serve(t, Limits{}, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</a.css>; rel=preload")
		w.WriteHeader(103)
		w.Header().Del("Link")
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Trailer", "Grpc-Status")
		fmt.Fprintf(w, "%v", r.Trailer)
		w.Header().Set("Grpc-Status", "7")
	})
	req := ask("POST", "/", "TE: trailers", "Trailer: X-Sum")
	req.Length = msg.LengthUnknown
	req.Trailer.Add([]byte("X-Sum"), []byte("42"))
	told := ""
	req.Interim = func(status int, f *msg.Fields) error {
		told += fmt.Sprintf("%d %s", status, f.Get(msg.Link))
		return nil
	}
	var res msg.Response
	if err := c.Do(t.Context(), req, strings.NewReader("body"), &res); err != nil {
		t.Fatal(err)
	}
	defer res.Close()
	p, err := io.ReadAll(res.Body)
	if err != nil || string(p) != "map[X-Sum:[42]]" {
		t.Errorf("body %q, %v", p, err)
	}
	if res.Trailer == nil || string(res.Trailer.Lookup("grpc-status")) != "7" {
		t.Errorf("trailers %v", res.Trailer)
	}
	if told != "103 </a.css>; rel=preload" {
		t.Errorf("interim %q", told)
	}
}

// Many requests at a time, bodies both ways larger than any window, some given
// up in the middle: each gets what belongs to it.
func TestManyAtATime(t *testing.T) {
	c := serve(t, Limits{}, func(w http.ResponseWriter, r *http.Request) {
		n, _ := strconv.Atoi(r.URL.Path[1:])
		sum := sha256.New()
		_, _ = io.Copy(sum, r.Body)
		fmt.Fprintf(w, "%x", sum.Sum(nil))
		_, _ = w.Write(bytes.Repeat([]byte{byte(n)}, n*1000))
	})
	var work sync.WaitGroup
	for worker := range 20 {
		work.Go(func() {
			for i := range 20 {
				n := worker*20 + i
				req := ask("POST", "/"+strconv.Itoa(n))
				body := bytes.Repeat([]byte{byte(n)}, n*500)
				req.Length = int64(len(body))
				var src io.Reader
				if n > 0 {
					src = bytes.NewReader(body)
				}
				var res msg.Response
				if err := c.Do(t.Context(), req, src, &res); err != nil {
					t.Errorf("%d: %v", n, err)
					return
				}
				if n%7 == 3 {
					res.Close()
					continue
				}
				p, err := io.ReadAll(res.Body)
				want := append([]byte(fmt.Sprintf("%x", sha256.Sum256(body))), bytes.Repeat([]byte{byte(n)}, n*1000)...)
				if err != nil || !bytes.Equal(p, want) {
					t.Errorf("%d: %d bytes of %d, %v", n, len(p), len(want), err)
				}
				res.Close()
			}
		})
	}
	work.Wait()
	if c.mu.Lock(); c.extra != 0 || c.blocked != 0 || len(c.streams) != 0 {
		t.Errorf("extra %d, blocked %d, streams %d", c.extra, c.blocked, len(c.streams))
	}
	c.mu.Unlock()
}

// A request's body goes on while its answer streams.
func TestBothWaysAtOnce(t *testing.T) {
	c := serve(t, Limits{}, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(200)
		http.NewResponseController(w).Flush()
		p := make([]byte, 5)
		for {
			if _, err := io.ReadFull(r.Body, p); err != nil {
				return
			}
			_, _ = w.Write(p)
			http.NewResponseController(w).Flush()
		}
	})
	in, out := io.Pipe()
	req := ask("POST", "/")
	req.Length = msg.LengthUnknown
	var res msg.Response
	if err := c.Do(t.Context(), req, in, &res); err != nil {
		t.Fatal(err)
	}
	for _, word := range []string{"first", "other", "third"} {
		if _, err := io.WriteString(out, word); err != nil {
			t.Fatal(err)
		}
		p := make([]byte, 5)
		if _, err := io.ReadFull(res.Body, p); err != nil || string(p) != word {
			t.Fatalf("got %q, %v", p, err)
		}
	}
	_ = out.Close()
	if p, err := io.ReadAll(res.Body); err != nil || len(p) != 0 {
		t.Errorf("end: %q, %v", p, err)
	}
	res.Close()
}

// A reader who takes nothing of one answer does not stop another's.
func TestSlowReaderHoldsUpNobody(t *testing.T) {
	c := serve(t, Limits{}, func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write(make([]byte, 4<<20)) })
	for range 40 { // more than the connection's window, were it not given back
		var res msg.Response
		if err := c.Do(t.Context(), ask("GET", "/"), nil, &res); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(res.Close)
	}
	if _, p := get(t, c, ask("GET", "/"), nil); len(p) != 4<<20 {
		t.Errorf("%d bytes", len(p))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, st := range c.streams {
		kept := 0
		for _, k := range st.queue {
			kept += k.w - k.r
		}
		if kept > firstWindow {
			t.Errorf("%d bytes are kept for a reader who does not come", kept)
		}
	}
}

func TestFailures(t *testing.T) {
	block := make(chan struct{})
	c := serve(t, Limits{}, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/abort":
			panic(http.ErrAbortHandler)
		case "/abort-later":
			_, _ = w.Write(make([]byte, 1000))
			http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		case "/wait":
			select {
			case <-block:
			case <-r.Context().Done():
			}
		}
	})
	defer close(block)
	check := func(name string, err error, side fault.Side, kind fault.Kind, retry bool) {
		t.Helper()
		f, ok := errors.AsType[*fault.Error](err)
		if !ok || f.Side != side || f.Kind != kind || f.Retry != retry {
			t.Errorf("%s: %+v, want %s, %s, retry %v", name, f, side, kind, retry)
		}
	}
	var res msg.Response
	check("abort", c.Do(t.Context(), ask("GET", "/abort"), nil, &res), fault.Origin, fault.Closed, false)
	if err := c.Do(t.Context(), ask("GET", "/abort-later"), nil, &res); err != nil {
		t.Fatal(err)
	}
	p, err := io.ReadAll(res.Body)
	if len(p) != 1000 {
		t.Errorf("%d bytes before the abort", len(p))
	}
	check("abort later", err, fault.Origin, fault.Closed, false)
	res.Close()
	res.Reset()

	ctx, cancel := context.WithCancel(t.Context())
	go cancel()
	check("cancelled", c.Do(ctx, ask("GET", "/wait"), nil, &res), fault.Visitor, fault.Closed, false)
	ctx, cancel = context.WithTimeout(t.Context(), 1)
	defer cancel()
	check("out of time", c.Do(ctx, ask("GET", "/wait"), nil, &res), fault.Origin, fault.Timeout, false)

	req := ask("POST", "/wait")
	req.Length = 10
	check("short body", c.Do(t.Context(), req, strings.NewReader("short"), &res), fault.Visitor, fault.Closed, false)
	mine := &fault.Error{Op: "visitor", Side: fault.Visitor, Kind: fault.Timeout}
	check("failing body", c.Do(t.Context(), req, failing{mine}, &res), fault.Visitor, fault.Timeout, false)
	for name, change := range map[string]func(*msg.Request){
		"space in target":    func(r *msg.Request) { r.Target = []byte("/a b") },
		"absolute target":    func(r *msg.Request) { r.Target = []byte("http://a/") },
		"line in a value":    func(r *msg.Request) { r.Fields.Add([]byte("a"), []byte("b\r\nc: d")) },
		"colon in a name":    func(r *msg.Request) { r.Fields.Add([]byte("a:"), []byte("b")) },
		"empty method":       func(r *msg.Request) { r.MethodText = nil },
		"user in authority":  func(r *msg.Request) { r.Authority = []byte("u@h") },
		"space in a upgrade": func(r *msg.Request) { r.Upgrade = []byte("a b") },
	} {
		req := ask("GET", "/")
		change(req)
		check(name, c.Do(t.Context(), req, nil, &res), fault.Edge, fault.Malformed, false)
	}
	if status, _ := get(t, c, ask("GET", "/"), nil); status != 200 {
		t.Errorf("afterwards: %d", status)
	}
	_ = c.Close()
	check("closed", c.Do(t.Context(), ask("GET", "/"), nil, &res), fault.Origin, fault.Closed, true)
	if c.Capacity() != 0 {
		t.Error("usable after Close")
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func BenchmarkDo(b *testing.B) {
	c := serve(b, Limits{}, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 1024)) })
	req := ask("GET", "/a", "Accept: */*", "User-Agent: bench", "Accept-Encoding: gzip")
	buf := make([]byte, 4096)
	var res msg.Response
	b.ReportAllocs()
	for b.Loop() {
		res.Reset()
		if err := c.Do(b.Context(), req, nil, &res); err != nil {
			b.Fatal(err)
		}
		msgtest.Discard(b, &res, buf)
	}
}
