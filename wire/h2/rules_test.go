package h2

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"github.com/selvage-edge/selvage/fault"
	"github.com/selvage-edge/selvage/wire/msg"
	"github.com/selvage-edge/selvage/wire/msg/msgtest"
)

// h2spec covers most of RFC 9113; here is what it does not ask.
func TestMalformedRequestsAreReset(t *testing.T) {
	for name, nv := range map[string][]string{
		"no authority":        {":method", "GET", ":scheme", "https", ":path", "/"},
		"empty authority":     {":method", "GET", ":scheme", "https", ":path", "/", ":authority", ""},
		"user in authority":   {":method", "GET", ":scheme", "https", ":path", "/", ":authority", "u@a.test"},
		"host differs":        get("/", "host", "b.test"),
		"two hosts":           get("/", "host", "a.test", "host", "a.test"),
		"relative path":       get("x"),
		"asterisk":            get("*"),
		"space in path":       get("/a b"),
		"fragment":            get("/a#b"),
		"newline in value":    get("/", "x", "a\nb"),
		"return in value":     get("/", "x", "a\rb"),
		"zero in value":       get("/", "x", "a\x00b"),
		"space around value":  get("/", "x", " a"),
		"space in name":       get("/", "x y", "a"),
		"capital":             get("/", "X", "a"),
		"empty name":          get("/", "", "a"),
		"transfer-encoding":   get("/", "transfer-encoding", "chunked"),
		"connection":          get("/", "connection", "close"),
		"upgrade":             get("/", "upgrade", "websocket"),
		"te":                  get("/", "te", "gzip"),
		"length with the end": get("/", "content-length", "5"),
		"two lengths":         get("/", "content-length", "0", "content-length", "0"),
		"list of lengths":     get("/", "content-length", "0, 0"),
		"signed length":       get("/", "content-length", "+0"),
		"imitated length":     get("/", "content_length", "5"),
		"settings of h2c":     get("/", "http2-settings", "AAMAAABk"),
		"other scheme":        {":method", "GET", ":scheme", "ftp", ":authority", "a.test", ":path", "/"},
		"bad method":          {":method", "G T", ":scheme", "https", ":authority", "a.test", ":path", "/"},
		"status":              append([]string{":status", "200"}, get("/")...),
		"late pseudo":         append(get("/", "x", "y"), ":path", "/z"),
		"protocol":            append([]string{":protocol", "websocket"}, get("/")...),
		"connect with path":   {":method", "CONNECT", ":authority", "a.test:443", ":path", "/"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				site := inline(answer200)
				p := dial(t, site, Limits{})
				p.headers(1, true, nv...)
				p.want("RST_STREAM 1 PROTOCOL_ERROR")
				p.headers(3, true, get("/")...)
				p.want("HEADERS 3 200", "DATA 3 1 end")
				synctest.Wait()
				if site.Status != 400 || site.Calls() != "refused\nstep GET /\ndone" {
					t.Errorf("refused with %d, calls %s", site.Status, site.Calls())
				}
			})
		})
	}
}

func TestRefusedByStatus(t *testing.T) {
	for _, c := range []struct {
		name   string
		nv     []string
		end    bool
		status string
	}{
		{"too large a section", get("/", "x", strings.Repeat("y", 3000)), true, "431"},
		{"too many lines", get("/", strings.Split(strings.Repeat("a,b,", 20), ",")[:40]...), true, "431"},
		{"too large a body", post("/", "content-length", "1001"), false, "413"},
		{"connect", []string{":method", "CONNECT", ":authority", "a.test:443"}, false, "501"},
		{"expectation", post("/", "expect", "miracles"), false, "417"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := dial(t, inline(answer200), Limits{Head: 2500, Fields: 10, Body: 1000})
				p.headers(1, c.end, c.nv...)
				p.want("HEADERS 1 " + c.status)
				if got := p.next(); !strings.HasPrefix(got, "DATA 1 ") || !strings.HasSuffix(got, " end") {
					t.Errorf("got %q", got)
				}
				if !c.end {
					p.want("RST_STREAM 1 NO_ERROR")
					p.data(1, true, "on its way")
				}
				p.headers(3, true, get("/")...)
				p.want("HEADERS 3 200", "DATA 3 1 end")
			})
		})
	}
}

