package origin

import (
	"bytes"
	"hash/maphash"
	"sync/atomic"

	"github.com/selvage-edge/selvage/edge/request"
	"github.com/selvage-edge/selvage/wire/msg"
	"github.com/selvage-edge/selvage/zone"
)

// Early hints (RFC 8297) of a zone that wants them made: the Link fields of a
// page's latest answer that tell what the browser will need are kept, and sent
// as a 103 when the page is asked for again, while the origin works on it.

const (
	hintSlots = 1 << 12 // pages that are remembered, all zones together
	hintBytes = 2 << 10 // of links kept for one page
	hintCount = 16      // links of one page
)

// hints remembers pages in a table without chains: a page drives out whoever
// has its slot. Safe for concurrent use.
type hints struct {
	seed  maphash.Seed
	slots [hintSlots]atomic.Pointer[hinted]
}

// hinted never changes once it is in the table.
type hinted struct {
	page  string
	links []byte // the value of one Link field
}

// page appends what names a page: zone, host and target.
func page(r *request.Request, p []byte) []byte {
	p = append(append(p, r.ZoneID...), ' ')
	p = append(append(p, r.Host...), ' ')
	return append(p, r.In.Target...)
}

// hintable reports requests that may be for a page.
func hintable(p *Plan, r *request.Request) bool {
	return p.hints && !r.Off.Has(zone.KillEarlyHints) && r.In.Method == msg.GET && r.In.Upgrade == nil && !r.In.Fields.Has(msg.Range)
}

// hint sends what is known of the page ahead of its answer. HTTP/1.1 is spared:
// clients exist that take a 1xx they did not ask for to be the answer (RFC 8297 §3).
func (e *Engine) hint(p *Plan, r *request.Request) {
	if !hintable(p, r) || r.In.Interim == nil || r.In.Proto < msg.HTTP2 {
		return
	}
	name := page(r, r.Arena.Alloc(len(r.ZoneID) + len(r.Host) + len(r.In.Target) + 2)[:0])
	h := e.hints.slots[maphash.Bytes(e.hints.seed, name)%hintSlots].Load()
	if h == nil || h.page != string(name) {
		return
	}
	var f msg.Fields
	f.AddID(msg.Link, h.links)
	if r.In.Interim(103, &f) == nil { // who cannot take it misses nothing
		e.metrics.hints.Inc()
	}
}

// learn keeps the links of a page, or forgets them when it has none any more.
// What an answer to one who logged in by Authorization says, or one that
// nobody is to store, is not told to others.
func (e *Engine) learn(p *Plan, r *request.Request) {
	if !hintable(p, r) || r.Out.Status != 200 || !isPage(&r.Out.Fields) {
		return
	}
	name := page(r, r.Arena.Alloc(len(r.ZoneID) + len(r.Host) + len(r.In.Target) + 2)[:0])
	slot := &e.hints.slots[maphash.Bytes(e.hints.seed, name)%hintSlots]
	var links []byte
	if !r.In.Fields.Has(msg.Authorization) && !r.Out.Fields.HasToken(msg.CacheControl, "no-store") {
		links = pageLinks(&r.Out.Fields)
	}
	old := slot.Load()
	switch same := old != nil && old.page == string(name); {
	case same && bytes.Equal(old.links, links), !same && links == nil:
	case links == nil:
		slot.CompareAndSwap(old, nil)
	default:
		slot.Store(&hinted{page: string(name), links: links})
	}
}

func isPage(f *msg.Fields) bool {
	kind, _, _ := bytes.Cut(f.Get(msg.ContentType), []byte{';'})
	return msg.EqualFold(bytes.TrimSpace(kind), "text/html")
}

// pageLinks copies the links with rel=preload or rel=preconnect into one value.
func pageLinks(f *msg.Fields) (links []byte) {
	count := 0
	for i := range f.Len() {
		l := f.At(i)
		if l.ID != msg.Link {
			continue
		}
		for rest := l.Value; len(rest) > 0; {
			var link []byte
			link, rest = nextLink(rest)
			if !ahead(link) || len(links)+len(link)+2 > hintBytes || count == hintCount {
				continue
			}
			if count++; count > 1 {
				links = append(links, ", "...)
			}
			links = append(links, link...)
		}
	}
	return links
}

// nextLink cuts one link off a list (RFC 8288 §3): commas inside <> and inside
// quotes belong to it.
func nextLink(list []byte) (link, rest []byte) {
	var until byte
	for i := 0; i < len(list); i++ {
		switch c := list[i]; {
		case until == '"' && c == '\\':
			i++
		case until != 0:
			if c == until {
				until = 0
			}
		case c == '<':
			until = '>'
		case c == '"':
			until = '"'
		case c == ',':
			return bytes.TrimSpace(list[:i]), list[i+1:]
		}
	}
	return bytes.TrimSpace(list), nil
}

// ahead reports whether a link is worth following before the page is there.
func ahead(link []byte) bool {
	end := bytes.IndexByte(link, '>')
	if len(link) == 0 || link[0] != '<' || end < 0 {
		return false
	}
	for rest := link[end+1:]; len(rest) > 0; {
		var param []byte
		param, rest = nextParam(rest)
		name, value, _ := bytes.Cut(param, []byte{'='})
		if !msg.EqualFold(bytes.TrimSpace(name), "rel") {
			continue
		}
		for rel := range bytes.FieldsSeq(bytes.Trim(value, " \t\"")) {
			if msg.EqualFold(rel, "preload") || msg.EqualFold(rel, "preconnect") {
				return true
			}
		}
		return false // only the first rel counts (RFC 8288 §3.3)
	}
	return false
}

func nextParam(list []byte) (param, rest []byte) {
	quoted := false
	for i := 0; i < len(list); i++ {
		switch c := list[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case c == ';' && !quoted:
			return list[:i], list[i+1:]
		}
	}
	return list, nil
}
