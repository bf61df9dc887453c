package h1

import (
	"io"
	"testing"

	"github.com/selvage-edge/selvage/wire/msg"
	"github.com/selvage-edge/selvage/wire/msg/msgtest"
)

// start serves one in-memory connection and returns the visitor's end.
func start(t testing.TB, s *Server, window int) (visitor *msgtest.Conn, ended <-chan struct{}) {
	t.Helper()
	return msgtest.Start(t, s.ServeConn, window)
}

// talk sends all of in, ends its side, and returns all that came back.
func talk(t testing.TB, h msg.Handler, l Limits, in string) string {
	t.Helper()
	visitor, ended := start(t, NewServer(h, l), 1<<20)
	if _, err := visitor.Write([]byte(in)); err != nil {
		t.Fatal(err)
	}
	_ = visitor.CloseWrite()
	out, err := io.ReadAll(visitor)
	if err != nil {
		t.Fatal(err)
	}
	<-ended
	return string(out)
}