func TestBodyThatIsNotAsAnnounced(t *testing.T) {
	for name, send := range map[string]func(p *peer){
		"short":            func(p *peer) { p.data(1, true, "abc") },
		"long":             func(p *peer) { p.data(1, false, "abcdef") },
		"ended by nothing": func(p *peer) { p.data(1, false, "abc"); p.data(1, true, "") },
		"short, trailers":  func(p *peer) { p.data(1, false, "abc"); p.headers(1, true, "x", "y") },
		"bad trailers":     func(p *peer) { p.data(1, false, "abcde"); p.headers(1, true, "content-length", "5") },
		"pseudo trailers":  func(p *peer) { p.data(1, false, "abcde"); p.headers(1, true, ":path", "/") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				got := make(chan error, 1)
				p := dial(t, readBody(got), Limits{})
				p.headers(1, false, post("/", "content-length", "5")...)
				send(p)
				p.want("RST_STREAM 1 PROTOCOL_ERROR")
				if f, ok := errors.AsType[*fault.Error](<-got); !ok || f.Kind != fault.Malformed {
					t.Errorf("body ended by %v", f)
				}
			})
		})
	}
}

// The body's window opens as the handler reads, and not before.
func TestBodyWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		read := make(chan int)
		total := 0
		s := &msgtest.Site{Answer: func(req *msg.Request, res *msg.Response) {
			buf := make([]byte, 1<<20)
			for n := range read {
				k, err := io.ReadFull(req.Body, buf[:n])
				total += k
				if err != nil {
					break
				}
			}
			res.Status = 200
		}}
		p := dial(t, s, Limits{Window: 16 << 10, Windows: 64 << 10})
		p.headers(1, false, post("/")...)
		p.data(1, false, strings.Repeat("x", 16<<10))
		synctest.Wait()
		p.data(1, false, "x")
		p.want("RST_STREAM 1 FLOW_CONTROL_ERROR")
		close(read)
		synctest.Wait()

		read2 := 0
		p = dial(t, &msgtest.Site{Answer: func(req *msg.Request, res *msg.Response) {
			n, err := io.Copy(io.Discard, req.Body)
			read2 = int(n)
			if res.Status = 200; err != nil {
				res.Status = 400
			}
		}}, Limits{Window: 16 << 10, Windows: 64 << 10})
		p.headers(1, false, post("/")...)
		for i := range 100 {
			p.data(1, i == 99, strings.Repeat("x", 1000))
			synctest.Wait() // taken, so that the window is open again
		}
		p.want("HEADERS 1 200 end")
		if read2 != 100_000 {
			t.Errorf("%d bytes read", read2)
		}
	})
}

// What nobody reads opens the connection's window again all the same.
func TestUnreadBodiesDoNotStopTheConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := dial(t, &msgtest.Site{Answer: func(_ *msg.Request, res *msg.Response) { res.Status = 200 }}, Limits{Window: 64 << 10, Windows: 65535})
		for i := range uint32(20) {
			p.headers(2*i+1, false, post("/")...)
			for range 3 { // what is not yet given back is less than a quarter
				p.data(2*i+1, false, strings.Repeat("x", 16000))
			}
			for got := p.next(); !strings.HasPrefix(got, "RST_STREAM"); got = p.next() {
				if got == "end" {
					t.Fatal("connection ended")
				}
			}
			synctest.Wait()
		}
	})
}

func TestContinueAndEarlyHints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := dial(t, &msgtest.Site{Answer: func(req *msg.Request, res *msg.Response) {
			var hints msg.Fields
			hints.AddID(msg.Link, []byte("</a.css>; rel=preload"))
			if err := req.Interim(103, &hints); err != nil {
				t.Error(err)
			}
			if req.Interim(101, nil) == nil || req.Interim(200, nil) == nil {
				t.Error("sent what is no interim answer")
			}
			if req.Body != nil {
				if _, err := io.ReadAll(req.Body); err != nil {
					t.Error(err)
				}
			}
			res.Status = 204
		}}, Limits{})
		p.headers(1, false, post("/", "expect", "100-continue")...)
		p.want("HEADERS 1 103", "HEADERS 1 100")
		p.data(1, true, "x")
		p.want("HEADERS 1 204 end")
	})
}

