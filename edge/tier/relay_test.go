package tier

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/selvage-edge/selvage/wire/msg"
)

// breaking is a body that ends with an error after some bytes.
func breaking(text string) io.ReadCloser {
	return io.NopCloser(io.MultiReader(strings.NewReader(text), failing{}))
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errors.New("cut") }

// others answers one after the other for the rest.
type others struct {
	answers []func(from int) *msg.Response
	asked   []string
	resumed int
}

func (o *others) More(ask func(*msg.Fields)) (*msg.Response, bool) {
	var f msg.Fields
	ask(&f)
	o.asked = append(o.asked, fmt.Sprintf("%s if %s", f.Get(msg.Range), f.Get(msg.IfRange)))
	if len(o.answers) == 0 {
		return nil, false
	}
	var from int
	_, _ = fmt.Sscanf(string(f.Get(msg.Range)), "bytes=%d-", &from)
	out := o.answers[0](from)
	o.answers = o.answers[1:]
	return out, len(o.answers) > 0
}

func (o *others) Resumed() { o.resumed++ }

const whole = "0123456789abcdefghij"

func answer(status int, body io.ReadCloser, length int64, lines ...string) *msg.Response {
	out := &msg.Response{Status: status, Body: body, Length: length}
	for _, l := range lines {
		name, value, _ := strings.Cut(l, ": ")
		out.Fields.Add([]byte(name), []byte(value))
	}
	return out
}

// part is a 206 from a byte on, with some of the bytes.
func part(n int, lines ...string) func(int) *msg.Response {
	return func(from int) *msg.Response {
		lines := append([]string{fmt.Sprintf("Content-Range: bytes %d-19/20", from)}, lines...)
		if from+n >= len(whole) {
			return answer(206, io.NopCloser(strings.NewReader(whole[from:])), int64(20-from), lines...)
		}
		return answer(206, breaking(whole[from:from+n]), int64(20-from), lines...)
	}
}

