package origin

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// serve2 starts somebody else's HTTP/2 server and counts its connections.
func serve2(t testing.TB, h http.HandlerFunc, conns *atomic.Int32) func() (net.Conn, error) {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.EnableHTTP2 = true
	s.Config.ErrorLog = quiet()
	s.StartTLS()
	t.Cleanup(s.Close)
	return func() (net.Conn, error) {
		conns.Add(1)
		return net.Dial("tcp", s.Listener.Addr().String())
	}
}

func engine2(t *testing.T, dial func() (net.Conn, error), change func(*Config)) (*Engine, *Plan) {
	t.Helper()
	e := newEngine(t, &world{hosts: map[string]func() (net.Conn, error){addr + ":443": dial}}, change)
	return e, plan(t, "full", addr)
}

// framed is an HTTP/2 origin of which each step is said: f is called for each
// request, with its stream and how often one came.
func framed(t *testing.T, settings []http2.Setting, f func(fr *http2.Framer, n int, h *http2.MetaHeadersFrame)) func() (net.Conn, error) {
	t.Helper()
	cert, _ := certificate(t, time.Now().Add(time.Hour), "shop.test")
	var count atomic.Int32
	return scripted(t, func(_ int, nc net.Conn) {
		tc := tls.Server(nc, &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2"}})
		if _, err := io.ReadFull(tc, make([]byte, len(http2.ClientPreface))); err != nil {
			return
		}
		// What is written waits in a queue, as pipes have no room.
		out := make(chan []byte, 1000)
		done := make(chan struct{})
		go func() {
			defer close(done)
			for p := range out {
				_, _ = tc.Write(p)
			}
		}()
		defer func() { close(out); <-done }()
		fr := http2.NewFramer(queue(out), tc)
		fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
		_ = fr.WriteSettings(settings...)
		for {
			x, err := fr.ReadFrame()
			if err != nil {
				return
			}
			switch x := x.(type) {
			case *http2.MetaHeadersFrame:
				f(fr, int(count.Add(1))-1, x)
			case *http2.DataFrame:
				if bytes.HasPrefix(x.Data(), []byte("echo")) {
					_ = fr.WriteData(x.StreamID, x.StreamEnded(), x.Data())
				}
			case *http2.SettingsFrame:
				if !x.IsAck() {
					_ = fr.WriteSettingsAck()
				}
			}
		}
	})
}

type queue chan []byte

func (q queue) Write(p []byte) (int, error) {
	q <- bytes.Clone(p)
	return len(p), nil
}

func block(lines ...string) []byte {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	for i := 0; i < len(lines); i += 2 {
		_ = e.WriteField(hpack.HeaderField{Name: lines[i], Value: lines[i+1]}) // to memory: never fails
	}
	return b.Bytes()
}

func reply(fr *http2.Framer, stream uint32, text string) {
	_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, EndHeaders: true, BlockFragment: block(":status", "200")})
	_ = fr.WriteData(stream, true, []byte(text))
}
