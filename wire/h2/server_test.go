package h2

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/net/http2"

	"github.com/selvage-edge/selvage/wire/msg"
	"github.com/selvage-edge/selvage/wire/msg/msgtest"
)

// client is golang.org/x/net's side of an in-memory connection.
func client(t testing.TB, s *Server) *http2.ClientConn { //nolint:staticcheck // SA1019: it takes a connection in memory
	t.Helper()
	visitor, _ := start(t, s, 1<<20)
	cc, err := (&http2.Transport{AllowHTTP: true}).NewClientConn(visitor) //nolint:staticcheck // SA1019: it takes a connection in memory
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cc.Close() })
	return cc
}

func ask(t testing.TB, cc *http2.ClientConn, method, path string, body io.Reader, head ...string) (*http.Response, string) { //nolint:staticcheck // SA1019: it takes a connection in memory
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://a.test"+path, body)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(head); i += 2 {
		req.Header.Add(head[i], head[i+1])
	}
	res, err := cc.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(text)
}

func TestAnswersInlineAndByGoroutine(t *testing.T) {
	for name, h := range map[string]msg.Handler{"serve": &msgtest.Site{Answer: msgtest.Describe}, "step": inline(msgtest.Describe)} {
		cc := client(t, NewServer(h, Limits{}))
		for i := range 3 {
			res, text := ask(t, cc, "GET", fmt.Sprintf("/x?n=%d", i), nil, "X-One", "1", "Cookie", "a=b; c=d")
			want := fmt.Sprintf("GET /x?n=%d @a.test", i)
			if res.StatusCode != 200 || !strings.HasPrefix(text, want) || !strings.Contains(text, "|Host=a.test") ||
				!strings.Contains(text, "|x-one=1") || !strings.Contains(text, "|Cookie=a=b; c=d") {
				t.Errorf("%s: %d %q", name, res.StatusCode, text)
			}
			if res.Header.Get("Date") == "" || res.ContentLength != int64(len(text)) {
				t.Errorf("%s: head %v", name, res.Header)
			}
		}
	}
}

// What ten requests of one read are answered goes out by one write, so that it is
// one record of TLS.
func TestAnswersOfOneReadAreOneWrite(t *testing.T) {
	const rounds = 20
	f := serveHits(t, 10, rounds)
	// Beside those: settings, the first answer, the end.
	if f.Writes > rounds+4 {
		t.Errorf("%d writes for %d reads of 10 requests each", f.Writes, rounds)
	}
}

func TestBodiesAndTrailersBothWays(t *testing.T) {
	echo := func(req *msg.Request, res *msg.Response) {
		res.Status, res.Length, res.Body, res.Trailer = 200, msg.LengthUnknown, req.Body, &req.Trailer
	}
	cc := client(t, NewServer(&msgtest.Site{Answer: echo}, Limits{}))
	sent := make([]byte, 3<<20)
	_, _ = rand.Read(sent)
	req, _ := http.NewRequestWithContext(t.Context(), "POST", "http://a.test/echo", io.MultiReader(bytes.NewReader(sent)))
	req.Trailer = http.Header{"Grpc-Status": {"0"}}
	res, err := cc.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(res.Body)
	if err != nil || !bytes.Equal(got, sent) {
		t.Fatalf("%d of %d bytes, %v", len(got), len(sent), err)
	}
	if res.Trailer.Get("Grpc-Status") != "0" {
		t.Errorf("trailer %v", res.Trailer)
	}
}

func TestLargeBodiesFromMemoryAndStreams(t *testing.T) {
	data := make([]byte, 5<<20)
	_, _ = rand.Read(data)
	for _, c := range []struct {
		name  string
		serve func(*msg.Request, *msg.Response)
	}{
		{"bytes", func(_ *msg.Request, res *msg.Response) { res.Status, res.Bytes = 200, data }},
		{"stream", func(_ *msg.Request, res *msg.Response) {
			res.Status, res.Length, res.Body = 200, int64(len(data)), io.NopCloser(bytes.NewReader(data))
		}},
		{"unsized stream", func(_ *msg.Request, res *msg.Response) {
			res.Status, res.Length, res.Body = 200, msg.LengthUnknown, io.NopCloser(bytes.NewReader(data))
		}},
	} {
		for name, h := range map[string]msg.Handler{"serve": &msgtest.Site{Answer: c.serve}, "step": inline(c.serve)} {
			cc := client(t, NewServer(h, Limits{}))
			if _, text := ask(t, cc, "GET", "/", nil); text != string(data) {
				t.Errorf("%s, %s: %d bytes", c.name, name, len(text))
			}
		}
	}
}

func TestManyAtOnce(t *testing.T) {
	s := &msgtest.Site{Answer: msgtest.Describe}
	cc := client(t, NewServer(s, Limits{}))
	errs := make(chan error)
	for i := range 100 {
		go func() {
			req, _ := http.NewRequestWithContext(t.Context(), "GET", fmt.Sprintf("http://a.test/%d", i), nil)
			res, err := cc.RoundTrip(req)
			if err == nil {
				_, err = io.ReadAll(res.Body)
			}
			errs <- err
		}()
	}
	for range 100 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

func TestHeadAndBodilessAnswers(t *testing.T) {
	h := inline(func(req *msg.Request, res *msg.Response) {
		res.Status, res.Bytes = 200, []byte("four")
		switch string(req.Path) {
		case "/204":
			res.Status, res.Bytes = 204, nil
		case "/304":
			res.Status, res.Bytes = 304, nil
		}
	})
	cc := client(t, NewServer(h, Limits{}))
	for _, c := range []struct {
		method, path string
		status       int
		length       int64
	}{{"HEAD", "/", 200, 4}, {"GET", "/204", 204, 0}, {"GET", "/304", 304, 0}} {
		res, text := ask(t, cc, c.method, c.path, nil)
		if res.StatusCode != c.status || text != "" || res.ContentLength != c.length {
			t.Errorf("%s %s: %d, %q, length %d", c.method, c.path, res.StatusCode, text, res.ContentLength)
		}
	}
}

func TestWeakCiphersOfTLS12AreRefused(t *testing.T) {
	for suite, want := range map[uint16]string{
		tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA:    "GOAWAY 0 INADEQUATE_SECURITY",
		tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256: "HEADERS 1 200",
	} {
		a, b := msgtest.Conns(1 << 16)
		go NewServer(inline(msgtest.Describe), Limits{}).ServeConn(b, &msg.Conn{TLS: &tls.ConnectionState{Version: tls.VersionTLS12, CipherSuite: suite}})
		p := newPeer(t, a)
		greet(p)
		p.headers(1, true, get("/")...)
		p.want(want)
		_ = a.Close()
	}
}

func TestConnectionEndsWhenAnAnswerSaysSo(t *testing.T) {
	h := inline(func(_ *msg.Request, res *msg.Response) { res.Status, res.EndConn = 200, true })
	visitor, ended := start(t, NewServer(h, Limits{}), 1<<20)
	cc, err := (&http2.Transport{AllowHTTP: true}).NewClientConn(visitor) //nolint:staticcheck // SA1019: it takes a connection in memory
	if err != nil {
		t.Fatal(err)
	}
	ask(t, cc, "GET", "/", nil)
	_ = cc.Shutdown(t.Context())
	<-ended
}