func TestBrokenAnswersGoOnWhereTheyStopped(t *testing.T) {
	const tag = `ETag: "1"`
	none := func(int) *msg.Response { return nil }
	for name, c := range map[string]struct {
		first *msg.Response
		more  []func(int) *msg.Response
		want  string
		whole bool
	}{
		"not broken":        {answer(200, io.NopCloser(strings.NewReader(whole)), 20, tag), nil, whole, true},
		"one goes on":       {answer(200, breaking(whole[:7]), 20, tag), []func(int) *msg.Response{part(20, tag)}, whole, true},
		"each dies in turn": {answer(200, breaking(whole[:7]), 20, tag), []func(int) *msg.Response{part(1, tag), none, part(3, tag), part(20, tag)}, whole, true},
		"before a byte":     {answer(200, breaking(""), 20, tag), []func(int) *msg.Response{part(20, tag)}, whole, true},
		"unknown length":    {answer(200, breaking(whole[:7]), -1, tag), []func(int) *msg.Response{part(20, tag)}, whole, true},
		"the whole anew":    {answer(200, breaking(whole[:7]), 20, tag), []func(int) *msg.Response{func(int) *msg.Response { return answer(200, io.NopCloser(strings.NewReader(whole)), 20, tag) }}, whole, true},
		"in memory":         {answer(200, breaking(whole[:7]), 20, tag), []func(int) *msg.Response{func(int) *msg.Response { r := answer(200, nil, 20, tag); r.Bytes = []byte(whole); return r }}, whole, true},
		"of a part": {answer(206, breaking(whole[5:9]), 10, tag, "Content-Range: bytes 5-14/20"), []func(int) *msg.Response{func(int) *msg.Response {
			return answer(206, io.NopCloser(strings.NewReader(whole[9:15])), 6, tag, "Content-Range: bytes 9-14/20")
		}}, whole[5:15], true},
		"part out of a whole": {answer(206, breaking(whole[5:9]), 10, tag, "Content-Range: bytes 5-14/20"), []func(int) *msg.Response{func(int) *msg.Response { return answer(200, io.NopCloser(strings.NewReader(whole)), 20, tag) }}, whole[5:15], true},
		"ends early":          {answer(200, io.NopCloser(strings.NewReader(whole[:7])), 20, tag), []func(int) *msg.Response{part(20, tag)}, whole, true},
		"no validator":        {answer(200, breaking(whole[:7]), 20), []func(int) *msg.Response{part(20)}, whole[:7], false},
		"weak tag":            {answer(200, breaking(whole[:7]), 20, `ETag: W/"1"`), []func(int) *msg.Response{part(20, `ETag: W/"1"`)}, whole[:7], false},
		"another tag":         {answer(200, breaking(whole[:7]), 20, tag), []func(int) *msg.Response{part(20, `ETag: "2"`)}, whole[:7], false},
		"another, then it":    {answer(200, breaking(whole[:7]), 20, tag), []func(int) *msg.Response{part(20, `ETag: "2"`), part(20, tag)}, whole, true},
		"another part": {answer(200, breaking(whole[:7]), 20, tag), []func(int) *msg.Response{func(int) *msg.Response {
			return answer(206, io.NopCloser(strings.NewReader(whole[6:])), 14, tag, "Content-Range: bytes 6-19/20")
		}}, whole[:7], false},
		"less than the rest, of an unknown length": {answer(200, breaking(whole[:7]), -1, tag), []func(int) *msg.Response{func(int) *msg.Response {
			return answer(206, io.NopCloser(strings.NewReader(whole[7:12])), 5, tag, "Content-Range: bytes 7-11/20")
		}}, whole[:7], false},
		"cut, then short, of an unknown length": {answer(200, breaking(whole[:7]), -1, tag), []func(int) *msg.Response{part(3, tag), func(int) *msg.Response {
			return answer(200, io.NopCloser(strings.NewReader(whole[:15])), -1, tag)
		}}, whole[:15], false},
		"another length": {answer(200, breaking(whole[:7]), 20, tag), []func(int) *msg.Response{func(int) *msg.Response {
			return answer(206, io.NopCloser(strings.NewReader(whole[7:18])), 11, tag, "Content-Range: bytes 7-17/18")
		}}, whole[:7], false},
		"changed: 412":        {answer(200, breaking(whole[:7]), 20, tag), []func(int) *msg.Response{func(int) *msg.Response { return answer(412, io.NopCloser(strings.NewReader("no")), 2, tag) }}, whole[:7], false},
		"nobody":              {answer(200, breaking(whole[:7]), 20, tag), nil, whole[:7], false},
		"fresh Last-Modified": {answer(200, breaking(whole[:7]), 20, "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT", "Date: Sun, 06 Nov 1994 08:50:36 GMT"), []func(int) *msg.Response{part(20, "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT", "Date: Sun, 06 Nov 1994 08:50:36 GMT")}, whole[:7], false},
		"old Last-Modified":   {answer(200, breaking(whole[:7]), 20, "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT", "Date: Sun, 06 Nov 1994 08:50:37 GMT"), []func(int) *msg.Response{part(20, "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT", "Date: Sun, 06 Nov 1994 09:50:37 GMT")}, whole, true},
	} {
		o := &others{answers: c.more}
		Watch(c.first, o)
		got, err := io.ReadAll(c.first.Body)
		if string(got) != c.want || (err == nil) != c.whole {
			t.Errorf("%s: %q, %v after asking %q; want %q", name, got, err, o.asked, c.want)
		}
		c.first.Close()
	}
}

func TestAnswersWithoutABodyAreLeftAlone(t *testing.T) {
	out := answer(304, nil, 0)
	Watch(out, &others{})
	if out.Body != nil {
		t.Error("a 304 got a body")
	}
}

// What a Content-Range means never lies outside of the representation.
func FuzzContentRange(f *testing.F) {
	for _, seed := range []string{"bytes 0-0/1", "bytes 5-9/*", "bytes */5", "bytes 9-5/20", "items 0-1/2", "bytes 0-99999999999999999999/*"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		first, last, length, ok := contentRange(text)
		if !ok {
			return
		}
		if first < 0 || last < first || length >= 0 && last >= length {
			t.Errorf("%q: %d-%d/%d", text, first, last, length)
		}
		if !bytes.HasPrefix(text, []byte("bytes ")) {
			t.Errorf("%q is of another unit", text)
		}
	})
}
