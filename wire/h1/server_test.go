package h1

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/selvage-edge/selvage/fault"
	"github.com/selvage-edge/selvage/wire/msg"
	"github.com/selvage-edge/selvage/wire/msg/msgtest"
)

const get = "GET / HTTP/1.1\r\n" + h + "\r\n"

func TestKeepAliveAnswersInOrder(t *testing.T) {
	s := &msgtest.Site{Answer: msgtest.Describe}
	out := talk(t, s, Limits{}, "GET /1 HTTP/1.1\r\nHost: a.test\r\n\r\nPOST /2 HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\nabcGET /3 HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\nGET /4 HTTP/1.1\r\nHost: a.test\r\n\r\n")
	if got := strings.Count(out, "HTTP/1.1 200 OK\r\n"); got != 3 {
		t.Fatalf("answers = %d, want 3:\n%s", got, out)
	}
	for _, want := range []string{"GET /1 @a.test|Host=a.test", "POST /2 @a.test|Host=a.test|Content-Length=3|body=abc", "GET /3 @a.test"} {
		i := strings.Index(out, want)
		if i < 0 {
			t.Fatalf("no %q in order in:\n%s", want, out)
		}
		out = out[i:]
	}
	want := "serve GET /1\ndone\nserve POST /2\ndone\nserve GET /3\ndone\nclose"
	if got := s.Calls(); got != want {
		t.Errorf("calls:\n%s\nwant:\n%s", got, want)
	}
}

func TestPipelineLargerThanTheBuffer(t *testing.T) {
	s := &msgtest.Site{Answer: msgtest.Describe}
	one := "GET /" + strings.Repeat("x", 300) + " HTTP/1.1\r\n" + h + "\r\n"
	out := talk(t, s, Limits{}, strings.Repeat(one, 200))
	if got := strings.Count(out, "HTTP/1.1 200 OK\r\n"); got != 200 {
		t.Errorf("answers = %d, want 200", got)
	}
}

// stream is a body that is pulled in these parts.
func stream(parts ...string) io.ReadCloser {
	readers := make([]io.Reader, len(parts))
	for i, p := range parts {
		readers[i] = strings.NewReader(p)
	}
	return io.NopCloser(io.MultiReader(readers...))
}

func field(res *msg.Response, name, value string) { res.Fields.Add([]byte(name), []byte(value)) }

