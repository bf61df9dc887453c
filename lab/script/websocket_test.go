package script

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/quicvarint"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/selvage-edge/selvage/wire/h2"
	"github.com/selvage-edge/selvage/wire/h3/qpack"
	"github.com/selvage-edge/selvage/wire/msg"
	"github.com/selvage-edge/selvage/wire/msg/msgtest"
)

// webSocketOrigin1 takes WebSocket over HTTP/1.1 and sends back what it is sent.
func webSocketOrigin1(w http.ResponseWriter, r *http.Request) {
	if r.Method != "GET" || r.Header.Get("Upgrade") != "websocket" || r.Header.Get("Sec-Websocket-Version") != "13" {
		w.WriteHeader(400)
		return
	}
	nc, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer nc.Close()
	fmt.Fprintf(nc, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nOrigin-Way: upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n", webSocketProof(r.Header.Get("Sec-Websocket-Key")))
	io.Copy(nc, rw)
}

func webSocketProof(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// webSocketOrigin2 is the same over HTTP/2, by extended CONNECT (RFC 8441); it
// returns its address.
func webSocketOrigin2(t *testing.T) string {
	t.Helper()
	lender := httptest.NewTLSServer(nil)
	cert := lender.TLS.Certificates[0]
	lender.Close()
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2", "http/1.1"}})
	if err != nil {
		t.Fatal(err)
	}
	s := h2.NewServer(&msgtest.Site{Answer: func(req *msg.Request, res *msg.Response) {
		if req.Upgrade == nil || req.Fields.Has(msg.SecWebSocketKey) {
			res.Status = 204
			return
		}
		near, far := net.Pipe()
		go func() { // ends with the tunnel
			_, _ = io.Copy(far, far)
			_ = far.Close()
		}()
		res.Fields.Add([]byte("Origin-Way"), []byte("connect"))
		res.Status, res.Tunnel = 101, near
	}}, h2.Limits{})
	go func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				tc := nc.(*tls.Conn)
				if tc.HandshakeContext(t.Context()) != nil || tc.ConnectionState().NegotiatedProtocol != "h2" {
					_ = nc.Close()
					return
				}
				state := tc.ConnectionState()
				s.ServeConn(nc, &msg.Conn{TLS: &state})
			}()
		}
	}()
	t.Cleanup(func() { _ = l.Close() })
	return "https://" + l.Addr().String()
}

// opened is what a visitor sees of a WebSocket that was opened.
type opened struct {
	status, way string
	forbidden   []string // fields that its protocol has no room for
	stream      io.ReadWriter
}

// webSockets are the ways in which a visitor opens one.
var webSockets = map[string]func(t *testing.T, n *network, host string) opened{
	"HTTP/1.1": webSocket1, "HTTP/2": webSocket2, "HTTP/3": webSocket3,
}

// TestWebSocketEachWay opens a WebSocket by each protocol to origins of each.
func TestWebSocketEachWay(t *testing.T) {
	origin, _ := page(t, webSocketOrigin1)
	n := dev(t, t.TempDir(), "--no-demo", "--edges", "1")
	n.onboard(t, "ws1.test", origin)
	n.cli(t, "zone", "add", "ws2.test", "--origin", webSocketOrigin2(t))
	// Only an open connection says whether its origin takes extended CONNECT.
	if a := get(t, visitor(t, n.Edges[0].HTTPS, n.CA), "https://ws2.test/"); a.Status != 204 {
		t.Fatalf("%d", a.Status)
	}
	for name, open := range webSockets {
		for host, way := range map[string]string{"ws1.test": "upgrade", "ws2.test": "connect"} {
			t.Run(name+" "+way, func(t *testing.T) {
				o := open(t, n, host)
				want := "200"
				if name == "HTTP/1.1" {
					want = "101"
				}
				if o.status != want || o.way != way || len(o.forbidden) > 0 {
					t.Fatalf("%+v, want %s by %s", o, want, way)
				}
				for _, said := range []string{"hello", strings.Repeat("there ", 5000)} {
					heard := make([]byte, len(said))
					go io.WriteString(o.stream, said)
					if _, err := io.ReadFull(o.stream, heard); err != nil || string(heard) != said {
						t.Errorf("%.20q of %d bytes, %v", heard, len(said), err)
					}
				}
			})
		}
	}
}

func webSocket1(t *testing.T, n *network, host string) opened {
	config := trust(t, n.CA)
	config.ServerName = host
	nc, err := tls.Dial("tcp", n.Edges[0].HTTPS, config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(20 * time.Second))
	const key = "dGhlIHNhbXBsZSBub25jZQ=="
	fmt.Fprintf(nc, "GET /chat HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n\r\n", host, key)
	r := bufio.NewReader(nc)
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := res.Header.Get("Sec-Websocket-Accept"); got != webSocketProof(key) {
		t.Errorf("proof %q", got)
	}
	return opened{res.Status[:3], res.Header.Get("Origin-Way"), nil, struct {
		io.Reader
		io.Writer
	}{r, nc}}
}

