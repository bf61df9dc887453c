package h1

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"testing"

	"github.com/selvage-edge/selvage/internal/clock"
	"github.com/selvage-edge/selvage/wire/msg"
	"github.com/selvage-edge/selvage/wire/msg/msgtest"
)

// byteConn gives fixed bytes in reads of at most step.
type byteConn struct {
	*msgtest.Conn
	p    []byte
	step int
}

func (c *byteConn) Read(b []byte) (int, error) {
	if len(c.p) == 0 {
		return 0, io.EOF
	}
	n := copy(b, c.p[:min(len(c.p), c.step)])
	c.p = c.p[n:]
	return n, nil
}

func newByteReader(p []byte, step int) *reader {
	end, _ := msgtest.Conns(0)
	nc := &byteConn{Conn: end, p: p, step: step}
	return &reader{nc: nc, dl: &clock.Deadlines{Conn: nc, Clock: clock.New(nil)}, pools: newPools(4096), wait: 1 << 30}
}

var fuzzBounds = bounds{line: 2048, head: 4096, fields: 32}

// readRequest parses p as far as it is one head.
func readRequest(p []byte, req *msg.Request) (requestHead, int, error) {
	s := scan{start: 1}
	n, bad := s.end(p, &fuzzBounds)
	if bad != nil {
		return requestHead{}, 0, bad
	}
	if n == 0 {
		return requestHead{}, 0, io.ErrUnexpectedEOF
	}
	rh, bad := parseRequest(p[:n], req, 0)
	if bad != nil {
		return rh, n, bad
	}
	return rh, n, nil
}

// FuzzRequestHead: what is accepted holds no byte that could be read in two
// ways, and, written anew, reads as the same request; the standard library's
// lenient parser sees the same framing.
func FuzzRequestHead(f *testing.F) {
	for _, tc := range requestCases {
		f.Add([]byte(tc.in))
	}
	f.Add([]byte(hitRequest))
	f.Fuzz(func(t *testing.T, p []byte) {
		var req msg.Request
		rh, n, err := readRequest(p, &req)
		if err != nil {
			return
		}
		if bytes.Count(p[:n], []byte("\r")) != bytes.Count(p[:n], []byte("\r\n")) || bytes.IndexByte(p[:n], 0) >= 0 {
			t.Fatalf("accepted %q", p[:n])
		}
		var again msg.Request
		wire := rewrite(&req)
		rh2, m, err := readRequest(wire, &again)
		if err != nil || m != len(wire) {
			t.Fatalf("%q, written as %q: %v", p[:n], wire, err)
		}
		if rh2 != rh || !sameRequest(&req, &again) {
			t.Fatalf("%q reads differently as %q", p[:n], wire)
		}
		std, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(p[:n])))
		if err != nil {
			return // it refuses some that are fine: odd targets, unknown ports
		}
		if std.ContentLength != req.Length || std.ContentLength != msg.LengthUnknown && len(std.TransferEncoding) > 0 {
			t.Fatalf("%q: length %d, the standard library says %d", p[:n], req.Length, std.ContentLength)
		}
	})
}

func rewrite(req *msg.Request) []byte {
	var b bytes.Buffer
	b.Write(req.MethodText)
	b.WriteByte(' ')
	b.Write(req.Target)
	b.WriteString(" " + req.Proto.String() + "\r\n")
	if req.Proto == msg.HTTP10 && len(req.Authority) > 0 && !req.Fields.Has(msg.Host) {
		b.WriteString("Host: " + string(req.Authority) + "\r\n")
	}
	for _, l := range req.Fields.All() {
		b.WriteString(string(l.Name) + ": " + string(l.Value) + "\r\n")
	}
	b.WriteString("\r\n")
	return b.Bytes()
}

func sameRequest(a, b *msg.Request) bool {
	same := a.Method == b.Method && a.Length == b.Length && a.Proto == b.Proto && (a.Query == nil) == (b.Query == nil)
	for _, pair := range [][2][]byte{{a.MethodText, b.MethodText}, {a.Target, b.Target}, {a.Path, b.Path}, {a.Query, b.Query}, {a.Authority, b.Authority}, {a.Upgrade, b.Upgrade}} {
		same = same && bytes.Equal(pair[0], pair[1])
	}
	from := b.Fields.Len() - a.Fields.Len() // 1 where rewrite added a Host
	if from < 0 || from > 1 {
		return false
	}
	for i := range a.Fields.Len() {
		x, y := a.Fields.At(i), b.Fields.At(i+from)
		same = same && x.ID == y.ID && bytes.Equal(x.Name, y.Name) && bytes.Equal(x.Value, y.Value)
	}
	return same
}

