package feedstatus

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/selvage-edge/selvage/client"
)

func TestScreenFits(t *testing.T) {
	for _, c := range []struct {
		text       string
		rows, cols int
		first      bool
		want       string
	}{
		{"a\nb\n", 24, 80, true, "\x1b[2J\x1b[Ha\x1b[K\nb\x1b[K\n\x1b[J"},
		{"a\nb\n", 24, 80, false, "\x1b[Ha\x1b[K\nb\x1b[K\n\x1b[J"},
		{"äbcdef\n", 24, 3, false, "\x1b[Häbc\x1b[K\n\x1b[J"},
		{"1\n2\n3\n", 4, 80, false, "\x1b[H1\x1b[K\n2\x1b[K\n3\x1b[K\n\x1b[J"},
		{"1\n2\n3\n4\n5\n", 4, 80, false, "\x1b[H1\x1b[K\n2\x1b[K\nand 3 more\x1b[K\n\x1b[J"},
	} {
		if got := string(screen([]byte(c.text), c.rows, c.cols, c.first)); got != c.want {
			t.Errorf("%q in %d by %d: got %q, want %q", c.text, c.rows, c.cols, got, c.want)
		}
	}
}

// On a terminal a change's table is drawn until it is everywhere.
func TestTableRefreshesUntilEverywhere(t *testing.T) {
	answers := []string{
		`{"seq":7,"head":7,"text":"live in 0 of 1","pending":[{"node":"n1","colo":"FRA","connected":true,"applied":6}]}`,
		`{"seq":7,"head":7,"text":"live in 1 of 1","acked":[{"node":"n1","colo":"FRA"}]}`,
	}
	asked := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"success":true,"result":%s}`, answers[min(asked, len(answers)-1)])
		asked++
	}))
	defer s.Close()
	c, err := client.New(client.Config{API: s.URL, Token: "t"})
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	lacking, err := (&Status{Client: c, Seq: 7, Out: &out, Rows: 24, Cols: 80}).Show(t.Context(), true)
	if err != nil || lacking != 0 || asked != 2 {
		t.Errorf("%d lack it, %v, asked %d times", lacking, err, asked)
	}
	if got := out.String(); strings.Count(got, "\x1b[H") != 2 || !strings.Contains(got, "FRA   n1    behind  6        -") || !strings.Contains(got, "live in 1 of 1\x1b[K\n") {
		t.Errorf("drawn: %q", got)
	}
	out.Reset()
	asked = 0
	lacking, err = (&Status{Client: c, Seq: 7, Out: &out}).Show(t.Context(), false)
	if err != nil || lacking != 1 || strings.Contains(out.String(), "\x1b") {
		t.Errorf("once: %d lack it, %v, %q", lacking, err, out.String())
	}
}