// answerCases are request, answer, bytes on the wire without the Date line.
var answerCases = []struct {
	name, in string
	serve    func(*msg.Request, *msg.Response)
	want     string
}{
	{"memory", get, func(_ *msg.Request, r *msg.Response) { r.Status, r.Bytes = 200, []byte("hi") },
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"},
	{"empty", get, func(_ *msg.Request, r *msg.Response) { r.Status = 200 },
		"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"},
	{"unknown status", get, func(_ *msg.Request, r *msg.Response) { r.Status = 299 },
		"HTTP/1.1 299 \r\nContent-Length: 0\r\n\r\n"},
	{"204", get, func(_ *msg.Request, r *msg.Response) { r.Status, r.Bytes = 204, []byte("no") },
		"HTTP/1.1 204 No Content\r\n\r\n"},
	{"304", get, func(_ *msg.Request, r *msg.Response) {
		r.Status = 304
		field(r, "ETag", `"x"`)
		field(r, "Content-Length", "17")
	}, "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\nContent-Length: 17\r\n\r\n"},
	{"HEAD memory", "HEAD / HTTP/1.1\r\n" + h + "\r\n", func(_ *msg.Request, r *msg.Response) { r.Status, r.Bytes = 200, []byte("hi") },
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"},
	{"HEAD field", "HEAD / HTTP/1.1\r\n" + h + "\r\n", func(_ *msg.Request, r *msg.Response) {
		r.Status = 200
		field(r, "Content-Length", "9")
	}, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"},
	{"HEAD stream", "HEAD / HTTP/1.1\r\n" + h + "\r\n", func(_ *msg.Request, r *msg.Response) {
		r.Status, r.Length, r.Body = 200, msg.LengthUnknown, stream("x")
	}, "HTTP/1.1 200 OK\r\n\r\n"},
	{"stream of known length", get, func(_ *msg.Request, r *msg.Response) {
		r.Status, r.Length, r.Body = 200, 4, stream("ab", "cdef")
	}, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabcd"},
	{"stream", get, func(_ *msg.Request, r *msg.Response) {
		r.Status, r.Length, r.Body = 200, msg.LengthUnknown, stream("ab", strings.Repeat("c", 17))
	}, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n11\r\n" + strings.Repeat("c", 17) + "\r\n0\r\n\r\n"},
	{"trailers", get, func(_ *msg.Request, r *msg.Response) {
		r.Status, r.Length, r.Body = 200, msg.LengthUnknown, stream("ab")
		r.Trailer = new(msg.Fields)
		r.Trailer.Add([]byte("X-Sum"), []byte("7"))
	}, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nX-Sum: 7\r\n\r\n"},
	{"stream for 1.0", "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", func(_ *msg.Request, r *msg.Response) {
		r.Status, r.Length, r.Body = 200, msg.LengthUnknown, stream("ab")
	}, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nab"},
	{"1.0", "GET / HTTP/1.0\r\n\r\n", func(_ *msg.Request, r *msg.Response) { r.Status, r.Bytes = 200, []byte("x") },
		"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx"},
	{"1.0 keep-alive", "GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", func(_ *msg.Request, r *msg.Response) { r.Status, r.Bytes = 200, []byte("x") },
		"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: keep-alive\r\n\r\nx"},
	{"close asked for", "GET / HTTP/1.1\r\n" + h + "Connection: x, Close\r\n\r\n", func(_ *msg.Request, r *msg.Response) { r.Status = 200 },
		"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"},
	{"EndConn", get, func(_ *msg.Request, r *msg.Response) { r.Status, r.EndConn = 200, true },
		"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"},
	{"dropped", get, func(_ *msg.Request, r *msg.Response) { r.EndConn = true }, ""},
	{"connection fields are ours", get, func(_ *msg.Request, r *msg.Response) {
		r.Status = 200
		for _, n := range []string{"Connection", "keep-alive", "Transfer-Encoding", "Content-Length", "Upgrade", "Proxy-Connection"} {
			field(r, n, "1")
		}
	}, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"},
	{"prepared", get, func(_ *msg.Request, r *msg.Response) {
		r.Status, r.Bytes, r.Prepared = 200, []byte("x"), &msg.Prepared{H1: []byte("A: b\r\nC: d\r\n")}
		field(r, "Age", "3")
	}, "HTTP/1.1 200 OK\r\nA: b\r\nC: d\r\nAge: 3\r\nContent-Length: 1\r\n\r\nx"},
}

// TestAnswers is how answers are framed.
func TestAnswers(t *testing.T) {
	for _, tc := range answerCases {
		t.Run(tc.name, func(t *testing.T) {
			out := talk(t, &msgtest.Site{Answer: tc.serve}, Limits{}, tc.in)
			if got := undated(out); got != tc.want {
				t.Errorf("got  %q\nwant %q", got, tc.want)
			}
			if tc.want != "" && !strings.Contains(out, "\r\nDate: ") {
				t.Error("no Date")
			}
		})
	}
}

func undated(s string) string {
	i := strings.Index(s, "Date: ")
	if i < 0 {
		return s
	}
	return s[:i] + s[i+strings.Index(s[i:], "\n")+1:]
}

func TestDateOfTheAnswerIsKept(t *testing.T) {
	s := &msgtest.Site{Answer: func(_ *msg.Request, r *msg.Response) {
		r.Status = 200
		r.Fields.AddID(msg.Date, []byte("Sun, 06 Nov 1994 08:49:37 GMT"))
	}}
	if out := talk(t, s, Limits{}, get); strings.Count(out, "Date: ") != 1 || !strings.Contains(out, "1994") {
		t.Errorf("got %q", out)
	}
}

func TestAnswerCannotBeSplit(t *testing.T) {
	evil := []func(*msg.Response){
		func(r *msg.Response) { r.Fields.AddID(msg.Location, []byte("/\r\nSet-Cookie: a=b")) },
		func(r *msg.Response) { r.Fields.AddID(msg.Location, []byte("/\nSet-Cookie: a=b")) },
		func(r *msg.Response) { r.Fields.AddID(msg.Location, []byte("/\rSet-Cookie: a=b")) },
		func(r *msg.Response) { r.Fields.AddID(msg.Location, []byte("/\x00Set-Cookie")) },
		func(r *msg.Response) { r.Fields.Add([]byte("Set-Cookie: x\r\nA"), []byte("b")) },
		func(r *msg.Response) { r.Fields.Add([]byte(""), []byte("Set-Cookie")) },
		func(r *msg.Response) {
			r.Prepared = &msg.Prepared{H1: []byte("A: b\r\n\r\nSet-Cookie: x\r\n")}
		},
		func(r *msg.Response) { r.Prepared = &msg.Prepared{H1: []byte("A: b\nSet-Cookie: x\r\n")} },
		func(r *msg.Response) { r.Prepared = &msg.Prepared{H1: []byte("Set-Cookie: x")} },
		func(r *msg.Response) { r.Status = 99 },
		func(r *msg.Response) { r.Status = 1000 },
	}
	for i, f := range evil {
		s := &msgtest.Site{Answer: func(_ *msg.Request, r *msg.Response) { r.Status = 302; f(r) }}
		out := talk(t, s, Limits{}, get+get)
		if statusOf(out) != 500 || strings.Contains(out, "Set-Cookie") || s.Served != 1 || s.Err == nil {
			t.Errorf("%d: served %d, err %v: %q", i, s.Served, s.Err, out)
		}
	}
}

// failing gives some bytes and then an error.
type failing struct {
	io.Reader
	err error
}

func (f *failing) Read(p []byte) (int, error) {
	n, err := f.Reader.Read(p)
	if err == io.EOF {
		err = f.err
	}
	return n, err
}
func (f *failing) Close() error { return nil }

func TestBrokenStreamIsNotFinished(t *testing.T) {
	boom := &fault.Error{Op: "origin", Err: io.EOF} // wraps an end, but is none
	for _, length := range []int64{msg.LengthUnknown, 10} {
		for _, cause := range []error{boom, io.EOF} {
			if length < 0 && cause == io.EOF {
				continue // that is how it ends
			}
			s := &msgtest.Site{Answer: func(_ *msg.Request, r *msg.Response) {
				r.Status, r.Length, r.Body = 200, length, &failing{strings.NewReader("abc"), cause}
			}}
			out := talk(t, s, Limits{}, get+get)
			if s.Served != 1 || s.Err == nil || s.Sent != 3 {
				t.Errorf("%d %v: served %d, sent %d, err %v", length, cause, s.Served, s.Sent, s.Err)
			}
			if !strings.Contains(out, "abc") || strings.Contains(out, "0\r\n\r\n") && length < 0 {
				t.Errorf("%d %v: %q", length, cause, out)
			}
		}
	}
}

func TestUnreadBody(t *testing.T) {
	ignore := func(_ *msg.Request, r *msg.Response) { r.Status = 200 }
	post := func(n int) string {
		return "POST / HTTP/1.1\r\n" + h + "Content-Length: " + string(appendInt(nil, int64(n))) + "\r\n\r\n" + strings.Repeat("x", n)
	}
	chunked := "POST / HTTP/1.1\r\n" + h + "Transfer-Encoding: chunked\r\n\r\n"
	cases := []struct {
		name, in string
		served   int
	}{
		{"small is read away", post(1000) + get, 2},
		{"large ends the connection", post(3000) + get, 1},
		{"small chunked is read away", chunked + "3\r\nabc\r\n0\r\n\r\n" + get, 2},
		{"large chunked ends the connection", chunked + strings.Repeat("400\r\n"+strings.Repeat("x", 1024)+"\r\n", 4) + "0\r\n\r\n" + get, 1},
		{"malformed chunked ends the connection", chunked + "zz\r\n" + get, 1},
		{"100 not sent ends the connection", "POST / HTTP/1.1\r\n" + h + "Expect: 100-continue\r\nContent-Length: 3\r\n\r\n" + get, 1},
	}
	for _, tc := range cases {
		s := &msgtest.Site{Answer: ignore}
		out := talk(t, s, Limits{DrainBytes: 2000}, tc.in)
		if s.Served != tc.served || strings.Contains(out, "100 Continue") {
			t.Errorf("%s: served = %d, want %d: %q", tc.name, s.Served, tc.served, out)
		}
	}
}

func TestExpectIsAnsweredAtTheFirstRead(t *testing.T) {
	asked := make(chan struct{})
	s := &msgtest.Site{Answer: func(req *msg.Request, res *msg.Response) {
		<-asked
		msgtest.Describe(req, res)
	}}
	visitor, _ := start(t, NewServer(s, Limits{}), 1<<20)
	send(t, visitor, "POST / HTTP/1.1\r\n"+h+"Expect: 100-continue\r\nContent-Length: 3\r\n\r\n")
	close(asked)
	r := bufio.NewReader(visitor)
	for _, want := range []string{"HTTP/1.1 100 Continue\r\n", "\r\n"} {
		if line, err := r.ReadString('\n'); err != nil || line != want {
			t.Fatalf("line %q, err %v, want %q", line, err, want)
		}
	}
	send(t, visitor, "abc")
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	if err != nil || !strings.HasSuffix(string(body), "|body=abc") {
		t.Errorf("body %q, err %v", body, err)
	}
	_ = res.Body.Close()
}

func TestInterim(t *testing.T) {
	s := &msgtest.Site{Answer: func(req *msg.Request, res *msg.Response) {
		var f msg.Fields
		f.AddID(msg.Link, []byte("</a.css>; rel=preload"))
		if err := req.Interim(103, &f); err != nil {
			t.Error(err)
		}
		if err := req.Interim(101, nil); err == nil {
			t.Error("101 was let through")
		}
		f.AddID(msg.Link, []byte("a\r\nb"))
		if err := req.Interim(103, &f); err == nil {
			t.Error("a split answer was let through")
		}
		res.Status = 200
	}}
	out := talk(t, s, Limits{}, get)
	if !strings.HasPrefix(out, "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\nHTTP/1.1 200 OK\r\n") {
		t.Errorf("got %q", out)
	}
}

func send(t testing.TB, w io.Writer, s string) {
	t.Helper()
	if _, err := io.WriteString(w, s); err != nil {
		t.Fatal(err)
	}
}

func TestSlowHeadIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &msgtest.Site{Answer: msgtest.Describe}
		visitor, ended := start(t, NewServer(s, Limits{HeadTimeout: 15 * time.Second}), 1<<20)
		began := time.Now()
		gaveUp := make(chan struct{})
		go func() { // a byte each second, for ever
			defer close(gaveUp)
			for _, b := range []byte("GET / HTTP/1.1\r\nHost: a.test\r\nX: " + strings.Repeat("a", 1000)) {
				if _, err := visitor.Write([]byte{b}); err != nil {
					return
				}
				<-time.After(time.Second)
			}
		}()
		var out bytes.Buffer
		if _, err := out.ReadFrom(visitor); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > 16*time.Second || took < 14*time.Second {
			t.Errorf("took %v, want about 15s", took)
		}
		_ = visitor.Close()
		<-ended
		<-gaveUp
		if statusOf(out.String()) != 408 || s.Status != 408 || s.Served != 0 {
			t.Errorf("refused %d, served %d: %q", s.Status, s.Served, out.String())
		}
	})
}

func TestIdleConnectionEndsSilently(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &msgtest.Site{Answer: msgtest.Describe}
		visitor, ended := start(t, NewServer(s, Limits{IdleTimeout: time.Minute}), 1<<20)
		send(t, visitor, get)
		began := time.Now()
		out, err := io.ReadAll(visitor)
		if err != nil {
			t.Fatal(err)
		}
		<-ended
		if took := time.Since(began); took < 58*time.Second || took > time.Minute {
			t.Errorf("ended after %v, want about a minute", took)
		}
		if strings.Count(string(out), "HTTP/1.1") != 1 || s.Status != 0 {
			t.Errorf("refused %d: %q", s.Status, out)
		}
	})
}

func TestSlowBodyIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		got := make(chan error, 1)
		s := &msgtest.Site{Answer: func(req *msg.Request, res *msg.Response) {
			_, err := io.ReadAll(req.Body)
			got <- err
			res.Status = 408
		}}
		visitor, _ := start(t, NewServer(s, Limits{BodyTimeout: 10 * time.Second}), 1<<20)
		send(t, visitor, "POST / HTTP/1.1\r\n"+h+"Content-Length: 5000\r\n\r\nab")
		<-time.After(9 * time.Second)
		send(t, visitor, strings.Repeat("c", 9*240)) // what has been waited for
		began := time.Now()
		err := <-got
		if kindOf(err) != "visitor timeout" {
			t.Errorf("err = %v", err)
		}
		if took := time.Since(began); took < 7*time.Second || took > 10*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

// A byte now and then keeps no connection, wherever in a body it stands.
func TestDribblingBodyIsBounded(t *testing.T) {
	const post = "POST / HTTP/1.1\r\n" + h
	for name, c := range map[string]struct {
		first, more string
		calls       bool // it may be a call that says little
	}{
		"content":          {post + "Content-Length: 5000\r\n\r\n", "x", false},
		"chunks":           {post + "Transfer-Encoding: chunked\r\n\r\n", "1\r\nx\r\n", false},
		"chunk extensions": {post + "Transfer-Encoding: chunked\r\n\r\n1;", "x", false},
		"trailer":          {post + "Transfer-Encoding: chunked\r\n\r\n0\r\na: ", "x", false},
		"calls of gRPC":    {post + "Content-Type: application/grpc\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\nx\r\n", true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				got := make(chan error, 1)
				s := &msgtest.Site{Answer: func(req *msg.Request, res *msg.Response) {
					_, err := io.ReadAll(req.Body)
					got <- err
					res.Status = 408
				}}
				srv := NewServer(s, Limits{})
				visitor, _ := start(t, srv, 1<<20)
				began := time.Now()
				send(t, visitor, c.first)
				for len(got) == 0 && time.Since(began) < 5*time.Minute {
					<-time.After(29 * time.Second)
					_, _ = io.WriteString(visitor, c.more) // fails when it has been shut
				}
				if c.calls {
					if len(got) > 0 {
						t.Error(<-got)
					}
					_, _ = io.WriteString(visitor, "0\r\n\r\n")
				}
				err := <-got
				if want := map[bool]string{true: "<nil>", false: "visitor timeout"}[c.calls]; err == nil != c.calls || err != nil && kindOf(err) != want {
					t.Errorf("%v, want %s", err, want)
				}
				if took := time.Since(began); !c.calls && took > 59*time.Second {
					t.Errorf("took %v", took)
				}
				want := uint64(1)
				if c.calls {
					want = 0
				}
				srv.Each(func(r Reason, n uint64) {
					if r == SlowBody && n != want || r != SlowBody && n != 0 {
						t.Errorf("%d %s counted", n, r)
					}
				})
			})
		})
	}
}

func TestSlowReaderIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &msgtest.Site{Answer: func(_ *msg.Request, res *msg.Response) { res.Status, res.Bytes = 200, make([]byte, 1<<20) }}
		began := time.Now()
		_, ended := start(t, NewServer(s, Limits{WriteTimeout: 20 * time.Second}), 1000)
		visitor, ended2 := start(t, NewServer(s, Limits{WriteTimeout: 20 * time.Second}), 1000)
		send(t, visitor, get)
		<-ended2 // reads nothing
		if took := time.Since(began); took > 21*time.Second {
			t.Errorf("took %v", took)
		}
		if kindOf(s.Err) != "visitor timeout" || s.Sent >= 1000 {
			t.Errorf("sent %d, err %v", s.Sent, s.Err)
		}
		select {
		case <-ended:
			t.Error("the neighbour ended too")
		default:
		}
	})
}

func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hold := make(chan struct{})
		s := &msgtest.Site{Answer: func(_ *msg.Request, res *msg.Response) {
			<-hold
			res.Status = 200
		}}
		srv := NewServer(s, Limits{})
		idler, idlerEnd := start(t, srv, 1<<20)
		newcomer, newcomerEnd := start(t, srv, 1<<20)
		worker, workerEnd := start(t, srv, 1<<20)
		send(t, idler, get)
		hold <- struct{}{}
		send(t, worker, get)
		synctest.Wait()
		drained := make(chan error, 1)
		began := time.Now()
		go func() { drained <- srv.Drain(t.Context()) }()
		<-idlerEnd
		if took := time.Since(began); took != 0 {
			t.Errorf("idle connection ended after %v", took)
		}
		send(t, newcomer, get)
		synctest.Wait()
		close(hold)
		for _, c := range []*msgtest.Conn{worker, newcomer} {
			out, err := io.ReadAll(c)
			if err != nil || !strings.Contains(string(out), "200 OK") || !strings.Contains(string(out), "Connection: close") {
				t.Errorf("err %v: %q", err, out)
			}
			_ = c.Close()
		}
		<-workerEnd
		<-newcomerEnd
		if err := <-drained; err != nil {
			t.Errorf("Drain: %v", err)
		}
		late, lateEnd := start(t, srv, 1<<20)
		send(t, late, get)
		out, _ := io.ReadAll(late)
		_ = late.Close()
		<-lateEnd
		if !strings.Contains(string(out), "Connection: close") {
			t.Errorf("late: %q", out)
		}
	})
}

