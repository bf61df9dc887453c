package cache

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"hash/fnv"
	"hash/maphash"
	"slices"

	"github.com/selvage-edge/selvage/edge/request"
	"github.com/selvage-edge/selvage/wire/msg"
)

// recipe makes keys that differ from the default. What it names is sent to the
// origin as the visitor sent it; what it leaves out is sent too, and whoever
// leaves something out says that answers do not depend on it.
type recipe struct {
	query      queryPart
	parameters []string // of queryOnly and queryExcept, normalised
	sorted     bool     // parameters in another order are one object

	headers        []string // values, names in lower case
	headersPresent []string // whether there is one
	contains       []contains
	originKeyed    bool // the Origin header, unless headers are left alone
	cookies        []string
	cookiesPresent []string
	device         bool
	country        bool
	language       bool // the first of Accept-Language
	resolved       bool // the host whose address is asked, not the visitor's

	// id is in the key: what was stored under another recipe may hold answers
	// that this one sets apart.
	id string
}

// name gives the recipe its id, the same on every edge.
func (c *recipe) name() *recipe {
	h := fnv.New64a()
	fmt.Fprintf(h, "%d %q %t %q %q %q %t %q %q %t %t %t %t", c.query, c.parameters, c.sorted, c.headers, c.headersPresent,
		c.contains, c.originKeyed, c.cookies, c.cookiesPresent, c.device, c.country, c.language, c.resolved)
	c.id = hex.EncodeToString(h.Sum(nil))
	return c
}

// contains puts those of values into the key that a header contains.
type contains struct {
	name   string
	values []string // in lower case; letters of both cases are one
}

// queryPart says which parameters are in the key.
type queryPart uint8

const (
	queryAll queryPart = iota
	queryNone
	queryOnly
	queryExcept
)

// What begins the parts of a key behind its URL. None of these bytes can stand
// in a URL or a header, so that no visitor can write one part into another.
const (
	partMark  = 0x00
	valueMark = 0x01
)

// keyBy builds a key by a recipe, in the request's arena.
func (e *Engine) keyBy(c *recipe, r *request.Request) key {
	b := r.Arena.Alloc(c.room(r))[:0]
	host := r.Host
	if c.resolved && r.Route.Host != "" {
		host = r.Arena.CopyString(r.Route.Host)
	}
	b = appendKey(b, r.ZoneID, r.In.Scheme, host, r.In.Path, nil, false)
	b = c.appendQuery(b, r.In.Query)
	b = append(append(b, partMark), c.id...)
	b = c.appendHeaders(b, &r.In.Fields)
	b = c.appendCookies(b, &r.In.Fields)
	if c.device {
		b = append(append(b, partMark, 'd'), deviceFor(r)...)
	}
	if c.country {
		b = append(append(b, partMark, 'g'), r.Geo.Country[:]...)
	}
	if c.language {
		b = appendLanguage(append(b, partMark, 'l'), &r.In.Fields)
	}
	return key{hash: maphash.Bytes(e.seed, b), text: b}
}

func deviceFor(r *request.Request) []byte {
	if r.Device != nil {
		return r.Device
	}
	return deviceOf(r)
}

// room is at least as much as the key has, so that it is not moved while it
// grows.
func (c *recipe) room(r *request.Request) int {
	n := len(r.ZoneID) + len(" https://") + max(len(r.Host), len(r.Route.Host)) + len(r.In.Path) + 1 + len(r.In.Query) + 128
	f := &r.In.Fields
	for i := range f.Len() {
		if l := f.At(i); c.originKeyed || l.ID == msg.Cookie || c.isIncluded(l.Name) {
			n += 2 * (len(l.Name) + len(l.Value) + 4) // a cookie may count by value and by presence
		}
	}
	for i := range c.contains {
		n += len(c.contains[i].name) + 3
		for _, v := range c.contains[i].values {
			n += len(v) + 1
		}
	}
	for _, name := range c.headersPresent {
		n += len(name) + 2
	}
	return n
}

func (c *recipe) isIncluded(name []byte) bool {
	for _, want := range c.headers {
		if msg.EqualFold(name, want) {
			return true
		}
	}
	return false
}

// appendQuery appends the parameters that count.
func (c *recipe) appendQuery(b, query []byte) []byte {
	if query == nil || c.query == queryNone {
		return b
	}
	if c.query == queryAll {
		b = append(b, '?')
		if c.sorted {
			return appendSorted(b, query)
		}
		return append(b, query...)
	}
	at := len(b)
	b = append(b, '?')
	for rest, more := query, true; more; {
		var part []byte
		part, rest, more = bytes.Cut(rest, []byte{'&'})
		from := len(b)
		if from > at+1 {
			b = append(b, '&')
		}
		begin := len(b)
		b = appendNormal(b, part)
		name, _, _ := bytes.Cut(b[begin:], []byte{'='})
		if c.names(name) != (c.query == queryOnly) {
			b = b[:from]
		}
	}
	if len(b) == at+1 {
		return b[:at] // none counts: as if there was no query
	}
	if c.sorted {
		return resort(b, at+1)
	}
	return b
}

