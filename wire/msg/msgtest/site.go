package msgtest

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/selvage-edge/selvage/wire/msg"
)

// Site is a msg.Handler and its sessions: it answers with a function and keeps what it was told.
type Site struct {
	Answer func(*msg.Request, *msg.Response)

	mu     sync.Mutex // guards what follows, while calls may come
	log    []string   // one line per call
	Served int        // calls of Serve
	Status int        // of the latest Refused
	Err    error      // of the latest Done or Refused
	Sent   int64      // of the latest Done
}

// Open implements msg.Handler.
func (s *Site) Open(*msg.Conn) msg.Session { return s }

// Serve implements msg.Session.
func (s *Site) Serve(req *msg.Request, res *msg.Response) {
	s.Note("serve " + string(req.MethodText) + " " + string(req.Target))
	s.mu.Lock()
	s.Served++
	s.mu.Unlock()
	s.Answer(req, res)
}

// Done implements msg.Session.
func (s *Site) Done(_ *msg.Request, _ *msg.Response, sent int64, err error) {
	s.Note("done")
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Err, s.Sent = err, sent
}

// Refused implements msg.Session.
func (s *Site) Refused(status int, reason error) {
	s.Note("refused")
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Status, s.Err = status, reason
}

// Close implements msg.Session.
func (s *Site) Close() { s.Note("close") }

// Note adds a line to Calls.
func (s *Site) Note(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log = append(s.log, line)
}

// Calls returns a line for each call, but Left, and for each Note.
func (s *Site) Calls() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.log, "\n")
}

// Last is Err for while calls may come.
func (s *Site) Last() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.Err
}

// Describe answers with what the handler saw of the request.
func Describe(req *msg.Request, res *msg.Response) {
	var b bytes.Buffer
	b.WriteString(string(req.MethodText) + " " + string(req.Target) + " @" + string(req.Authority))
	for _, f := range req.Fields.All() {
		b.WriteString("|" + string(f.Name) + "=" + string(f.Value))
	}
	if req.Body != nil {
		body, err := io.ReadAll(req.Body)
		b.WriteString("|body=" + string(body))
		if err != nil {
			b.WriteString("|error")
		}
		for _, f := range req.Trailer.All() {
			b.WriteString("|trailer " + string(f.Name) + "=" + string(f.Value))
		}
	}
	res.Status, res.Bytes = 200, b.Bytes()
}

// Start gives one connection to serve, until the visitor's end is closed, at
// the end of the test at the latest.
func Start(tb testing.TB, serve func(net.Conn, *msg.Conn), window int) (visitor *Conn, ended <-chan struct{}) {
	tb.Helper()
	a, b := Conns(window)
	done := make(chan struct{})
	go func() {
		defer close(done)
		serve(b, new(msg.Conn))
	}()
	tb.Cleanup(func() {
		_ = a.Close()
		<-done
	})
	return a, done
}

// Discard reads what is left of an answer's body, into p, and closes the answer.
func Discard(tb testing.TB, res *msg.Response, p []byte) {
	tb.Helper()
	for {
		if _, err := res.Body.Read(p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			tb.Fatal(err)
		}
	}
	res.Close()
}
