package h1

import (
	"strings"
	"testing"
)

func TestKeepAliveAnswersInOrder(t *testing.T) {
	s := &site{serve: describe}
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
	if got := s.calls(); got != want {
		t.Errorf("calls:\n%s\nwant:\n%s", got, want)
	}
}