func TestAnswersThatCannotBeWritten(t *testing.T) {
	for name, c := range map[string]struct {
		serve func(*msg.Request, *msg.Response)
		want  []string
	}{
		"field": {func(_ *msg.Request, res *msg.Response) {
			res.Status = 200
			res.Fields.Add([]byte("x"), []byte("a\r\nb"))
		}, []string{"HEADERS 1 500", "DATA 1 22 end"}},
		"status": {func(_ *msg.Request, res *msg.Response) { res.Status = 600 }, []string{"HEADERS 1 500", "DATA 1 22 end"}},
		"short": {func(_ *msg.Request, res *msg.Response) {
			res.Status, res.Length, res.Body = 200, 10, io.NopCloser(strings.NewReader("abc"))
		}, []string{"HEADERS 1 200", "DATA 1 3", "RST_STREAM 1 INTERNAL_ERROR"}},
		"broken": {func(_ *msg.Request, res *msg.Response) {
			res.Status, res.Length, res.Body = 200, msg.LengthUnknown, io.NopCloser(io.MultiReader(strings.NewReader("abc"), broken{errors.New("origin broke")}))
		}, []string{"HEADERS 1 200", "DATA 1 3", "RST_STREAM 1 INTERNAL_ERROR"}},
		"called off": {func(_ *msg.Request, res *msg.Response) {
			res.Status, res.Length, res.Body = 200, 5, io.NopCloser(broken{&fault.Error{Side: fault.Origin, Kind: fault.Cancelled}})
		}, []string{"HEADERS 1 200", "RST_STREAM 1 CANCEL"}},
		"stuck": {func(_ *msg.Request, res *msg.Response) {
			res.Status, res.Length, res.Body = 200, msg.LengthUnknown, io.NopCloser(nothingness{})
		}, []string{"HEADERS 1 200", "RST_STREAM 1 INTERNAL_ERROR"}},
		"dropped": {func(_ *msg.Request, res *msg.Response) { res.EndConn = true }, []string{"end"}},
	} {
		for kind, h := range map[string]func() (msg.Handler, *msgtest.Site){
			"serve": func() (msg.Handler, *msgtest.Site) { s := &msgtest.Site{Answer: c.serve}; return s, s },
			"step":  func() (msg.Handler, *msgtest.Site) { s := inline(c.serve); return s, s.Site },
		} {
			t.Run(name+" "+kind, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					h, site := h()
					p := dial(t, h, Limits{})
					p.headers(1, true, get("/")...)
					p.want(c.want...)
					synctest.Wait()
					if site.Err == nil {
						t.Error("Done was told of success")
					}
				})
			})
		}
	}
}

type broken struct{ err error }

func (b broken) Read([]byte) (int, error) { return 0, b.err }

type nothingness struct{}

func (nothingness) Read([]byte) (int, error) { return 0, nil }

// Answers leave by urgency, whole ones before incremental ones, those by turns.
func TestPriorities(t *testing.T) {
	body := func(_ *msg.Request, res *msg.Response) { res.Status, res.Bytes = 200, bytes.Repeat([]byte("x"), 20000) }
	order := func(t *testing.T, ask func(p *peer)) string {
		t.Helper()
		p := dial(t, inline(body), Limits{})
		p.send(func() error { return p.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0}) })
		ask(p)
		p.send(func() error { return p.fr.WriteWindowUpdate(0, 1<<20) })
		p.send(func() error {
			return p.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20})
		})
		var seen []string
		for ends := 0; ends < 3; {
			got := strings.Fields(p.next())
			if got[0] == "DATA" {
				seen = append(seen, got[1])
			}
			if len(got) == 4 {
				ends++
			}
		}
		return strings.Join(seen, "")
	}
	for _, c := range []struct {
		name string
		ask  func(p *peer)
		want string
	}{
		{"by age", func(p *peer) {
			for _, id := range []uint32{1, 3, 5} {
				p.headers(id, true, get("/")...)
			}
		}, "113355"},
		{"by urgency", func(p *peer) {
			p.headers(1, true, get("/", "priority", "u=7")...)
			p.headers(3, true, get("/")...)
			p.headers(5, true, get("/", "priority", "u=0")...)
		}, "553311"},
		{"by turns", func(p *peer) {
			p.headers(1, true, get("/", "priority", "i")...)
			p.headers(3, true, get("/", "priority", "i, u=3")...)
			p.headers(5, true, get("/")...)
		}, "551313"},
		{"updated", func(p *peer) {
			p.send(func() error { return p.fr.WriteRawFrame(http2.FrameType(0x10), 0, 0, []byte("\x00\x00\x00\x03u=1")) })
			for _, id := range []uint32{1, 3, 5} {
				p.headers(id, true, get("/", "priority", "u=5")...)
			}
			p.send(func() error { return p.fr.WriteRawFrame(http2.FrameType(0x10), 0, 0, []byte("\x00\x00\x00\x05u=0")) })
		}, "553311"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if got := order(t, c.ask); got != c.want {
					t.Errorf("DATA of streams %s, want %s", got, c.want)
				}
			})
		})
	}
}

