// Package coding compresses answers: it chooses a content coding from what a
// visitor accepts (RFC 9110 §12.5.3), says what is worth compressing, and
// encodes with gzip (RFC 1952), Brotli (RFC 7932) and Zstandard (RFC 8878).
//
// It promises that a coding which the visitor did not accept is never chosen,
// that encoders are bounded in number by those who read, and small: none has a
// window above 256 KiB.
package coding

import (
	"bytes"
	"slices"

	"github.com/selvage-edge/selvage/wire/msg"
)

// Coding is a content coding that is spoken here.
type Coding uint8

const (
	Identity Coding = iota
	Gzip
	Brotli
	Zstd
	count
)

var tokens = [count][]byte{[]byte("identity"), []byte("gzip"), []byte("br"), []byte("zstd")}

// Token is the coding's name in Content-Encoding. It is not to be written to.
func (c Coding) Token() []byte { return tokens[c] }

func (c Coding) String() string { return string(tokens[c]) }

// Set is codings in the order in which they are preferred where a visitor likes
// them equally well.
type Set []Coding

// The orders: Brotli makes stored text smallest, Zstandard costs least where
// each answer is compressed anew.
var (
	Stored = Set{Brotli, Zstd, Gzip}
	Passed = Set{Zstd, Brotli, Gzip}
)

// Without returns the set less what off names.
func (s Set) Without(off ...Coding) Set {
	return slices.DeleteFunc(slices.Clone(s), func(c Coding) bool { return slices.Contains(off, c) })
}

// maxMembers is how many members of Accept-Encoding are read; what is behind
// them counts as not said.
const maxMembers = 32

// Choose returns the coding of the set that the visitor likes best. Identity is
// chosen where no other is accepted, also by a visitor who refuses identity: an
// answer that it may not like is better than none (RFC 9110 §12.5.3).
func Choose(f *msg.Fields, set Set) Coding {
	if len(set) == 0 || !f.Has(msg.AcceptEncoding) {
		return Identity
	}
	if f.Count(msg.AcceptEncoding) == 1 {
		// What most visitors send, word for word.
		switch string(f.Get(msg.AcceptEncoding)) {
		case "gzip, deflate, br, zstd":
			return set[0]
		case "gzip, deflate, br":
			return set.first(Brotli, Gzip)
		case "gzip, deflate", "gzip":
			return set.first(Gzip, Gzip)
		}
	}
	var weights [count]int // thousandths plus one; 0 = not said
	rest := 0              // of "*", likewise
	seen := 0
	for i := range f.Len() {
		l := f.At(i)
		if l.ID != msg.AcceptEncoding {
			continue
		}
		for t, more := msg.NextToken(l.Value); t != nil && seen < maxMembers; t, more = msg.NextToken(more) {
			seen++
			name, weight, ok := member(t)
			if !ok {
				continue
			}
			if len(name) == 1 && name[0] == '*' {
				rest = weight + 1
			} else if c, known := find(name); known {
				weights[c] = weight + 1
			}
		}
	}
	best, most := Identity, 0
	for _, c := range set {
		w := weights[c]
		if w == 0 {
			w = rest
		}
		if w > most && w > 1 {
			best, most = c, w
		}
	}
	if weights[Identity] > most {
		return Identity
	}
	return best
}

// first returns the first coding of the set that is one of two.
func (s Set) first(a, b Coding) Coding {
	for _, c := range s {
		if c == a || c == b {
			return c
		}
	}
	return Identity
}

func find(name []byte) (Coding, bool) {
	for c := range tokens {
		if msg.EqualFold(name, tokens[c]) {
			return Coding(c), true
		}
	}
	return Gzip, msg.EqualFold(name, "x-gzip") // RFC 9110 §8.4.1.3
}

// member reads a coding and its weight in thousandths; a weight that is none
// makes the member void.
func member(t []byte) (name []byte, weight int, ok bool) {
	name, params, weighted := bytes.Cut(t, []byte{';'})
	name = bytes.TrimRight(name, " \t")
	if !weighted {
		return name, 1000, true
	}
	params = bytes.TrimLeft(params, " \t")
	if len(params) < 3 || params[0]|0x20 != 'q' || params[1] != '=' {
		return nil, 0, false
	}
	weight, ok = thousandths(params[2:])
	return name, weight, ok
}

// thousandths reads a qvalue (RFC 9110 §12.4.2).
func thousandths(q []byte) (int, bool) {
	if len(q) == 0 || len(q) > 5 || q[0] != '0' && q[0] != '1' || len(q) > 1 && q[1] != '.' {
		return 0, false
	}
	n := int(q[0]-'0') * 1000
	unit := 100
	for _, d := range q[min(2, len(q)):] {
		if d < '0' || d > '9' {
			return 0, false
		}
		n += int(d-'0') * unit
		unit /= 10
	}
	return n, n <= 1000
}

// MinBytes is the least that is worth compressing: what fits into one packet
// gains nothing.
const MinBytes = 1 << 10

// compressible are the types beside text/* and those with a +json or +xml
// suffix. Pictures, films and archives are compressed already.
var compressible = [...]string{
	"application/javascript", "application/x-javascript", "application/ecmascript", "application/json", "application/ld+json",
	"application/manifest+json", "application/graphql", "application/xml", "application/rss+xml", "application/atom+xml",
	"application/xhtml+xml", "application/wasm", "application/vnd.ms-fontobject", "application/x-font-ttf", "application/x-font-opentype",
	"application/x-web-app-manifest+json", "font/ttf", "font/otf", "font/eot", "font/opentype", "image/svg+xml", "image/bmp",
	"image/x-icon", "image/vnd.microsoft.icon",
}

// Compressible reports whether a Content-Type is of a kind that shrinks.
// Streams of events are not: each of them has to arrive as it is sent.
func Compressible(contentType []byte) bool {
	kind, _, _ := bytes.Cut(contentType, []byte{';'})
	kind = bytes.Trim(kind, " \t")
	switch {
	case msg.EqualFold(kind, "text/event-stream"):
		return false
	case len(kind) > 5 && msg.EqualFold(kind[:5], "text/"):
		return true
	case len(kind) > 5 && (msg.EqualFold(kind[len(kind)-5:], "+json") || msg.EqualFold(kind[len(kind)-4:], "+xml")):
		return true
	}
	return slices.ContainsFunc(compressible[:], func(name string) bool { return msg.EqualFold(kind, name) })
}
