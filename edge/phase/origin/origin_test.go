package origin

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/selvage-edge/selvage/edge/request"
	"github.com/selvage-edge/selvage/fault"
	"github.com/selvage-edge/selvage/wire/msg"
)

const addr = "192.0.2.1"

// echo answers with what it was sent.
var echo = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	fmt.Fprintf(w, "%s %s %s|%s", r.Method, r.Host, r.RequestURI, body)
})

func TestAnswersComeOverKeptConnections(t *testing.T) {
	w := &world{hosts: map[string]func() (net.Conn, error){addr + ":80": serve(t, echo)}}
	e := newEngine(t, w, nil)
	p := plan(t, "flexible", addr)
	for i := range 5 {
		r := ask(t, "GET", "/a?b=c", nil)
		if got, want := run(t, e, p, r), "GET shop.test /a?b=c|"; got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
		if r.Tried.Reused != (i > 0) || r.Tried.Status != 200 || !r.Tried.Addr.IsValid() {
			t.Errorf("request %d: noted %+v", i, r.Tried)
		}
	}
	for _, body := range []string{"", "some", strings.Repeat("long", 100_000)} {
		if got, want := run(t, e, p, ask(t, "POST", "/p", strings.NewReader(body))), "POST shop.test /p|"+body; got != want {
			t.Errorf("POST of %d bytes: got %.60q", len(body), got)
		}
	}
	if got := w.called(); got != addr+":80" {
		t.Errorf("connected %q, want once", got)
	}
	if got := metric(t, e, "selvage_origin_reuses_total", ""); got != 7 {
		t.Errorf("reuses %v, want 7", got)
	}
}

func TestWhatTheOriginIsSent(t *testing.T) {
	var got atomic.Value
	origin := scripted(t, func(_ int, nc net.Conn) {
		req, err := http.ReadRequest(bufio.NewReader(nc))
		if err != nil {
			return
		}
		var f msg.Fields
		f.Add([]byte("Host"), []byte(req.Host))
		for name, values := range req.Header {
			for _, v := range values {
				f.Add([]byte(name), []byte(v))
			}
		}
		got.Store(fieldsOf(&f))
		_, _ = io.WriteString(nc, "HTTP/1.1 204 No Content\r\n\r\n")
	})
	w := &world{hosts: map[string]func() (net.Conn, error){addr + ":80": origin}}
	e := newEngine(t, w, nil)
	r := ask(t, "GET", "/", nil,
		"Accept-Encoding: br, gzip", "User-Agent: x", "Cookie: a=b",
		"Connection: close, X-Private, Cookie2, CDN-Loop", "X-Private: 1", "Cookie2: 1", "Keep-Alive: 5", "Proxy-Authorization: basic", "Proxy-Foo: 1",
		"TE: gzip, trailers", "Upgrade: h2c", "HTTP2-Settings: x", "Expect: 100-continue", "Trailer: X",
		"CF-Connecting-IP: 6.6.6.6", "CF-Evil: 1", "X-Forwarded-For: 6.6.6.6", "X-Forwarded-Proto: gopher",
		"CDN-Loop: othercdn; v=2")
	run(t, e, plan(t, "flexible", addr), r)
	want := `Accept-Encoding: br, gzip
Cdn-Loop: othercdn; v=2
Cdn-Loop: selvage; zone=` + zoneID + `
Cf-Connecting-Ip: 192.0.2.7
Cf-Ipcountry: DE
Cf-Ray: 0123456789abcdef-FRA
Cf-Visitor: {"scheme":"https"}
Connection: TE
Cookie: a=b
Host: shop.test
Te: trailers
User-Agent: x
X-Forwarded-For: 192.0.2.7
X-Forwarded-Proto: https`
	if got.Load() != want {
		t.Errorf("sent\n%s\nwant\n%s", got.Load(), want)
	}
}

