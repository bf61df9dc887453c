// Package errors answers requests that have no proper answer: pages that say
// whether the visitor, the edge or the origin is at fault, what to do, and
// the ray id under which logs tell more. A page needs nothing from elsewhere,
// is readable without colour, and never shows the origin's address.
package errors

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/selvage-edge/selvage/edge/request"
	"github.com/selvage-edge/selvage/fault"
	"github.com/selvage-edge/selvage/wire/msg"
)

//go:embed page.html
var source string

// Engine renders pages. Safe for concurrent use.
type Engine struct {
	parts []part
}

// part is a piece of the page as it is, followed by a value.
type part struct {
	text  string
	field string // "" after the last piece
}

// New returns an Engine.
func New() *Engine {
	e := &Engine{}
	for rest := source; rest != ""; {
		before, after, found := strings.Cut(rest, "{{")
		field, after, _ := strings.Cut(after, "}}")
		e.parts = append(e.parts, part{before, field})
		if !found {
			break
		}
		rest = after
	}
	return e
}

// values is what a page shows.
type values struct {
	status          int
	title           string
	who             fault.Side
	kind            string
	advice, owner   string
	host, ray, colo string
	client, moment  string
	retry           int
}

// Render fills r.Out with the page for status; f is why, and may be nil. The
// form follows Accept: HTML, JSON or plain text. An answer to HEAD has no
// body. r.Out has been reset by the caller.
func (e *Engine) Render(r *request.Request, status int, f *fault.Error) {
	p := pageOf(status, f)
	v := values{
		status: status, title: p.title, who: p.who, kind: fault.Other.String(), advice: p.advice, owner: p.owner,
		host: printable(r.Host), ray: r.Ray.String(), colo: r.Colo,
		moment: r.Start.UTC().Format("2006-01-02 15:04:05 UTC"), retry: p.retry,
	}
	if r.Client.IsValid() {
		v.client = r.Client.String()
	}
	if f != nil {
		v.kind = f.Kind.String()
		// The control plane's faults are the edge's to a visitor.
		if v.who = f.Side; v.who == fault.Control {
			v.who = fault.Edge
		}
	}
	as := choose(&r.In.Fields)
	e.fill(r, as, &v)
}

func (e *Engine) fill(r *request.Request, as form, v *values) {
	var body []byte
	switch as {
	case jsonForm:
		body = v.json()
	case text:
		body = v.text()
	default:
		body = e.html(v)
	}
	out := r.Out
	out.Status = v.status
	fields := &out.Fields
	fields.AddID(msg.ContentType, []byte(types[as].full))
	fields.AddID(msg.CacheControl, []byte("no-store"))
	fields.AddID(msg.Vary, []byte("Accept"))
	fields.Add([]byte("X-Content-Type-Options"), []byte("nosniff"))
	if as == html {
		fields.AddID(msg.ContentSecurityPolicy, []byte("default-src 'none'; style-src 'unsafe-inline'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"))
	}
	if v.retry > 0 {
		fields.AddID(msg.RetryAfter, strconv.AppendInt(nil, int64(v.retry), 10))
	}
	if r.In.Method == msg.HEAD {
		fields.AddID(msg.ContentLength, strconv.AppendInt(nil, int64(len(body)), 10))
		return
	}
	out.Bytes, out.Length = body, int64(len(body))
}

func (e *Engine) html(v *values) []byte {
	b := make([]byte, 0, len(source)+1024)
	for _, p := range e.parts {
		b = append(b, p.text...)
		if p.field != "" {
			b = escape(b, v.field(p.field))
		}
	}
	return b
}

// field returns the text that the page's mark stands for.
func (v *values) field(name string) string {
	if side, what, ok := strings.Cut(name, "."); ok {
		return v.box(side, what)
	}
	switch name {
	case "status":
		return strconv.Itoa(v.status)
	case "title":
		return v.title
	case "blame":
		return v.blame()
	case "advice":
		return v.advice
	case "owner":
		if v.owner == "" {
			return "Nothing: this is not caused by the site's server."
		}
		return v.owner
	case "host":
		return v.host
	case "ray":
		return v.ray
	case "colo":
		return v.colo
	case "time":
		return v.moment
	case "client":
		return v.client
	}
	return ""
}

// box says how one of the three boxes stands: its class or its words.
func (v *values) box(side, what string) string {
	order := map[string]fault.Side{"you": fault.Visitor, "edge": fault.Edge, "origin": fault.Origin}
	rank := map[fault.Side]int{fault.Visitor: 0, fault.Edge: 1, fault.Origin: 2}
	class, words := "good", "Working"
	switch at, failed := rank[order[side]], rank[v.who]; {
	case at == failed:
		class, words = "bad", "Error"
	case side == "origin":
		class, words = "idle", "Not asked"
	}
	if what == "class" {
		return class
	}
	return words
}

func (v *values) blame() string {
	switch v.who {
	case fault.Visitor:
		return "The request itself is at fault."
	case fault.Origin:
		return "The site's own server (the origin) is at fault, or the way to it."
	}
	return "The edge is at fault: this server, which stands between you and the site."
}

func (v *values) json() []byte {
	b, err := json.Marshal(struct {
		Title  string `json:"title"`
		Status int    `json:"status"`
		Side   string `json:"side"`
		Kind   string `json:"kind"`
		Detail string `json:"detail"`
		Advice string `json:"advice"`
		Owner  string `json:"owner_advice,omitempty"`
		Host   string `json:"host"`
		Ray    string `json:"ray"`
		Colo   string `json:"colo"`
		Time   string `json:"time"`
		Retry  int    `json:"retry_after,omitempty"`
	}{v.title, v.status, v.who.String(), v.kind, v.blame(), v.advice, v.owner, v.host, v.ray, v.colo, v.moment, v.retry})
	if err != nil {
		return []byte("{}")
	}
	return append(b, '\n')
}

func (v *values) text() []byte {
	b := fmt.Appendf(nil, "Error %d: %s\n\n%s\n%s\n", v.status, v.title, v.blame(), v.advice)
	if v.owner != "" {
		b = fmt.Appendf(b, "For the site's owner: %s\n", v.owner)
	}
	return fmt.Appendf(b, "\nhost: %s\nray: %s\ncolo: %s\ntime: %s\n", v.host, v.ray, v.colo, v.moment)
}

// printable returns a host as it may be shown: bounded, other bytes than
// visible ASCII replaced.
func printable(host []byte) string {
	const most = 253
	b := append([]byte(nil), host[:min(len(host), most)]...)
	for i, c := range b {
		if c <= ' ' || c > '~' {
			b[i] = '?'
		}
	}
	return string(b)
}

// escape appends text with the five characters that mean something in HTML
// replaced.
func escape(b []byte, s string) []byte {
	for i := range len(s) {
		switch c := s[i]; c {
		case '&':
			b = append(b, "&amp;"...)
		case '<':
			b = append(b, "&lt;"...)
		case '>':
			b = append(b, "&gt;"...)
		case '"':
			b = append(b, "&#34;"...)
		case '\'':
			b = append(b, "&#39;"...)
		default:
			b = append(b, c)
		}
	}
	return b
}