// pipe is one side of a tunnel whose other side the test holds.
type pipe struct {
	*msgtest.Conn
}

func TestTunnel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := msgtest.Conns(1 << 16)
		var asked msg.Request
		site := &msgtest.Site{Answer: func(req *msg.Request, res *msg.Response) {
			asked = *req
			res.Status, res.Tunnel = 101, pipe{near}
			res.Fields.AddID(msg.Upgrade, []byte("websocket"))
			res.Fields.AddID(msg.SecWebSocketAccept, []byte("x"))
		}}
		p := dial(t, site, Limits{})
		p.headers(1, false, ":method", "CONNECT", ":protocol", "websocket", ":scheme", "https", ":authority", "a.test", ":path", "/chat", "sec-websocket-version", "13")
		p.want("HEADERS 1 200")
		if asked.Method != msg.GET || string(asked.Upgrade) != "websocket" || asked.Body != nil || asked.Length != 0 {
			t.Errorf("asked %s %s, upgrade %q, length %d", asked.MethodText, asked.Target, asked.Upgrade, asked.Length)
		}
		p.data(1, false, "ping")
		buf := make([]byte, 10)
		if n, err := far.Read(buf); err != nil || string(buf[:n]) != "ping" {
			t.Errorf("%q, %v", buf[:n], err)
		}
		if _, err := far.Write([]byte("pong!")); err != nil {
			t.Error(err)
		}
		p.want("DATA 1 5")
		p.data(1, true, "") // the visitor ends its side; the other goes on
		if n, err := far.Read(buf); err != io.EOF {
			t.Errorf("%q, %v", buf[:n], err)
		}
		_, _ = far.Write([]byte("bye"))
		_ = far.Close()
		p.want("DATA 1 3", "DATA 1 0 end")
		synctest.Wait()
		if site.Err != nil || site.Sent != 8 {
			t.Errorf("Done was told %d, %v", site.Sent, site.Err)
		}
	})
}

func TestTunnelEnds(t *testing.T) {
	for name, c := range map[string]struct {
		do   func(p *peer, far *msgtest.Conn)
		want string
	}{
		"reset":     {func(p *peer, _ *msgtest.Conn) { _ = p.fr.WriteRSTStream(1, http2.ErrCodeCancel) }, ""},
		"far fails": {func(_ *peer, far *msgtest.Conn) { far.Break() }, "RST_STREAM 1 INTERNAL_ERROR"},
		"idle":      {func(*peer, *msgtest.Conn) { time.Sleep(80 * time.Second) }, "RST_STREAM 1 CANCEL"},
		"visitor":   {func(p *peer, _ *msgtest.Conn) { _ = p.nc.Close() }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				near, far := msgtest.Conns(1 << 16)
				site := &msgtest.Site{Answer: func(_ *msg.Request, res *msg.Response) { res.Status, res.Tunnel = 101, pipe{near} }}
				p := dial(t, site, Limits{})
				p.headers(1, false, ":method", "CONNECT", ":protocol", "websocket", ":scheme", "https", ":authority", "a.test", ":path", "/")
				p.want("HEADERS 1 200")
				c.do(p, far)
				if c.want != "" {
					p.want(c.want)
				}
				synctest.Wait()
				if !strings.HasSuffix(strings.TrimSuffix(site.Calls(), "\nclose"), "done") || site.Err == nil {
					t.Errorf("%v, calls %s", site.Err, site.Calls())
				}
				if n, err := far.Read(make([]byte, 1)); n > 0 || err == nil {
					t.Errorf("far side is still open: %d, %v", n, err)
				}
			})
		})
	}
}

// A refused tunnel is an answer like any other.
func TestTunnelRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := dial(t, &msgtest.Site{Answer: answer200}, Limits{})
		p.headers(1, false, ":method", "CONNECT", ":protocol", "websocket", ":scheme", "https", ":authority", "a.test", ":path", "/")
		p.want("HEADERS 1 200", "DATA 1 1 end", "RST_STREAM 1 NO_ERROR")
	})
}