func (c *recipe) names(parameter []byte) bool {
	for _, name := range c.parameters {
		if string(parameter) == name {
			return true
		}
	}
	return false
}

// resort orders the normalised parameters from at on by name.
func resort(b []byte, at int) []byte {
	var spans [maxSorted]span
	n, ordered := 0, true
	for from := at; from <= len(b); n++ {
		end := bytes.IndexByte(b[from:], '&')
		if end < 0 {
			end = len(b) - from
		}
		if n == maxSorted {
			return b
		}
		eq := bytes.IndexByte(b[from:from+end], '=')
		if eq < 0 {
			eq = end
		}
		spans[n] = span{int32(from), int32(from + eq), int32(from + end)}
		if n > 0 && bytes.Compare(b[from:from+eq], b[spans[n-1].from:spans[n-1].eq]) < 0 {
			ordered = false
		}
		from += end + 1
	}
	if ordered {
		return b
	}
	return reorder(b, at, spans[:n])
}

// appendHeaders appends the headers that count, each once for each line.
func (c *recipe) appendHeaders(b []byte, f *msg.Fields) []byte {
	if c.originKeyed {
		b = appendHeader(b, f, "origin")
	}
	for _, name := range c.headers {
		b = appendHeader(b, f, name)
	}
	for _, name := range c.headersPresent {
		if f.Lookup(name) != nil || present(f, name) {
			b = append(append(b, partMark, 'H'), name...)
		}
	}
	for i := range c.contains {
		b = c.contains[i].append(b, f)
	}
	return b
}

func present(f *msg.Fields, name string) bool {
	for i := range f.Len() {
		if msg.EqualFold(f.At(i).Name, name) {
			return true
		}
	}
	return false
}

func appendHeader(b []byte, f *msg.Fields, name string) []byte {
	first := true
	for i := range f.Len() {
		l := f.At(i)
		if !msg.EqualFold(l.Name, name) {
			continue
		}
		if first {
			b = append(append(b, partMark, 'h'), name...)
			first = false
		}
		b = append(append(b, valueMark), l.Value...)
	}
	return b
}

// append appends the values that one of the header's lines contains.
func (c *contains) append(b []byte, f *msg.Fields) []byte {
	first := true
	for _, value := range c.values {
		if !c.found(f, value) {
			continue
		}
		if first {
			b = append(append(b, partMark, 'v'), c.name...)
			first = false
		}
		b = append(append(b, valueMark), value...)
	}
	return b
}

func (c *contains) found(f *msg.Fields, value string) bool {
	for i := range f.Len() {
		if l := f.At(i); msg.EqualFold(l.Name, c.name) && containsFold(l.Value, value) {
			return true
		}
	}
	return false
}

// containsFold looks for small, which is in lower case and not empty.
func containsFold(b []byte, small string) bool {
	for i := 0; i+len(small) <= len(b); i++ {
		if b[i]|0x20 == small[0]|0x20 && msg.EqualFold(b[i:i+len(small)], small) {
			return true
		}
	}
	return false
}

// appendCookies appends the cookies that count, in the order of their names,
// those of one name in the order sent.
func (c *recipe) appendCookies(b []byte, f *msg.Fields) []byte {
	for _, name := range c.cookies {
		b = appendCookie(b, f, name, true)
	}
	for _, name := range c.cookiesPresent {
		b = appendCookie(b, f, name, false)
	}
	return b
}

func appendCookie(b []byte, f *msg.Fields, name string, value bool) []byte {
	first := true
	for i := range f.Len() {
		l := f.At(i)
		if l.ID != msg.Cookie {
			continue
		}
		for rest, more := l.Value, true; more; {
			var pair []byte
			pair, rest, more = bytes.Cut(rest, []byte{';'})
			got, v, _ := bytes.Cut(bytes.Trim(pair, " \t"), []byte{'='})
			if string(got) != name {
				continue
			}
			if !value {
				return append(append(b, partMark, 'C'), name...)
			}
			if first {
				b = append(append(b, partMark, 'c'), name...)
				first = false
			}
			b = append(append(b, valueMark), v...)
		}
	}
	return b
}

// maxLanguage is the longest language tag that is one (RFC 5646 §4.4.1).
const maxLanguage = 35

// appendLanguage appends the first language of Accept-Language in lower case;
// nothing where it is no language tag.
func appendLanguage(b []byte, f *msg.Fields) []byte {
	tag, _ := msg.NextToken(f.Lookup("accept-language"))
	if semicolon := bytes.IndexByte(tag, ';'); semicolon >= 0 {
		tag = tag[:semicolon]
	}
	tag = bytes.Trim(tag, " \t")
	if len(tag) > maxLanguage || slices.ContainsFunc(tag, func(c byte) bool { return c != '-' && (!isUnreserved(c) || c == '_' || c == '~' || c == '.') }) {
		return b
	}
	for _, c := range tag {
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		b = append(b, c)
	}
	return b
}
