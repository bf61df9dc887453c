package cache

import (
	"compress/gzip"
	"io"
	"strings"
	"testing"

	"github.com/selvage-edge/selvage/edge/phase/cache/coding"
	"github.com/selvage-edge/selvage/edge/request"
	"github.com/selvage-edge/selvage/wire/msg"
)

var pageText = strings.Repeat("<p>warp and weft</p>\n", 200)

// paper is an origin that answers with pageText and these lines.
func paper(lines ...string) func(*request.Request) error {
	return func(r *request.Request) error {
		addLines(&r.Out.Fields, lines...)
		r.Out.Status, r.Out.Length = 200, int64(len(pageText))
		r.Out.Body = io.NopCloser(strings.NewReader(pageText))
		return nil
	}
}

func TestPassingAnswersAreCompressed(t *testing.T) {
	html := "Content-Type: text/html"
	for _, c := range []struct {
		name   string
		answer []string
		ask    []string
		coding string
		vary   bool
	}{
		{"accepted", []string{html}, []string{"Accept-Encoding: gzip"}, "gzip", true},
		{"best of several", []string{html}, []string{"Accept-Encoding: gzip, deflate, br, zstd"}, "zstd", true},
		{"not accepted", []string{html}, nil, "", true},
		{"refused", []string{html}, []string{"Accept-Encoding: gzip;q=0"}, "", true},
		{"a picture", []string{"Content-Type: image/png"}, []string{"Accept-Encoding: gzip"}, "", false},
		{"coded by the origin", []string{html, "Content-Encoding: br"}, []string{"Accept-Encoding: gzip"}, "br", false},
		{"not to be transformed", []string{html, "Cache-Control: max-age=9, no-transform"}, []string{"Accept-Encoding: gzip"}, "", false},
		{"a part is asked for", []string{html}, []string{"Accept-Encoding: gzip", "Range: bytes=0-9"}, "", true},
	} {
		g := newRig(t, Config{}, paper(append(c.answer, `ETag: "1"`)...))
		g.plan.codings = codings{coding.Stored, coding.Passed}
		r := ask(t.Context(), "GET /page", c.ask...)
		if _, err := g.e.Run(&g.plan, r); err != nil {
			t.Fatal(err)
		}
		g.e.Encode(&g.plan, r)
		if got := string(r.Out.Fields.Get(msg.ContentEncoding)); got != c.coding && string(fieldsIn(r.Out)(msg.ContentEncoding)) != c.coding {
			t.Errorf("%s: coding %q, want %q", c.name, got, c.coding)
		}
		if vary := r.Out.Fields.HasToken(msg.Vary, "accept-encoding"); vary != c.vary {
			t.Errorf("%s: Vary %t", c.name, vary)
		}
		body, err := io.ReadAll(r.Out.Body)
		if err != nil {
			t.Fatal(err)
		}
		coded := c.coding != "" && c.vary
		tag := string(fieldsIn(r.Out)(msg.ETag))
		if coded && (len(body) >= len(pageText) || r.Out.Length != msg.LengthUnknown || tag != `W/"1"`) {
			t.Errorf("%s: %d bytes of length %d, tag %s", c.name, len(body), r.Out.Length, tag)
		}
		if !coded && (string(body) != pageText || tag != `"1"`) {
			t.Errorf("%s: body of %d bytes, tag %s", c.name, len(body), tag)
		}
		r.Out.Close()
	}
}

func TestCompressedPassIsTheSamePage(t *testing.T) {
	g := newRig(t, Config{}, paper("Content-Type: text/html"))
	g.plan.codings = codings{coding.Stored, coding.Passed}
	r := ask(t.Context(), "GET /page", "Accept-Encoding: gzip")
	if _, err := g.e.Run(&g.plan, r); err != nil {
		t.Fatal(err)
	}
	g.e.Encode(&g.plan, r)
	defer r.Out.Close()
	z, err := gzip.NewReader(r.Out.Body)
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(z); err != nil || string(body) != pageText {
		t.Errorf("%d bytes, %v", len(body), err)
	}
}

// TestOtherEdgesGetWhatTheOriginSent: they compress for their own visitors.
func TestOtherEdgesGetWhatTheOriginSent(t *testing.T) {
	g := newRig(t, Config{}, paper("Content-Type: text/html"))
	g.plan.codings = codings{coding.Stored, coding.Passed}
	r := ask(t.Context(), "GET /page", "Accept-Encoding: gzip")
	r.Role = request.RoleOwner
	if _, err := g.e.Run(&g.plan, r); err != nil {
		t.Fatal(err)
	}
	g.e.Encode(&g.plan, r)
	defer r.Out.Close()
	if r.Out.Fields.Has(msg.ContentEncoding) || r.Out.Fields.Has(msg.Vary) {
		t.Error("compressed for another edge")
	}
}
