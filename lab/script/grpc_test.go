package script

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/quic-go/quic-go/http3"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// resetting serves an origin of HTTP/2 that resets every request: at once, or
// after the head of an answer where the path says so.
func resetting(t *testing.T) (address string) {
	t.Helper()
	lender := httptest.NewUnstartedServer(nil) // of a certificate
	lender.EnableHTTP2 = true
	lender.StartTLS()
	lender.Close()
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: lender.TLS.Certificates, NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	var work sync.WaitGroup
	work.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			work.Go(func() { resetAll(nc) })
			t.Cleanup(func() { nc.Close() })
		}
	})
	t.Cleanup(func() {
		l.Close()
		work.Wait()
	})
	return l.Addr().String()
}

func resetAll(nc net.Conn) {
	defer nc.Close()
	if _, err := io.ReadFull(nc, make([]byte, len(http2.ClientPreface))); err != nil {
		return
	}
	fr := http2.NewFramer(nc, nc)
	fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	fr.WriteSettings()
	for {
		x, err := fr.ReadFrame()
		if err != nil {
			return
		}
		switch x := x.(type) {
		case *http2.SettingsFrame:
			if !x.IsAck() {
				fr.WriteSettingsAck()
			}
		case *http2.MetaHeadersFrame:
			code := http2.ErrCodeCancel
			switch path := x.PseudoValue("path"); {
			case strings.HasSuffix(path, "/Broken"):
				code = http2.ErrCodeInternal
			case strings.HasSuffix(path, "/Begun"):
				fr.WriteHeaders(http2.HeadersFrameParam{StreamID: x.StreamID, EndHeaders: true, BlockFragment: begun()})
				fr.WriteData(x.StreamID, false, []byte{0, 0, 0, 0, 0})
			}
			fr.WriteRSTStream(x.StreamID, code)
		}
	}
}

// begun is the head of an answer without end.
func begun() []byte {
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	enc.WriteField(hpack.HeaderField{Name: ":status", Value: "200"})
	enc.WriteField(hpack.HeaderField{Name: "content-type", Value: "application/grpc"})
	return block.Bytes()
}

// TestGRPCFailures asks for what callers of gRPC are told of an origin that
// fails, over HTTP/2 and HTTP/3.
func TestGRPCFailures(t *testing.T) {
	n := dev(t, t.TempDir(), "--no-demo", "--edges", "1")
	n.cli(t, "zone", "add", "rpc.test", "--origin", "https://"+resetting(t))
	gone := httptest.NewTLSServer(nil)
	gone.Close()
	n.onboard(t, "gone.test", gone)
	for name, c := range map[string]*http.Client{
		"h2": visitor2(t, n.Edges[0].HTTPS, n.CA),
		"h3": newVisitor3(t, n.Edges[0].HTTPS, n.CA).connect(t),
	} {
		t.Run(name, func(t *testing.T) {
			for _, call := range []struct{ url, timeout, want string }{
				{"https://rpc.test/lab.Words/Late", "1n", "4"},
				{"https://rpc.test/lab.Words/Late", "1H", "1"},
				{"https://rpc.test/lab.Words/Broken", "", "13"},
				{"https://gone.test/lab.Words/One", "1H", "14"},
			} {
				res, err := invoke(t, c, call.url, call.timeout)
				if err != nil {
					t.Errorf("%s: %v", call.url, err)
					continue
				}
				body, err := io.ReadAll(res.Body)
				if err != nil || len(body) > 0 || res.StatusCode != 200 || res.Header.Get("Content-Type") != "application/grpc" {
					t.Errorf("%s: %d, %v, %q, %v", call.url, res.StatusCode, res.Header, body, err)
				}
				if got := res.Header.Get("Grpc-Status"); got != call.want || res.Header.Get("Grpc-Message") == "" {
					t.Errorf("%s within %q: status %s (%s), want %s", call.url, call.timeout, got, res.Header.Get("Grpc-Message"), call.want)
				}
			}
			res, err := invoke(t, c, "https://rpc.test/lab.Words/Begun", "")
			if err == nil {
				_, err = io.ReadAll(res.Body)
			}
			if !calledOff(err) && (res == nil || res.Header.Get("Grpc-Status") != "1") { // the reset may overtake the head
				t.Errorf("an answer that was called off ends with %v", err)
			}
		})
	}
}

// calledOff reports whether a stream was reset by CANCEL.
func calledOff(err error) bool {
	if e, ok := errors.AsType[*http3.Error](err); ok {
		return e.ErrorCode == http3.ErrCodeRequestCanceled
	}
	return err != nil && strings.Contains(err.Error(), "; CANCEL;") // net/http does not export its type
}

func invoke(t *testing.T, c *http.Client, url, timeout string) (*http.Response, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "POST", url, bytes.NewReader([]byte{0, 0, 0, 0, 0}))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/grpc")
	req.Header.Set("Te", "trailers")
	if timeout != "" {
		req.Header.Set("Grpc-Timeout", timeout)
	}
	res, err := c.Do(req)
	if err == nil {
		t.Cleanup(func() { res.Body.Close() })
	}
	return res, err
}