// decode takes the chunked coding off p, read in pieces of step bytes.
func decode(p []byte, step int) (body []byte, rest int, err error) {
	rd := newByteReader(p, step)
	defer rd.close()
	var trailer msg.Fields
	d := decoder{rd: rd, lim: &fuzzBounds, trailer: &trailer, max: 1 << 20}
	d.start(framing{length: -1, chunked: true}, false)
	body, err = io.ReadAll(&d)
	return body, len(rd.buffered()) + len(rd.nc.(*byteConn).p), err
}

// FuzzChunked: the outcome does not depend on how the bytes arrive; what is
// accepted, written anew, gives the same body; the standard library, where it
// accepts as well, gives the same body too.
func FuzzChunked(f *testing.F) {
	for _, tc := range chunkCases {
		f.Add([]byte(tc.body), 3)
	}
	f.Add([]byte("5\r\nhello\r\n0\r\nA: b\r\n\r\nrest"), 1)
	f.Fuzz(func(t *testing.T, p []byte, step int) {
		if len(p) > 1<<14 {
			return
		}
		body, rest, err := decode(p, 1<<20)
		body2, rest2, err2 := decode(p, 1+int(uint(step)%64))
		if (err == nil) != (err2 == nil) || err == nil && (!bytes.Equal(body, body2) || rest != rest2) {
			t.Fatalf("%q: %q, %d, %v; in pieces %q, %d, %v", p, body, rest, err, body2, rest2, err2)
		}
		if err != nil {
			if _, isBad := errors.AsType[*refusal](err); !isBad && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Fatalf("%q: %v", p, err)
			}
			return
		}
		var wire []byte
		frameBuf := make([]byte, streamMax+chunkFrame)
		for left := body; len(left) > 0; {
			n := copy(frameBuf[chunkFront:chunkFront+min(len(left), streamMax)], left)
			wire = append(wire, frame(frameBuf, n, true, false)...)
			left = left[n:]
		}
		wire = append(wire, lastChunk...)
		if again, tail, err := decode(wire, 1<<20); err != nil || tail != 0 || !bytes.Equal(again, body) {
			t.Fatalf("%q written as %q reads as %q, %v", p, wire, again, err)
		}
		head := "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
		res, err := http.ReadResponse(bufio.NewReader(io.MultiReader(bytes.NewReader([]byte(head)), bytes.NewReader(p))), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if std, err := io.ReadAll(res.Body); err == nil && !bytes.Equal(std, body) {
			t.Fatalf("%q reads as %q, by the standard library as %q", p, body, std)
		}
	})
}

// FuzzResponseHead: what is accepted, written anew, reads as the same answer.
func FuzzResponseHead(f *testing.F) {
	for _, s := range []string{ok + "Content-Length: 2\r\n\r\n", "HTTP/1.0 404 x y\r\nA: b\r\n\r\n", ok + "Transfer-Encoding: chunked\r\nConnection: a, b\r\nA: 1\r\n\r\n", "HTTP/1.1 101 \r\nUpgrade: x\r\n\r\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		read := func(p []byte, res *msg.Response) (responseHead, int, bool) {
			s := scan{start: 1}
			n, bad := s.end(p, &fuzzBounds)
			if bad != nil || n == 0 {
				return responseHead{}, 0, false
			}
			rh, bad := parseResponse(p[:n], res)
			return rh, n, bad == nil
		}
		var res, again msg.Response
		rh, n, accepted := read(p, &res)
		if !accepted {
			return
		}
		if bytes.Count(p[:n], []byte("\r")) != bytes.Count(p[:n], []byte("\r\n")) || bytes.IndexByte(p[:n], 0) >= 0 {
			t.Fatalf("accepted %q", p[:n])
		}
		wire := append([]byte(rh.proto.String()), statusLines[res.Status][8:]...)
		for _, l := range res.Fields.All() {
			wire = append(wire, string(l.Name)+": "+string(l.Value)+"\r\n"...)
		}
		wire = append(wire, "\r\n"...)
		rh2, m, accepted := read(wire, &again)
		if !accepted || m != len(wire) || rh != rh2 || again.Status != res.Status || again.Fields.Len() != res.Fields.Len() {
			t.Fatalf("%q reads differently as %q", p[:n], wire)
		}
		strip(&res.Fields, false)
		for _, id := range []msg.ID{msg.Connection, msg.TransferEncoding, msg.ContentLength, msg.Upgrade, msg.KeepAlive} {
			if res.Fields.Has(id) {
				t.Fatalf("%q: %s was left in", p[:n], id)
			}
		}
		std, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(p[:n])), nil)
		if err != nil {
			return
		}
		defer std.Body.Close()
		if rh.length >= 0 && res.Status >= 200 && res.Status != 204 && res.Status != 304 && std.ContentLength != rh.length {
			t.Fatalf("%q: length %d, the standard library says %d", p[:n], rh.length, std.ContentLength)
		}
	})
}
