package edge

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/selvage-edge/selvage/wire/h2"
	"github.com/selvage-edge/selvage/wire/h2/frame"
	"github.com/selvage-edge/selvage/wire/msg"
)

// batches is a connection on which ten requests come at a time, rounds times.
type batches struct {
	first, again []byte
	stream       uint32
	rounds       int
	written      int
}

func (c *batches) Read(p []byte) (int, error) {
	if len(c.first) > 0 {
		n := copy(p, c.first)
		c.first = c.first[n:]
		return n, nil
	}
	if c.rounds--; c.rounds < 0 {
		return 0, io.EOF
	}
	for at := 0; at < len(c.again); {
		h := frame.Parse(c.again[at:])
		if h.Type == frame.Headers {
			h.Stream = c.stream
			frame.Append(c.again[:at], h)
			c.stream += 2
		}
		at += frame.HeaderLen + int(h.Length)
	}
	return copy(p, c.again), nil
}

func (c *batches) Write(p []byte) (int, error)    { c.written += len(p); return len(p), nil }
func (*batches) Close() error                     { return nil }
func (*batches) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (*batches) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (*batches) SetDeadline(time.Time) error      { return nil }
func (*batches) SetReadDeadline(time.Time) error  { return nil }
func (*batches) SetWriteDeadline(time.Time) error { return nil }

func newBatches(rounds int) *batches {
	var first, again, block bytes.Buffer
	first.WriteString(frame.Preface)
	enc := hpack.NewEncoder(&block)
	write := func(to *http2.Framer, id uint32) {
		block.Reset()
		for _, l := range [][2]string{
			{":method", "GET"}, {":path", "/a"}, {":scheme", "https"}, {":authority", "site.test"},
			{"user-agent", "h2load nghttp2/1.52.0"}, {"accept", "*/*"},
		} {
			_ = enc.WriteField(hpack.HeaderField{Name: l[0], Value: l[1]})
		}
		_ = to.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: true})
	}
	fr := http2.NewFramer(&first, nil)
	_ = fr.WriteSettings()
	_ = fr.WriteWindowUpdate(0, 1<<30)
	write(fr, 1)
	fr = http2.NewFramer(&again, nil)
	for i := range uint32(10) {
		write(fr, 2*i+1)
	}
	_ = fr.WriteWindowUpdate(0, 10<<10)
	return &batches{first: first.Bytes(), again: again.Bytes(), stream: 3, rounds: rounds}
}

// BenchmarkHitOverHTTP2 is one of ten requests that came in one read, answered
// from memory with all phases and the log on; TLS and the kernel left out.
func BenchmarkHitOverHTTP2(b *testing.B) {
	e := inMemory(b, site(), stored)
	s := e.Open(conn())
	defer s.Close()
	if _, _, err := turn(s, ask("/a"), &msg.Response{}); err != nil {
		b.Fatal(err)
	}
	c := newBatches(b.N/10 + 1)
	b.ReportAllocs()
	h2.NewServer(e, h2.Limits{}).ServeConn(c, conn())
	if c.written < b.N*1024 {
		b.Fatalf("%d bytes for %d requests", c.written, b.N)
	}
}
