package h3

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"sync"
	"testing"

	"github.com/quic-go/quic-go/http3"

	"github.com/selvage-edge/selvage/fault"
	"github.com/selvage-edge/selvage/wire/msg"
)

// hello answers every request with what it was.
func hello(req *msg.Request, res *msg.Response) {
	res.Status = 200
	res.Fields.AddID(msg.ContentType, []byte("text/plain"))
	res.Bytes = []byte(req.Method.String() + " " + string(req.Authority) + " " + string(req.Target) + " " + req.Proto.String() + " " + req.Scheme.String())
}

func inline(serve func(*msg.Request, *msg.Response)) func(*msg.Request, *msg.Response) bool {
	return func(req *msg.Request, res *msg.Response) bool {
		serve(req, res)
		return true
	}
}

func get(t *testing.T, c *http.Client, url string) (*http.Response, string) {
	t.Helper()
	res, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(body)
}

func TestAnswersInlineAndBySession(t *testing.T) {
	for name, h := range map[string]*handler{"inline": {step: inline(hello)}, "served": {serve: hello}} {
		t.Run(name, func(t *testing.T) {
			r := start(t, h, Limits{})
			c := r.client(t)
			for range 3 {
				res, body := get(t, c, "https://h3.test/a?b=c")
				if res.StatusCode != 200 || body != "GET h3.test /a?b=c HTTP/3 https" || res.Header.Get("Content-Type") != "text/plain" ||
					res.Header.Get("Date") == "" || res.ContentLength != int64(len(body)) {
					t.Errorf("%d %q %v", res.StatusCode, body, res.Header)
				}
			}
			if st := r.Stats(); st.Requests != 3 || st.Connections != 1 || st.Open != 1 || st.Inline > 0 && name == "served" {
				t.Errorf("%+v", st)
			}
			until(t, func() bool { return len(h.results()) > 2 }) // it is told behind the answer
			if done := h.results(); len(done) != 3 || done[0].err != nil || done[0].sent != 31 {
				t.Errorf("%+v", done)
			}
		})
	}
}

func TestManyRequestsAtATime(t *testing.T) {
	h := &handler{
		step: func(req *msg.Request, res *msg.Response) bool {
			if strings.HasSuffix(string(req.Path), "0") {
				return false
			}
			hello(req, res)
			return true
		},
		serve: hello,
	}
	r := start(t, h, Limits{Streams: 16})
	c := r.client(t)
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			for j := range 20 {
				url := "https://h3.test/" + strings.Repeat("x", i) + string(rune('0'+j%10))
				res, err := c.Get(url)
				if err != nil {
					t.Error(err)
					return
				}
				body, err := io.ReadAll(res.Body)
				if err != nil || !strings.Contains(string(body), url[len("https://h3.test"):]) {
					t.Errorf("%q %v", body, err)
				}
				_ = res.Body.Close()
			}
		})
	}
	wg.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.done) != 400 || h.opened > 17 {
		t.Errorf("%d done by %d sessions", len(h.done), h.opened)
	}
}

func TestBodiesBothWays(t *testing.T) {
	big := bytes.Repeat([]byte("0123456789abcdef"), 256<<10/16)
	echo := func(req *msg.Request, res *msg.Response) {
		res.Status = 200
		if req.Body == nil {
			res.Bytes = []byte("none")
			return
		}
		res.Body, res.Length = req.Body, msg.LengthUnknown
	}
	h := &handler{serve: echo}
	r := start(t, h, Limits{})
	c := r.client(t)
	for name, body := range map[string]io.Reader{
		"none": nil, "empty": strings.NewReader(""), "short": strings.NewReader("short"), "big": bytes.NewReader(big),
		"big without length": struct{ io.Reader }{bytes.NewReader(big)},
	} {
		res, err := c.Post("https://h3.test/", "text/plain", body)
		if err != nil {
			t.Fatal(name, err)
		}
		got, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(name, err)
		}
		want := map[string]string{"none": "none", "empty": "none", "short": "short", "big": string(big), "big without length": string(big)}[name]
		if string(got) != want {
			t.Errorf("%s: %d bytes, want %d", name, len(got), len(want))
		}
	}
}

func TestLargeAnswers(t *testing.T) {
	body := bytes.Repeat([]byte("0123456789"), 300_000)
	sum := sha256.Sum256(body)
	for name, step := range map[string]func(*msg.Request, *msg.Response) bool{
		"bytes": inline(func(_ *msg.Request, res *msg.Response) { res.Status, res.Bytes = 200, body }),
		"stream": inline(func(_ *msg.Request, res *msg.Response) {
			res.Status, res.Body, res.Length = 200, io.NopCloser(bytes.NewReader(body)), int64(len(body))
		}),
		"16 KiB": inline(func(_ *msg.Request, res *msg.Response) { res.Status, res.Bytes = 200, body[:inlineBody] }),
	} {
		h := &handler{step: step}
		c := start(t, h, Limits{}).client(t)
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				res, err := c.Get("https://h3.test/")
				if err != nil {
					t.Error(name, err)
					return
				}
				got, err := io.ReadAll(res.Body)
				if err != nil || name != "16 KiB" && sha256.Sum256(got) != sum || res.ContentLength != int64(len(got)) || name == "16 KiB" && len(got) != inlineBody {
					t.Errorf("%s: %d bytes of %d, %v", name, len(got), res.ContentLength, err)
				}
			})
		}
		wg.Wait()
	}
}