// connectFields are those of an extended CONNECT.
func connectFields(host string) [][2]string {
	return [][2]string{{":method", "CONNECT"}, {":protocol", "websocket"}, {":scheme", "https"}, {":authority", host}, {":path", "/chat"}, {"sec-websocket-version", "13"}}
}

func (o *opened) see(name, value string) {
	switch {
	case name == ":status":
		o.status = value
	case name == "origin-way":
		o.way = value
	case name == "upgrade", name == "connection", strings.HasPrefix(name, "sec-websocket"):
		o.forbidden = append(o.forbidden, name)
	}
}

// stream2 is stream 1 of an HTTP/2 connection.
type stream2 struct {
	fr   *http2.Framer
	data []byte
}

func (s *stream2) Write(p []byte) (n int, err error) {
	for n < len(p) {
		k := min(len(p)-n, 8<<10)
		if err := s.fr.WriteData(1, false, p[n:n+k]); err != nil {
			return n, err
		}
		n += k
	}
	return n, nil
}

func (s *stream2) Read(p []byte) (int, error) {
	for len(s.data) == 0 {
		f, err := s.fr.ReadFrame()
		if err != nil {
			return 0, err
		}
		switch f := f.(type) {
		case *http2.DataFrame:
			s.data = append(s.data, f.Data()...)
		case *http2.RSTStreamFrame:
			return 0, fmt.Errorf("reset: %v", f.ErrCode)
		}
	}
	n := copy(p, s.data)
	s.data = s.data[n:]
	return n, nil
}

func webSocket2(t *testing.T, n *network, host string) (o opened) {
	config := trust(t, n.CA)
	config.ServerName, config.NextProtos = host, []string{"h2"}
	nc, err := tls.Dial("tcp", n.Edges[0].HTTPS, config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(20 * time.Second))
	io.WriteString(nc, http2.ClientPreface)
	fr := http2.NewFramer(nc, nc)
	fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	fr.WriteSettings()
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	for _, l := range connectFields(host) {
		enc.WriteField(hpack.HeaderField{Name: l[0], Value: l[1]})
	}
	enabled := false
	for o.status == "" {
		x, err := fr.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		switch x := x.(type) {
		case *http2.SettingsFrame:
			if v, ok := x.Value(http2.SettingEnableConnectProtocol); ok && v == 1 {
				enabled = true
				fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndHeaders: true, BlockFragment: block.Bytes()})
			}
		case *http2.MetaHeadersFrame:
			for _, f := range x.Fields {
				o.see(f.Name, f.Value)
			}
		}
	}
	if !enabled {
		t.Error("extended CONNECT is not announced")
	}
	o.stream = &stream2{fr: fr}
	return o
}

// stream3 is the DATA of a stream of HTTP/3.
type stream3 struct {
	st   *quic.Stream
	r    quicvarint.Reader
	left uint64
}

func (s *stream3) Write(p []byte) (int, error) {
	n, err := s.st.Write(append(quicvarint.Append([]byte{0}, uint64(len(p))), p...))
	return min(n, len(p)), err
}

func (s *stream3) Read(p []byte) (int, error) {
	for s.left == 0 {
		kind, err := quicvarint.Read(s.r)
		if err != nil {
			return 0, err
		}
		if s.left, err = quicvarint.Read(s.r); err != nil {
			return 0, err
		}
		if kind != 0 {
			return 0, fmt.Errorf("frame of type %d, want DATA", kind)
		}
	}
	n, err := s.st.Read(p[:min(uint64(len(p)), s.left)])
	s.left -= uint64(n)
	return n, err
}

func webSocket3(t *testing.T, n *network, host string) (o opened) {
	config := trust(t, n.CA)
	config.ServerName, config.NextProtos = host, []string{"h3"}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	qc, err := quic.DialAddr(ctx, n.Edges[0].HTTPS, config, &quic.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = qc.CloseWithError(0, "") })
	st, err := qc.OpenStream()
	if err != nil {
		t.Fatal(err)
	}
	_ = st.SetDeadline(time.Now().Add(20 * time.Second))
	section := qpack.AppendPrefix(nil)
	for _, l := range connectFields(host) {
		section = qpack.AppendField(section, &msg.Field{Name: []byte(l[0]), Value: []byte(l[1])})
	}
	if _, err := st.Write(append(quicvarint.Append([]byte{1}, uint64(len(section))), section...)); err != nil {
		t.Fatal(err)
	}
	r := quicvarint.NewReader(st)
	kind, err := quicvarint.Read(r)
	if err != nil || kind != 1 {
		t.Fatalf("frame %d, %v", kind, err)
	}
	length, err := quicvarint.Read(r)
	if err != nil {
		t.Fatal(err)
	}
	section = make([]byte, length)
	if _, err := io.ReadFull(st, section); err != nil {
		t.Fatal(err)
	}
	var lines qpack.Reader
	if err := lines.Start(section); err != nil {
		t.Fatal(err)
	}
	for lines.More() {
		name, value, err := lines.Next()
		if err != nil {
			t.Fatal(err)
		}
		o.see(string(name), string(value))
	}
	o.stream = &stream3{st: st, r: r}
	return o
}
