package errors

import (
	"encoding/json"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/selvage-edge/selvage/edge/request"
	"github.com/selvage-edge/selvage/fault"
	"github.com/selvage-edge/selvage/wire/msg"
)

var update = flag.Bool("update", false, "rewrite testdata")

func ask(method, accept string) *request.Request {
	in := &msg.Request{MethodText: []byte(method), Method: msg.MethodOf([]byte(method))}
	if accept != "" {
		in.Fields.AddID(msg.Accept, []byte(accept))
	}
	return &request.Request{
		In: in, Out: new(msg.Response), Host: []byte("shop.test"), Colo: "FRA", Ray: 0x0123456789abcdef,
		Client: netip.MustParseAddr("198.51.100.7"), Start: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
	}
}

func broken(side fault.Side, kind fault.Kind) *fault.Error {
	return &fault.Error{Op: "origin.dial", Side: side, Kind: kind, Err: os.ErrPermission}
}

func TestPages(t *testing.T) {
	e := New()
	for _, c := range []struct {
		name   string
		accept string
		status int
		fault  *fault.Error
	}{
		{"400.html", "", 400, broken(fault.Visitor, fault.Malformed)},
		{"421.html", "text/html", 421, broken(fault.Visitor, fault.NotFound)},
		{"500.html", "", 500, broken(fault.Edge, fault.Other)},
		{"521.html", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", 521, broken(fault.Origin, fault.Refused)},
		{"521.json", "application/json", 521, broken(fault.Origin, fault.Refused)},
		{"521.txt", "text/plain", 521, broken(fault.Origin, fault.Refused)},
		{"526.txt", "text/plain", 526, broken(fault.Origin, fault.Certificate)},
		{"530-forbidden.txt", "text/plain", 530, broken(fault.Origin, fault.Forbidden)},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := ask("GET", c.accept)
			e.Render(r, c.status, c.fault)
			path := filepath.Join("testdata", c.name)
			if *update {
				if err := os.WriteFile(path, r.Out.Bytes, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if string(r.Out.Bytes) != string(want) {
				t.Errorf("the page differs from %s; -update rewrites it:\n%s", path, r.Out.Bytes)
			}
			if r.Out.Status != c.status || r.Out.Length != int64(len(want)) {
				t.Errorf("status %d, length %d; want %d, %d", r.Out.Status, r.Out.Length, c.status, len(want))
			}
		})
	}
}

func TestEveryPageSaysWhoFailedAndNothingOfTheOrigin(t *testing.T) {
	e := New()
	for status, p := range pages {
		for _, accept := range []string{"text/html", "application/json", "text/plain"} {
			r := ask("GET", accept)
			e.Render(r, status, nil)
			body := string(r.Out.Bytes)
			for _, want := range []string{strconv.Itoa(status), "0123456789abcdef", "FRA", "2026-01-02 03:04:05 UTC"} {
				if !strings.Contains(body, want) {
					t.Errorf("%d as %s: does not say %q", status, accept, want)
				}
			}
			if strings.Contains(body, "{{") || strings.Contains(body, "permission denied") {
				t.Errorf("%d as %s: shows what it should not:\n%s", status, accept, body)
			}
		}
		if p.title == "" || p.advice == "" {
			t.Errorf("%d: no title or advice", status)
		}
	}
	r := ask("GET", "text/plain")
	e.Render(r, 521, broken(fault.Origin, fault.Refused))
	if strings.Contains(string(r.Out.Bytes), os.ErrPermission.Error()) {
		t.Error("the page shows the cause, which may hold the origin's address")
	}
}

func TestTheFailingBoxIsMarked(t *testing.T) {
	e := New()
	for _, c := range []struct {
		side              fault.Side
		you, edge, origin string
	}{
		{fault.Visitor, "bad", "good", "idle"},
		{fault.Edge, "good", "bad", "idle"},
		{fault.Control, "good", "bad", "idle"},
		{fault.Origin, "good", "good", "bad"},
	} {
		r := ask("GET", "")
		e.Render(r, 500, broken(c.side, fault.Other))
		for name, class := range map[string]string{"You": c.you, "Edge": c.edge, "Origin": c.origin} {
			if want := `<li class="` + class + `"><b>` + name; !strings.Contains(string(r.Out.Bytes), want) {
				t.Errorf("side %s: no %s", c.side, want)
			}
		}
	}
}

func TestHostIsEscaped(t *testing.T) {
	e := New()
	for _, accept := range []string{"text/html", "application/json", "text/plain"} {
		r := ask("GET", accept)
		r.Host = []byte(`"><script>alert('x')</script>&` + "\r\n\x00\xff" + strings.Repeat("a", 1000))
		e.Render(r, 421, nil)
		body := string(r.Out.Bytes)
		if accept != "text/plain" && strings.Contains(body, "<script>") || strings.ContainsAny(body, "\r\x00") || strings.Contains(body, "\xff") {
			t.Errorf("%s: host stands there as sent:\n%s", accept, body)
		}
		if strings.Contains(body, strings.Repeat("a", 300)) {
			t.Errorf("%s: host is not bounded", accept)
		}
		if accept == "application/json" && !json.Valid(r.Out.Bytes) {
			t.Errorf("not JSON: %s", body)
		}
	}
}

func TestHeadHasNoBody(t *testing.T) {
	e := New()
	get, head := ask("GET", ""), ask("HEAD", "")
	e.Render(get, 522, nil)
	e.Render(head, 522, nil)
	if head.Out.Bytes != nil || head.Out.Body != nil || head.Out.Length != 0 {
		t.Errorf("HEAD has a body of %d", len(head.Out.Bytes))
	}
	if got, want := string(head.Out.Fields.Get(msg.ContentLength)), strconv.Itoa(len(get.Out.Bytes)); got != want {
		t.Errorf("Content-Length %s, want %s as for GET", got, want)
	}
}

func TestFields(t *testing.T) {
	e := New()
	r := ask("GET", "")
	e.Render(r, 503, broken(fault.Edge, fault.Draining))
	for id, want := range map[msg.ID]string{
		msg.CacheControl: "no-store", msg.Vary: "Accept", msg.RetryAfter: "1", msg.ContentType: "text/html; charset=utf-8",
	} {
		if got := string(r.Out.Fields.Get(id)); got != want {
			t.Errorf("%s: got %q, want %q", id, got, want)
		}
	}
	r = ask("GET", "")
	e.Render(r, 526, nil)
	if r.Out.Fields.Has(msg.RetryAfter) {
		t.Error("a bad certificate is not worth a retry")
	}
	r = ask("GET", "")
	e.Render(r, 599, broken(fault.Origin, fault.Other))
	if r.Out.Status != 599 || !strings.Contains(string(r.Out.Bytes), "Error 599") {
		t.Error("a status without a line of its own is lost")
	}
}

func TestChoose(t *testing.T) {
	for _, c := range []struct {
		accept string
		want   form
	}{
		{"", html},
		{"*/*", html},
		{"text/*", html},
		{"application/*", jsonForm},
		{"application/json", jsonForm},
		{"APPLICATION/JSON", jsonForm},
		{"application/json, */*", jsonForm},
		{"application/json;q=0.5, */*", html},
		{"text/html;q=0, */*", jsonForm},
		{"text/html;q=0.8, application/json;q=0.9", jsonForm},
		{"text/plain;q=0.8, application/json;q=0.799", text},
		{"text/plain; charset=utf-8; q=1.000, text/html;q=0.9", text},
		{"image/png", html},
		{"text/html;q=0", html},
		{"application/json;q=0, text/plain;q=0.001", text},
		{`text/plain;a="x,y";q=0.1, application/json;q=0.2`, jsonForm},
		{"application/json;q=2", jsonForm},
		{"junk, /, ;;;, application/json", jsonForm},
		{strings.Repeat("image/png,", maxRanges) + "application/json", html},
	} {
		var f msg.Fields
		if c.accept != "" {
			f.AddID(msg.Accept, []byte(c.accept))
		}
		if got := choose(&f); got != c.want {
			t.Errorf("%.80q: got %s, want %s", c.accept, types[got].full, types[c.want].full)
		}
	}
}

func FuzzChoose(f *testing.F) {
	f.Add([]byte("text/html;q=0.5, application/json"))
	f.Add([]byte(`a/b;q="`))
	f.Fuzz(func(t *testing.T, accept []byte) {
		var fields msg.Fields
		fields.AddID(msg.Accept, accept)
		if got := choose(&fields); got >= forms {
			t.Errorf("form %d", got)
		}
	})
}

func BenchmarkRender(b *testing.B) {
	e := New()
	r := ask("GET", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8")
	b.ReportAllocs()
	for b.Loop() {
		r.Out.Reset()
		e.Render(r, 521, nil)
	}
}