func TestAnswersWithoutBody(t *testing.T) {
	h := &handler{step: inline(func(req *msg.Request, res *msg.Response) {
		switch string(req.Path) {
		case "/head":
			res.Status, res.Bytes = 200, []byte("hello")
		case "/204":
			res.Status, res.Bytes = 204, []byte("never")
		case "/304":
			res.Status = 304
			res.Fields.AddID(msg.ContentLength, []byte("99"))
		case "/empty":
			res.Status = 200
		}
	})}
	c := start(t, h, Limits{}).client(t)
	for _, tt := range []struct {
		method, path string
		status       int
		length       int64
	}{{"HEAD", "/head", 200, 5}, {"GET", "/204", 204, 0}, {"GET", "/304", 304, 99}, {"GET", "/empty", 200, 0}} {
		req, err := http.NewRequest(tt.method, "https://h3.test"+tt.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := c.Do(req)
		if err != nil {
			t.Fatal(tt.path, err)
		}
		body, err := io.ReadAll(res.Body)
		if err != nil || res.StatusCode != tt.status || len(body) != 0 || res.Header.Get("Content-Length") == "" != (tt.status == 204) || res.ContentLength > 0 && res.ContentLength != tt.length {
			t.Errorf("%s %s: %d, %d bytes, %v, %v", tt.method, tt.path, res.StatusCode, len(body), res.Header, err)
		}
	}
}

func TestTrailersAndInterimAnswers(t *testing.T) {
	got := make(chan string, 1)
	h := &handler{serve: func(req *msg.Request, res *msg.Response) {
		var early msg.Fields
		early.AddID(msg.Link, []byte("</a.css>; rel=preload"))
		if err := req.Interim(103, &early); err != nil {
			t.Error(err)
		}
		if _, err := io.Copy(io.Discard, req.Body); err != nil {
			t.Error(err)
		}
		got <- string(req.Trailer.Lookup("x-sum"))
		res.Status, res.Length, res.Body = 200, msg.LengthUnknown, io.NopCloser(strings.NewReader("body"))
		res.Trailer = &msg.Fields{}
		res.Trailer.Add([]byte("Grpc-Status"), []byte("0"))
	}}
	c := start(t, h, Limits{}).client(t)
	req, err := http.NewRequest("POST", "https://h3.test/", struct{ io.Reader }{strings.NewReader("hello")})
	if err != nil {
		t.Fatal(err)
	}
	req.Trailer = http.Header{"X-Sum": {"abc"}}
	var link string
	req = req.WithContext(httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{
		Got1xxResponse: func(code int, header textproto.MIMEHeader) error {
			link = header.Get("Link")
			return nil
		},
	}))
	res, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	if err != nil || string(body) != "body" || res.Trailer.Get("Grpc-Status") != "0" {
		t.Errorf("%q %v %v", body, err, res.Trailer)
	}
	if sum := <-got; sum != "abc" || link == "" {
		t.Errorf("trailer %q, link %q", sum, link)
	}
}

func TestBrokenAnswerIsNoWholeOne(t *testing.T) {
	h := &handler{step: inline(func(_ *msg.Request, res *msg.Response) {
		res.Status, res.Length = 200, msg.LengthUnknown
		res.Body = io.NopCloser(io.MultiReader(strings.NewReader("begin"), brokenReader{errBroken}))
	})}
	c := start(t, h, Limits{}).client(t)
	res, err := c.Get("https://h3.test/")
	if err == nil {
		_, err = io.ReadAll(res.Body)
	}
	if err == nil {
		t.Error("a broken answer looks whole")
	}
	until(t, func() bool { return len(h.results()) > 0 })
	if done := h.results(); len(done) != 1 || !errors.Is(done[0].err, errBroken) {
		t.Errorf("%+v", done)
	}
}

var errBroken = errors.New("broken")

type brokenReader struct{ err error }

func (b brokenReader) Read([]byte) (int, error) { return 0, b.err }

func TestOriginsThatCallAnAnswerOffAreToldApart(t *testing.T) {
	for want, err := range map[http3.ErrCode]error{
		http3.ErrCodeInternalError:   errBroken,
		http3.ErrCodeRequestCanceled: &fault.Error{Side: fault.Origin, Kind: fault.Cancelled},
	} {
		h := &handler{step: inline(func(_ *msg.Request, res *msg.Response) {
			res.Status, res.Length, res.Body = 200, msg.LengthUnknown, io.NopCloser(brokenReader{err})
		})}
		res, got := start(t, h, Limits{}).client(t).Get("https://h3.test/")
		if got == nil {
			_, got = io.ReadAll(res.Body)
		}
		if e, ok := errors.AsType[*http3.Error](got); !ok || e.ErrorCode != want {
			t.Errorf("%v ends the stream with %v", err, got)
		}
	}
}
