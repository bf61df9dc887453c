package cache

import (
	"bytes"
	"compress/gzip"
	"io"
	"strings"
	"testing"
	"time"

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
		{"parts are asked for", []string{html}, []string{"Accept-Encoding: gzip", "Range: bytes=0-9, 20-29"}, "", true},
	} {
		g := newRig(t, Config{}, paper(append(c.answer, `ETag: "1"`)...))
		g.plan.codings = codings{coding.Stored, coding.Passed}
		r := ask(t.Context(), "GET /page", c.ask...)
		if _, err := g.e.Run(&g.plan, r); err != nil {
			t.Fatal(err)
		}
		g.e.Encode(&g.plan, r)
		if got := string(r.Out.Fields.Get(msg.ContentEncoding)); got != c.coding && string(fieldsIn(r.Out).get(msg.ContentEncoding)) != c.coding {
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
		tag := string(fieldsIn(r.Out).get(msg.ETag))
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

// page asks for it and reads it.
func (g *rig) page(lines ...string) (coding, tag, vary string, body []byte, status int) {
	g.t.Helper()
	r := ask(g.t.Context(), "GET /page", lines...)
	if _, err := g.e.Run(&g.plan, r); err != nil {
		g.t.Fatal(err)
	}
	g.e.Encode(&g.plan, r)
	defer r.Out.Close()
	body = bytes.Clone(r.Out.Bytes)
	if r.Out.Body != nil {
		var err error
		if body, err = io.ReadAll(r.Out.Body); err != nil {
			g.t.Fatal(err)
		}
	}
	get := fieldsIn(r.Out).get
	return string(get(msg.ContentEncoding)), string(get(msg.ETag)), string(get(msg.Vary)), body, r.Out.Status
}

func unzip(t *testing.T, coded []byte) string {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(coded))
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestStoredAnswersAreCompressedOnce: a hit sends what was made before.
func TestStoredAnswersAreCompressedOnce(t *testing.T) {
	g := newRig(t, Config{}, paper("Content-Type: text/html", `ETag: "1"`, "Cache-Control: max-age=60", "Accept-Ranges: bytes"))
	g.plan.codings = codings{coding.Stored, coding.Passed}
	g.page("Accept-Encoding: gzip")
	var first []byte
	for until := time.Now().Add(20 * time.Second); first == nil; {
		c, tag, vary, body, _ := g.page("Accept-Encoding: gzip")
		if vary != "Accept-Encoding" {
			t.Fatalf("Vary %q", vary)
		}
		switch {
		case c == "gzip" && tag == `W/"1"` && unzip(t, body) == pageText:
			first = body
		case c != "" || string(body) != pageText || tag != `"1"` || time.Now().After(until):
			t.Fatalf("coding %q, tag %s, %d bytes", c, tag, len(body))
		}
	}
	if _, _, _, body, _ := g.page("Accept-Encoding: gzip"); !bytes.Equal(body, first) {
		t.Error("the second hit is another")
	}
	if c, tag, vary, body, _ := g.page(); c != "" || tag != `"1"` || vary != "Accept-Encoding" || string(body) != pageText {
		t.Errorf("who accepts none: coding %q, tag %s, Vary %q, %d bytes", c, tag, vary, len(body))
	}
	if c, _, _, body, status := g.page("Accept-Encoding: gzip", "Range: bytes=0-9"); c != "" || status != 206 || string(body) != pageText[:10] {
		t.Errorf("a part: %d, coding %q, %q", status, c, body)
	}
	for _, tag := range []string{`"1"`, `W/"1"`} {
		if _, _, _, body, status := g.page("Accept-Encoding: gzip", "If-None-Match: "+tag); status != 304 || len(body) > 0 {
			t.Errorf("%s: %d with %d bytes", tag, status, len(body))
		}
	}
	if n := g.fetches.Load(); n != 1 {
		t.Errorf("%d fetches", n)
	}
}

func BenchmarkCodedHit(b *testing.B) {
	g := newRig(b, Config{}, paper("Content-Type: text/html", "Cache-Control: max-age=60"))
	g.plan.codings = codings{coding.Stored, coding.Passed}
	for c := ""; c == ""; {
		if c, _, _, _, _ = g.page("Accept-Encoding: gzip, deflate, br, zstd"); c == "zstd" {
			c = "" // of the miss
		}
	}
	r := ask(b.Context(), "GET /page", "Accept-Encoding: gzip, deflate, br, zstd")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := g.e.Run(&g.plan, r); err != nil || len(r.Out.Bytes) == 0 || len(r.Out.Bytes) > len(pageText)/2 {
			b.Fatal(len(r.Out.Bytes), err)
		}
		r.Out.Close()
		r.Out.Reset()
		r.Arena.Reset()
	}
}

// TestHeadSaysWhatTheAnswerDependsOn as its GET would.
func TestHeadSaysWhatTheAnswerDependsOn(t *testing.T) {
	for kind, want := range map[string]string{"text/html": "Accept-Encoding", "image/png": ""} {
		g := newRig(t, Config{}, func(r *request.Request) error {
			addLines(&r.Out.Fields, "Content-Type: "+kind, "Content-Length: 5000")
			r.Out.Status = 200
			return nil
		})
		g.plan.codings = codings{coding.Stored, coding.Passed}
		r := ask(t.Context(), "HEAD /page", "Accept-Encoding: gzip")
		if _, err := g.e.Run(&g.plan, r); err != nil {
			t.Fatal(err)
		}
		g.e.Encode(&g.plan, r)
		if got := string(r.Out.Fields.Get(msg.Vary)); got != want {
			t.Errorf("%s: Vary %q, want %q", kind, got, want)
		}
		r.Out.Close()
	}
}

// TestDigestsLeaveWithTheContentTheySpeakOf also from what is stored.
func TestDigestsLeaveWithTheContentTheySpeakOf(t *testing.T) {
	g := newRig(t, Config{}, paper("Content-Type: text/html", "Cache-Control: max-age=60", "Content-Digest: sha-256=:AA==:", "Repr-Digest: x", "Digest: y", "Content-MD5: z"))
	g.plan.codings = codings{coding.Stored, coding.Passed}
	digested := func(lines ...string) (coding string, n int) {
		r := ask(t.Context(), "GET /page", lines...)
		if _, err := g.e.Run(&g.plan, r); err != nil {
			t.Fatal(err)
		}
		g.e.Encode(&g.plan, r)
		defer r.Out.Close()
		h := fieldsIn(r.Out)
		for _, f := range h {
			for _, name := range digests {
				if f.Lookup(name) != nil {
					n++
				}
			}
		}
		return string(h.get(msg.ContentEncoding)), n
	}
	hits := 0
	for until := time.Now().Add(20 * time.Second); hits == 0 && time.Now().Before(until); {
		switch c, n := digested("Accept-Encoding: br"); {
		case c == "br" && g.e.coded.Load() > 0:
			hits++
			fallthrough
		case c == "br":
			if n != 0 {
				t.Fatalf("%d digests with br", n)
			}
		case n != len(digests):
			t.Fatalf("%d digests without a coding, want %d", n, len(digests))
		}
	}
	if hits == 0 {
		t.Error("never compressed")
	}
}
