package cache

import (
	"bytes"
	"hash/maphash"

	"github.com/selvage-edge/selvage/edge/request"
	"github.com/selvage-edge/selvage/wire/msg"
)

// key names an object: zone, scheme, host, path and query in one text, and
// the hash that finds its shard. Hashes may collide; texts are compared.
type key struct {
	hash uint64
	text []byte
}

// maxSorted is how many query parameters are sorted; a longer query stays in
// the order sent, so that the work per request is bounded.
const maxSorted = 64

// keyOf builds the key of a request in its arena, by the zone's rules.
func (e *Engine) keyOf(p *Plan, r *request.Request) key {
	if c := p.decide(r).recipe; c != nil {
		return e.keyBy(c, r)
	}
	room := len(r.ZoneID) + len(" https://") + len(r.Host) + len(r.In.Path) + len("?") + len(r.In.Query)
	text := appendKey(r.Arena.Alloc(room)[:0], r.ZoneID, r.In.Scheme, r.Host, r.In.Path, r.In.Query, p.sortQuery)
	return key{hash: maphash.Bytes(e.seed, text), text: text}
}

// appendKey appends the text of a key; never more bytes than its parts have
// together with the separators.
func appendKey(b []byte, zoneID string, scheme msg.Scheme, host, path, query []byte, sorted bool) []byte {
	b = append(b, zoneID...)
	if scheme == msg.HTTPS {
		b = append(b, " https://"...)
	} else {
		b = append(b, " http://"...)
	}
	return appendURL(b, host, path, query, sorted)
}

// appendURL appends host, path and query in the form of keys; the same bound
// holds.
func appendURL(b, host, path, query []byte, sorted bool) []byte {
	b = append(b, host...)
	b = appendNormal(b, path)
	if query == nil {
		return b
	}
	b = append(b, '?')
	if !sorted {
		return append(b, query...)
	}
	if bytes.IndexByte(query, '&') < 0 {
		return appendNormal(b, query)
	}
	return appendSorted(b, query)
}

// appendNormal appends one URL component with its percent-encoding in one
// form (RFC 3986 §6.2.2): hexadecimal digits in upper case, unreserved
// characters decoded. A component with a malformed escape is left as it is,
// so that it equals no well-formed one.
func appendNormal(b, part []byte) []byte {
	first := bytes.IndexByte(part, '%')
	if first < 0 {
		return append(b, part...)
	}
	start := len(b)
	b = append(b, part[:first]...)
	for i := first; i < len(part); i++ {
		c := part[i]
		if c != '%' {
			b = append(b, c)
			continue
		}
		if i+2 >= len(part) || !isHex(part[i+1]) || !isHex(part[i+2]) {
			return append(b[:start], part...)
		}
		if d := unhex(part[i+1])<<4 | unhex(part[i+2]); isUnreserved(d) {
			b = append(b, d)
		} else {
			b = append(b, '%', upper(part[i+1]), upper(part[i+2]))
		}
		i += 2
	}
	return b
}

// span is a parameter's place in the query, its name first.
type span struct{ from, eq, to int32 }

// appendSorted appends the parameters of a query ordered by name, those of
// the same name in the order sent, each normalised.
func appendSorted(b, query []byte) []byte {
	start := len(b)
	var spans [maxSorted]span
	n, ordered := 0, true
	for rest, more := query, true; more; {
		var part []byte
		part, rest, more = bytes.Cut(rest, []byte{'&'})
		if len(b) > start || n > 0 {
			b = append(b, '&')
		}
		from := len(b)
		b = appendNormal(b, part)
		if n++; n > maxSorted {
			continue
		}
		eq := bytes.IndexByte(b[from:], '=')
		if eq < 0 {
			eq = len(b) - from
		}
		spans[n-1] = span{int32(from), int32(from + eq), int32(len(b))}
		if n > 1 && bytes.Compare(b[from:from+eq], b[spans[n-2].from:spans[n-2].eq]) < 0 {
			ordered = false
		}
	}
	if ordered || n > maxSorted {
		return b
	}
	return reorder(b, start, spans[:n])
}

// reorder sorts spans of b by name (insertion: stable, no allocation, few)
// and rewrites b from start in that order.
func reorder(b []byte, start int, spans []span) []byte {
	for i := 1; i < len(spans); i++ {
		s := spans[i]
		j := i
		for j > 0 && bytes.Compare(b[s.from:s.eq], b[spans[j-1].from:spans[j-1].eq]) < 0 {
			spans[j] = spans[j-1]
			j--
		}
		spans[j] = s
	}
	var small [1024]byte
	scratch := append(small[:0], b[start:]...)
	b = b[:start]
	for i, s := range spans {
		if i > 0 {
			b = append(b, '&')
		}
		b = append(b, scratch[int(s.from)-start:int(s.to)-start]...)
	}
	return b
}

func isUnreserved(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '.' || c == '_' || c == '~'
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

func unhex(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c&^0x20 - 'A' + 10
}

func upper(c byte) byte {
	if c >= 'a' {
		return c &^ 0x20
	}
	return c
}