func TestWhatTheVisitorIsSent(t *testing.T) {
	origin := scripted(t, func(_ int, nc net.Conn) {
		_, _ = http.ReadRequest(bufio.NewReader(nc))
		_, _ = io.WriteString(nc, "HTTP/1.1 302 Found\r\nLocation: https://elsewhere.test/\r\nServer: nginx\r\nSet-Cookie: a=b\r\n"+
			"Connection: X-Hop, keep-alive\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nAlt-Svc: h3=\":443\"\r\nCF-Ray: forged\r\nCF-Cache-Status: HIT\r\nCF-Other: 1\r\n"+
			"Proxy-Authenticate: x\r\nContent-Length: 2\r\nX-Powered-By: php\r\n\r\nhi")
	})
	w := &world{hosts: map[string]func() (net.Conn, error){addr + ":80": origin}}
	e := newEngine(t, w, nil)
	r := ask(t, "GET", "/", nil)
	if _, err := e.Run(plan(t, "off", addr), r); err != nil {
		t.Fatal(err)
	}
	want := "Location: https://elsewhere.test/\nSet-Cookie: a=b\nX-Powered-By: php"
	if got := fieldsOf(&r.Out.Fields); got != want || r.Out.Status != 302 || r.Out.Length != 2 {
		t.Errorf("status %d, length %d, fields\n%s\nwant\n%s", r.Out.Status, r.Out.Length, got, want)
	}
	if got := read(t, r); got != "hi" {
		t.Errorf("body %q", got)
	}
}