func TestDrainEndsWhatNeverAsks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := NewServer(&msgtest.Site{Answer: msgtest.Describe}, Limits{})
		_, ended := start(t, srv, 1<<20)
		synctest.Wait()
		began := time.Now()
		if err := srv.Drain(t.Context()); err != nil {
			t.Error(err)
		}
		<-ended
		if took := time.Since(began); took > drainGrace {
			t.Errorf("took %v", took)
		}
	})
}

func TestDrainCutsAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &msgtest.Site{Answer: func(req *msg.Request, res *msg.Response) {
			_, _ = io.ReadAll(req.Body) // until it is cut
			res.Status = 200
		}}
		srv := NewServer(s, Limits{BodyTimeout: time.Hour})
		visitor, ended := start(t, srv, 1<<20)
		send(t, visitor, "POST / HTTP/1.1\r\n"+h+"Content-Length: 5\r\n\r\nab")
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		began := time.Now()
		if err := srv.Drain(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("err = %v", err)
		}
		<-ended
		if took := time.Since(began); took != 30*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

// TestBodyCloseEndsARead is the case of an origin that answers early: who
// sends it the visitor's body must get free.
func TestBodyCloseEndsARead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		waits := make(chan struct{})
		s := &msgtest.Site{Answer: func(req *msg.Request, res *msg.Response) {
			if req.Body == nil {
				msgtest.Describe(req, res)
				return
			}
			ended := make(chan error)
			go func() {
				_, err := req.Body.Read(make([]byte, 10))
				if err == nil {
					_, err = req.Body.Read(make([]byte, 10))
				}
				ended <- err
			}()
			<-waits
			_ = req.Body.Close()
			if err := <-ended; !errors.Is(err, errBodyClosed) {
				t.Errorf("err = %v", err)
			}
			res.Status = 200
		}}
		visitor, ended := start(t, NewServer(s, Limits{BodyTimeout: time.Hour}), 1<<20)
		send(t, visitor, "POST / HTTP/1.1\r\n"+h+"Content-Length: 5\r\n\r\nab")
		synctest.Wait()
		close(waits)
		synctest.Wait()
		send(t, visitor, "cde"+get) // the rest is read away, the connection lives
		_ = visitor.CloseWrite()
		out, err := io.ReadAll(visitor)
		if err != nil || strings.Count(string(out), "200 OK") != 2 {
			t.Errorf("err %v: %q", err, out)
		}
		<-ended
	})
}

func TestFaultsOfTheVisitor(t *testing.T) {
	for err, want := range map[error]fault.Kind{
		errChunkLine: fault.Malformed, errBodyLarge: fault.TooLarge, errTrailerBig: fault.Malformed,
		os.ErrDeadlineExceeded: fault.Timeout, io.ErrUnexpectedEOF: fault.Closed,
	} {
		if got := visitorFault("x", err); got.Kind != want || got.Side != fault.Visitor {
			t.Errorf("%v: %v, want %v", err, got.Kind, want)
		}
	}
}
