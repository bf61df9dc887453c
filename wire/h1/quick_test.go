package h1

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/selvage-edge/selvage/wire/msg"
	"github.com/selvage-edge/selvage/wire/msg/msgtest"
)

// steps answers at once what asks for a path with an even number of bytes; the
// rest has to be served.
type steps struct{ msgtest.Site }

func (s *steps) Open(*msg.Conn) msg.Session {
	s.Note("open")
	return s
}

func (s *steps) Step(req *msg.Request, res *msg.Response) bool {
	if len(req.Path)%2 == 1 {
		return false
	}
	s.Note("step " + string(req.Path))
	s.Answer(req, res)
	return true
}

func dialTCP(t *testing.T, addr string) *net.TCPConn {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	if err := nc.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return nc.(*net.TCPConn)
}

func TestRequestsInOnePieceAreAnsweredInOrder(t *testing.T) {
	s := &steps{Site: msgtest.Site{Answer: func(req *msg.Request, res *msg.Response) {
		res.Status, res.Bytes = 200, bytes.Clone(req.Path)
	}}}
	nc := dialTCP(t, listen(t, NewServer(s, Limits{}), nil))
	var all strings.Builder
	for _, path := range []string{"/1", "/22", "/333", "/4444", "/5"} {
		all.WriteString("GET " + path + " HTTP/1.1\r\nHost: a\r\n\r\n")
	}
	all.WriteString("POST /6 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET /7 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
	text := all.String()
	for _, cut := range []int{len(text), 10, 60, len(text) - 20} {
		nc := nc
		if cut != len(text) {
			nc = dialTCP(t, nc.RemoteAddr().String())
		}
		send(t, nc, text[:cut])
		send(t, nc, text[cut:])
		out, err := io.ReadAll(nc)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for part := range strings.SplitSeq(string(out), "HTTP/1.1 200 OK\r\n") {
			if _, body, ok := strings.Cut(part, "\r\n\r\n"); ok {
				got = append(got, body)
			}
		}
		if want := "/1 /22 /333 /4444 /5 /6 /7"; strings.Join(got, " ") != want {
			t.Errorf("cut at %d: got %q, want %q", cut, got, want)
		}
	}
}

// TestEndThatCameWithTheRequestIsFound: the poller does not tell of it again.
func TestEndThatCameWithTheRequestIsFound(t *testing.T) {
	s := &steps{Site: msgtest.Site{Answer: msgtest.Describe}}
	srv := NewServer(s, Limits{})
	srv.settle = 50 * time.Millisecond
	nc := dialTCP(t, listen(t, srv, nil))
	send(t, nc, strings.Replace(get, "GET / ", "GET /x ", 1))
	if err := nc.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	out, err := io.ReadAll(nc)
	if err != nil || statusOf(string(out)) != 200 {
		t.Errorf("%q, %v", out, err)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("the connection ended after %s", took)
	}
}

// TestIdleConnectionKeepsNoSession: after a while it gives its session back,
// and the next request gets another.
func TestIdleConnectionKeepsNoSession(t *testing.T) {
	s := &steps{Site: msgtest.Site{Answer: msgtest.Describe}}
	srv := NewServer(s, Limits{})
	srv.settle = 20 * time.Millisecond
	nc := dialTCP(t, listen(t, srv, nil))
	for range 2 {
		send(t, nc, strings.Replace(get, "GET / ", "GET /x ", 1))
		if _, err := nc.Read(make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
		for until := time.Now().Add(10 * time.Second); !strings.HasSuffix(s.Calls(), "close"); {
			if time.Now().After(until) {
				t.Fatal("the session is kept:", s.Calls())
			}
			<-time.After(time.Millisecond)
		}
	}
	if want := "open\nstep /x\ndone\nclose\nopen\nstep /x\ndone\nclose"; s.Calls() != want {
		t.Errorf("got %q, want %q", s.Calls(), want)
	}
}

// TestLargeBodyArrivesWhole sends bodies of sizes around the limits of one write,
// through a window that may be much smaller.
func TestLargeBodyArrivesWhole(t *testing.T) {
	body := make([]byte, 5<<20+7)
	for i := range body {
		body[i] = byte(i * 7 >> 3)
	}
	for _, size := range []int{1, copyMax, copyMax + 1, sliceMax - 1, sliceMax, sliceMax + 1, len(body)} {
		s := &steps{Site: msgtest.Site{Answer: func(_ *msg.Request, res *msg.Response) { res.Status, res.Bytes = 200, body[:size] }}}
		nc := dialTCP(t, listen(t, NewServer(s, Limits{}), nil))
		for range 2 {
			send(t, nc, strings.Replace(get, "GET / ", "GET /x ", 1))
			var head []byte
			for !bytes.HasSuffix(head, []byte("\r\n\r\n")) {
				var b [1]byte
				if _, err := io.ReadFull(nc, b[:]); err != nil {
					t.Fatal(err)
				}
				head = append(head, b[0])
			}
			got := make([]byte, size)
			if _, err := io.ReadFull(nc, got); err != nil || !bytes.Equal(got, body[:size]) {
				t.Errorf("%d bytes: another body, %v", size, err)
			}
		}
		if err := s.Last(); err != nil {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
}

// part is a body in a file.
type part struct {
	*io.SectionReader
	f      *os.File
	at     int64
	hidden bool
	over   atomic.Int32
}

func (p *part) File() (*os.File, int64, int64, func()) {
	if p.hidden {
		return nil, 0, 0, nil
	}
	return p.f, p.at, p.Size(), func() { p.over.Add(1) }
}

func (p *part) Close() error { return nil }

// TestBodyInAFileArrivesWhole sends parts of a file, by the kernel and read.
func TestBodyInAFileArrivesWhole(t *testing.T) {
	file, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	whole := make([]byte, 3<<20)
	for i := range whole {
		whole[i] = byte(i * 7 >> 3)
	}
	if _, err := file.Write(whole); err != nil {
		t.Fatal(err)
	}
	for _, at := range []int64{0, 1, 5000, int64(len(whole)) - 1} {
		for _, hidden := range []bool{false, true} {
			want := whole[at:]
			body := &part{SectionReader: io.NewSectionReader(file, at, int64(len(want))), f: file, at: at, hidden: hidden}
			s := &steps{Site: msgtest.Site{Answer: func(_ *msg.Request, res *msg.Response) {
				res.Status, res.Body, res.Length = 200, body, int64(len(want))
			}}}
			nc := dialTCP(t, listen(t, NewServer(s, Limits{}), nil))
			send(t, nc, strings.Replace(get, "GET / ", "GET /x ", 1))
			res, err := http.ReadResponse(bufio.NewReader(nc), nil)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(res.Body)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("from %d, hidden %v: another body of %d bytes, %v", at, hidden, len(got), err)
			}
			for until := time.Now().Add(10 * time.Second); !hidden && body.over.Load() != 1; { // it is said behind the last byte
				if time.Now().After(until) {
					t.Fatalf("from %d: said %d times that it is sent", at, body.over.Load())
				}
				<-time.After(time.Millisecond)
			}
		}
	}
}

// filedMemory lends memory that is a file's as well. The file's bytes are the
// memory's inverted, so that it shows which were sent.
type filedMemory struct {
	f      *os.File
	memory []byte
	from   int // the first byte that may be sent from the file
	closed atomic.Int32
}

func (m *filedMemory) Release() { m.closed.Add(1) }

func (m *filedMemory) File(b []byte) (*os.File, int64, int) {
	return m.f, int64(m.from), m.from
}

// TestMemoryInAFileIsSentFromIt sends bodies around the limits between which the
// kernel sends them, the bytes before the first whole page with the head.
func TestMemoryInAFileIsSentFromIt(t *testing.T) {
	memory, inverted := make([]byte, filedMost+1), make([]byte, filedMost+1)
	for i := range memory {
		memory[i] = byte(i * 7 >> 3)
		inverted[i] = ^memory[i]
	}
	file, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.Write(inverted); err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{filedLeast - 1, filedLeast, 32 << 10, filedMost, filedMost + 1} {
		for _, from := range []int{0, 1, 4096} {
			m := &filedMemory{f: file, memory: memory[:size], from: from}
			s := &steps{Site: msgtest.Site{Answer: func(_ *msg.Request, res *msg.Response) {
				res.Status, res.Bytes, res.Lender = 200, m.memory, m
			}}}
			want := bytes.Clone(memory[:size])
			if filedLeast <= size && size <= filedMost && runtime.GOOS == "linux" {
				copy(want[from:], inverted[from:size])
			}
			nc := dialTCP(t, listen(t, NewServer(s, Limits{}), nil))
			in := bufio.NewReader(nc)
			for range 2 {
				send(t, nc, strings.Replace(get, "GET / ", "GET /x ", 1))
				res, err := http.ReadResponse(in, nil)
				if err != nil {
					t.Fatal(err)
				}
				if got, err := io.ReadAll(res.Body); err != nil || !bytes.Equal(got, want) {
					t.Errorf("%d bytes, of a file from %d: another body of %d bytes, %v", size, from, len(got), err)
				}
			}
			if m.closed.Load() < 1 {
				t.Errorf("%d bytes, of a file from %d: never given back", size, from)
			}
		}
	}
}

// TestVisitorWhoTakesNothingIsCut holds large bodies to WriteTimeout.
func TestVisitorWhoTakesNothingIsCut(t *testing.T) {
	s := &steps{Site: msgtest.Site{Answer: func(_ *msg.Request, res *msg.Response) { res.Status, res.Bytes = 200, make([]byte, 32<<20) }}}
	nc := dialTCP(t, listen(t, NewServer(s, Limits{WriteTimeout: 100 * time.Millisecond}), nil))
	send(t, nc, strings.Replace(get, "GET / ", "GET /x ", 1))
	for until := time.Now().Add(10 * time.Second); !strings.HasSuffix(s.Calls(), "close"); {
		if time.Now().After(until) {
			t.Fatal("still served:", s.Calls())
		}
		<-time.After(time.Millisecond)
	}
	if s.Last() == nil {
		t.Error("the answer is said to have left whole")
	}
}