func TestRouteOverridesReachTheOrigin(t *testing.T) {
	w := &world{hosts: map[string]func() (net.Conn, error){"app.example:9000": serve(t, echo)}}
	e := newEngine(t, w, nil)
	p := plan(t, "flexible", addr)
	rules, err := CompileRules([]byte(`{"rules":[{"expression":"true","action":"route","action_parameters":{"origin":{"host":"app.example","port":9000},"host_header":"inner.example"}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	p.rules = rules
	r := ask(t, "GET", "/x", nil)
	if v, err := e.Route(p, r); v != request.Next || err != nil {
		t.Fatalf("route: %v, %v", v, err)
	}
	if got := run(t, e, p, r); got != "GET inner.example /x|" {
		t.Errorf("got %q", got)
	}
}

func TestLoops(t *testing.T) {
	e := newEngine(t, &world{}, nil)
	for _, c := range []struct {
		value string
		loop  bool
	}{
		{"", false},
		{"cloudflare; subreqs=1", false},
		{"selvage; zone=ffffffffffffffffffffffffffffffff", false},
		{"selvage; zone=" + zoneID, true},
		{"selvage;zone=" + zoneID, true},
		{"cloudflare, SELVAGE ; a=1; Zone=\"" + zoneID + "\"", true},
		{"selvage; zone=ff, selvage; zone=" + zoneID, true},
		{"selvager; zone=" + zoneID, false},
		{"other; zone=" + zoneID, false},
		{strings.Repeat("selvage; zone=ff, ", 7), false},
		{strings.Repeat("selvage; zone=ff, ", 8), true},
		{strings.Repeat("other, ", 33), true},
	} {
		r := ask(t, "GET", "/", nil, "CDN-Loop: "+c.value)
		_, err := e.Route(nil, r)
		if (err != nil) != c.loop {
			t.Errorf("%.60q: got %v, want loop %v", c.value, err, c.loop)
		}
		if c.loop {
			wantKind(t, err, fault.Origin, fault.Loop)
		}
	}
}

func TestAnIdleConnectionThatEndedIsNotUsed(t *testing.T) {
	ended := make(chan struct{})
	origin := scripted(t, func(n int, nc net.Conn) {
		_, _ = http.ReadRequest(bufio.NewReader(nc))
		fmt.Fprintf(nc, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d", n)
		if n == 0 {
			_ = nc.Close()
			close(ended)
		}
	})
	w := &world{hosts: map[string]func() (net.Conn, error){addr + ":80": origin}}
	e := newEngine(t, w, nil)
	p := plan(t, "flexible", addr)
	if got := run(t, e, p, ask(t, "GET", "/", nil)); got != "0" {
		t.Fatalf("got %q", got)
	}
	<-ended
	// A POST may not be sent twice: it must not meet the dead connection.
	if got := run(t, e, p, ask(t, "POST", "/", strings.NewReader("x"))); got != "1" {
		t.Errorf("got %q", got)
	}
	if got := metric(t, e, "selvage_origin_retries_total", ""); got != 0 {
		t.Errorf("retries %v, want 0", got)
	}
}

// endsOnSecond answers the first request on each connection and closes on the
// second without a word, as a server does whose idle timer ran out just then.
func endsOnSecond(t *testing.T, seen *atomic.Int32) func() (net.Conn, error) {
	return scripted(t, func(n int, nc net.Conn) {
		br := bufio.NewReader(nc)
		for i := range 2 {
			req, err := http.ReadRequest(br)
			if err != nil {
				return
			}
			body, _ := io.ReadAll(req.Body)
			seen.Add(1)
			if i == 0 {
				fmt.Fprintf(nc, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%d%s", 1+len(body), n, body)
			}
		}
	})
}

func TestOnlySafeRequestsAreSentTwice(t *testing.T) {
	for _, c := range []struct {
		method string
		body   string
		peek   int // bytes of the body held before it is sent
		again  bool
	}{
		{"GET", "", 0, true},
		{"HEAD", "", 0, true},
		{"DELETE", "", 0, true},
		{"PUT", "held", 100, true},
		{"PUT", "gone once sent", 0, false},
		{"POST", "", 0, false},
		{"POST", "held", 100, false},
		{"PATCH", "", 0, false},
	} {
		var seen atomic.Int32
		w := &world{hosts: map[string]func() (net.Conn, error){addr + ":80": endsOnSecond(t, &seen)}}
		e := newEngine(t, w, nil)
		p := plan(t, "flexible", addr)
		run(t, e, p, ask(t, "GET", "/", nil))
		var body io.Reader
		if c.body != "" {
			body = strings.NewReader(c.body)
		}
		r := ask(t, c.method, "/", body)
		if c.peek > 0 {
			if _, _, err := r.Body.Peek(c.peek); err != nil {
				t.Fatal(err)
			}
		}
		_, err := e.Run(p, r)
		if (err == nil) != c.again {
			t.Errorf("%s with body %q held %d: got %v, want sent again %v", c.method, c.body, c.peek, err, c.again)
		}
		if err != nil {
			wantKind(t, err, fault.Origin, fault.Closed)
			continue
		}
		if got := read(t, r); c.method == "PUT" && got != "1"+c.body {
			t.Errorf("%s: the second try brought %q", c.method, got)
		}
		if got := seen.Load(); got != 3 {
			t.Errorf("%s: origin saw %d requests, want 3", c.method, got)
		}
	}
}

func TestNextOriginIsTriedWhenOneCannotBeConnectedTo(t *testing.T) {
	w := &world{hosts: map[string]func() (net.Conn, error){"192.0.2.2:80": serve(t, echo)}}
	e := newEngine(t, w, nil)
	p := plan(t, "flexible", "192.0.2.1", "192.0.2.2", "192.0.2.3")
	for i := range 6 {
		// POST as well: nothing has been sent.
		r := ask(t, "POST", "/", strings.NewReader("x"))
		if got := run(t, e, p, r); got != "POST shop.test /|x" {
			t.Fatalf("request %d: got %q", i, got)
		}
	}
	// The dead ones are tried once, then avoided.
	if got := strings.Count(w.called(), " ") + 1; got > 3 {
		t.Errorf("called %q, want each dead origin at most once", w.called())
	}
}

func TestOriginsTakeTurns(t *testing.T) {
	w := &world{hosts: map[string]func() (net.Conn, error){}}
	for _, a := range []string{"192.0.2.1", "192.0.2.2"} {
		w.hosts[a+":80"] = serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, a) }))
	}
	e := newEngine(t, w, nil)
	p := plan(t, "flexible", "192.0.2.1", "192.0.2.2")
	count := map[string]int{}
	for range 10 {
		count[run(t, e, p, ask(t, "GET", "/", nil))]++
	}
	if count["192.0.2.1"] != 5 || count["192.0.2.2"] != 5 {
		t.Errorf("got %v, want five each", count)
	}
}

func TestUpgradeBecomesATunnel(t *testing.T) {
	origin := scripted(t, func(_ int, nc net.Conn) {
		br := bufio.NewReader(nc)
		req, err := http.ReadRequest(br)
		if err != nil || req.Header.Get("Upgrade") != "websocket" || req.Header.Get("Connection") != "Upgrade" || req.Header.Get("Sec-WebSocket-Key") != "k" {
			return
		}
		_, _ = io.WriteString(nc, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: a\r\nServer: x\r\n\r\nhello")
		b := make([]byte, 4)
		_, _ = io.ReadFull(br, b)
		_, _ = nc.Write(b)
	})
	e := newEngine(t, &world{hosts: map[string]func() (net.Conn, error){addr + ":80": origin}}, nil)
	r := ask(t, "GET", "/ws", nil, "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: k")
	r.In.Upgrade = []byte("websocket")
	v, err := e.Run(plan(t, "flexible", addr), r)
	if err != nil || v != request.Hijack || r.Out.Status != 101 {
		t.Fatalf("got verdict %d, status %d, %v", v, r.Out.Status, err)
	}
	if got, want := fieldsOf(&r.Out.Fields), "Sec-WebSocket-Accept: a\nUpgrade: websocket"; got != want {
		t.Errorf("fields %q, want %q", got, want)
	}
	if _, err := io.WriteString(r.Out.Tunnel, "ping"); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 9)
	if _, err := io.ReadFull(r.Out.Tunnel, b); err != nil || string(b) != "helloping" {
		t.Errorf("read %q, %v", b, err)
	}
	r.Out.Close()
	wantConns(t, e, 0, 0)
}

func TestInterimAnswersReachTheVisitor(t *testing.T) {
	origin := scripted(t, func(_ int, nc net.Conn) {
		_, _ = http.ReadRequest(bufio.NewReader(nc))
		_, _ = io.WriteString(nc, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\nCF-Ray: forged\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
	})
	e := newEngine(t, &world{hosts: map[string]func() (net.Conn, error){addr + ":80": origin}}, nil)
	r := ask(t, "GET", "/", nil)
	var got string
	r.In.Interim = func(status int, f *msg.Fields) error {
		got += fmt.Sprintf("%d %s", status, fieldsOf(f))
		return nil
	}
	run(t, e, plan(t, "flexible", addr), r)
	if got != "103 Link: </a.css>" {
		t.Errorf("got %q", got)
	}
}

func TestRequestTrailersArePassedOn(t *testing.T) {
	var got atomic.Value
	h := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadAll(r.Body)
		got.Store(fmt.Sprint(r.Trailer))
	})
	e := newEngine(t, &world{hosts: map[string]func() (net.Conn, error){addr + ":80": serve(t, h)}}, nil)
	r := ask(t, "POST", "/", strings.NewReader("body"))
	for _, name := range []string{"CF-Connecting-IP", "X-Sum", "X-Forwarded-For", "X_Forwarded_For", "X-Forwarded-Host", "Cf-Any", "True-Client-IP"} {
		r.In.Trailer.Add([]byte(name), []byte("42"))
	}
	run(t, e, plan(t, "flexible", addr), r)
	if got.Load() != "map[X-Sum:[42]]" {
		t.Errorf("trailers %v, want X-Sum alone: nobody may speak for the edge there either", got.Load())
	}
}

func TestAnswersTrailersAreCleaned(t *testing.T) {
	origin := scripted(t, func(_ int, nc net.Conn) {
		_, _ = http.ReadRequest(bufio.NewReader(nc))
		_, _ = io.WriteString(nc, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\nCF-Ray: forged\r\nAlt-Svc: h3\r\n\r\n")
	})
	e := newEngine(t, &world{hosts: map[string]func() (net.Conn, error){addr + ":80": origin}}, nil)
	r := ask(t, "GET", "/", nil)
	if _, err := e.Run(plan(t, "flexible", addr), r); err != nil {
		t.Fatal(err)
	}
	defer r.Out.Close()
	if b, err := io.ReadAll(r.Out.Body); err != nil || string(b) != "ok" {
		t.Fatalf("body %q, error %v", b, err)
	}
	if got := fieldsOf(r.Out.Trailer); got != "X-Sum: 1" {
		t.Errorf("trailers %q", got)
	}
}

// A server that leaves the body of a GET unread takes it for a request of its
// own; its answer must not meet the next visitor's.
func TestAConnectionIsNotKeptBehindTheBodyOfAGet(t *testing.T) {
	for _, c := range []struct {
		method string
		dials  int
	}{{"GET", 2}, {"OPTIONS", 2}, {"POST", 1}, {"PUT", 1}} {
		h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) })
		w := &world{hosts: map[string]func() (net.Conn, error){addr + ":80": serve(t, h)}}
		e := newEngine(t, w, nil)
		for range 2 {
			if got := run(t, e, plan(t, "flexible", addr), ask(t, c.method, "/", strings.NewReader("GET /x HTTP/1.1"))); got != "GET /x HTTP/1.1" {
				t.Errorf("%s: got %q", c.method, got)
			}
		}
		if got := len(strings.Fields(w.called())); got != c.dials {
			t.Errorf("%s with a body, twice: %d connections, want %d", c.method, got, c.dials)
		}
	}
}

func TestCloseEndsIdleConnectionsAndRefuses(t *testing.T) {
	e := New(Config{Dial: (&world{hosts: map[string]func() (net.Conn, error){addr + ":80": serve(t, echo)}}).Dial})
	p := plan(t, "flexible", addr)
	run(t, e, p, ask(t, "GET", "/", nil))
	wantConns(t, e, 1, 1)
	held := ask(t, "GET", "/", nil)
	if _, err := e.Run(p, held); err != nil {
		t.Fatal(err)
	}
	e.Close()
	e.Close()
	if got := read(t, held); got != "GET shop.test /|" {
		t.Errorf("an answer under way was cut: %q", got)
	}
	wantConns(t, e, 0, 0)
	_, err := e.Run(p, ask(t, "GET", "/", nil))
	wantKind(t, err, fault.Edge, fault.Draining)
}

func TestMetricsAreWellFormed(t *testing.T) {
	e := newEngine(t, &world{hosts: map[string]func() (net.Conn, error){addr + ":80": serve(t, echo)}}, nil)
	run(t, e, plan(t, "flexible", addr), ask(t, "GET", "/", nil))
	if busy, idle := metric(t, e, "selvage_origin_connections", "busy"), metric(t, e, "selvage_origin_connections", "idle"); busy != 0 || idle != 1 {
		t.Errorf("%v busy, %v idle; want 0, 1", busy, idle)
	}
	if got := metric(t, e, "selvage_origin_connects_total", ""); got != 1 {
		t.Errorf("connects %v, want 1", got)
	}
}

// metric gathers all and returns the value of one; label is its only label's
// value.
func metric(t *testing.T, e *Engine, name, label string) float64 {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	if err := registry.Register(e); err != nil {
		t.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			got := ""
			for _, l := range m.GetLabel() {
				got = l.GetValue()
			}
			if f.GetName() == name && got == label {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return 0
}
