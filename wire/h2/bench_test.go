package h2

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/selvage-edge/selvage/wire/h2/frame"
	"github.com/selvage-edge/selvage/wire/msg"
)

// feeder is a connection on which the same requests come again and again,
// stream numbers apart, each read one batch.
type feeder struct {
	first   []byte // read once
	batch   []byte // of HEADERS frames
	next    uint32 // stream
	rounds  int
	written int
}

func (f *feeder) Read(p []byte) (int, error) {
	if len(f.first) > 0 {
		n := copy(p, f.first)
		f.first = f.first[n:]
		return n, nil
	}
	if f.rounds--; f.rounds < 0 {
		return 0, io.EOF
	}
	for at := 0; at < len(f.batch); {
		h := frame.Parse(f.batch[at:])
		if h.Type == frame.Headers {
			h.Stream = f.next
			frame.Append(f.batch[:at], h)
			f.next += 2
		}
		at += frame.HeaderLen + int(h.Length)
	}
	return copy(p, f.batch), nil
}

func (f *feeder) Write(p []byte) (int, error)      { f.written += len(p); return len(p), nil }
func (*feeder) Close() error                       { return nil }
func (*feeder) LocalAddr() net.Addr                { return &net.TCPAddr{} }
func (*feeder) RemoteAddr() net.Addr               { return &net.TCPAddr{} }
func (*feeder) SetDeadline(time.Time) error        { return nil }
func (*feeder) SetReadDeadline(time.Time) error    { return nil }
func (*feeder) SetWriteDeadline(t time.Time) error { return nil }

// newFeeder makes one that asks for n objects in each batch, as a browser does
// from its second request on: every line is in the table.
func newFeeder(n, rounds int) *feeder {
	var first, batch, block bytes.Buffer
	first.WriteString(frame.Preface)
	fr := http2.NewFramer(&first, nil)
	_ = fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 30})
	for range 32 {
		_ = fr.WriteWindowUpdate(0, 60<<20)
	}
	enc := hpack.NewEncoder(&block)
	write := func(to *http2.Framer, id uint32) {
		block.Reset()
		for _, l := range [][2]string{
			{":method", "GET"}, {":scheme", "https"}, {":authority", "a.test"}, {":path", "/index.html"},
			{"user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"},
			{"accept", "text/html,application/xhtml+xml"}, {"accept-encoding", "gzip, deflate, br, zstd"}, {"accept-language", "en"},
		} {
			_ = enc.WriteField(hpack.HeaderField{Name: l[0], Value: l[1]})
		}
		_ = to.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: true})
	}
	write(fr, 1)
	bf := http2.NewFramer(&batch, nil)
	for i := range n {
		write(bf, uint32(2*i+1))
	}
	// The window of the connection is opened again by what a visitor says.
	_ = bf.WriteWindowUpdate(0, uint32(n*1100))
	return &feeder{first: first.Bytes(), batch: batch.Bytes(), next: 3, rounds: rounds}
}

var age, status, server, ray = []byte("17"), []byte("HIT"), []byte("selvage"), []byte("0123456789abcdef-FRA")

// hit answers as a cache does.
func hit(prepared *msg.Prepared, body []byte) func(*msg.Request, *msg.Response) {
	return func(_ *msg.Request, res *msg.Response) {
		res.Status, res.Prepared, res.Bytes = 200, prepared, body
		res.Fields.AddID(msg.Age, age)
		res.Fields.AddID(msg.CFCacheStatus, status)
		res.Fields.AddID(msg.Server, server)
		res.Fields.AddID(msg.CFRay, ray)
	}
}

// quick is a session that answers inline and notes nothing.
type quick struct {
	serve func(*msg.Request, *msg.Response)
}

func (q quick) Open(*msg.Conn) msg.Session                     { return q }
func (q quick) Step(req *msg.Request, res *msg.Response) bool  { q.serve(req, res); return true }
func (q quick) Serve(req *msg.Request, res *msg.Response)      { q.serve(req, res) }
func (q quick) Done(*msg.Request, *msg.Response, int64, error) {}
func (q quick) Refused(int, error)                             {}
func (q quick) Close()                                         {}

var prepared = &msg.Prepared{H1: []byte("Content-Type: text/html\r\nCache-Control: max-age=3600\r\nETag: \"v1\"\r\nLast-Modified: Mon, 02 Nov 2026 10:00:00 GMT\r\n")}

func serveHits(tb testing.TB, n, rounds int) *feeder {
	f := newFeeder(n, rounds)
	s := NewServer(quick{hit(prepared, make([]byte, 1024))}, Limits{})
	s.ServeConn(f, new(msg.Conn))
	if want := (n*rounds + 1) * 1024; f.written < want {
		tb.Fatalf("%d bytes written for %d rounds, want at least %d", f.written, rounds, want)
	}
	return f
}

// BenchmarkHit is one request of 10 that came in one read, answered with 1 KiB
// from memory, without TLS.
func BenchmarkHit(b *testing.B) {
	const n = 10
	b.ReportAllocs()
	serveHits(b, n, b.N/n+1)
}
