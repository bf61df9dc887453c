package hpack

import (
	"strings"

	"github.com/selvage-edge/selvage/internal/huffman"
	"github.com/selvage-edge/selvage/internal/prefixint"
	"github.com/selvage-edge/selvage/wire/head"
	"github.com/selvage-edge/selvage/wire/msg"
)

// static is the table of RFC 7541 appendix A; index 1 is its first line.
var static = [...][2]string{
	{":authority", ""}, {":method", "GET"}, {":method", "POST"}, {":path", "/"}, {":path", "/index.html"},
	{":scheme", "http"}, {":scheme", "https"}, {":status", "200"}, {":status", "204"}, {":status", "206"},
	{":status", "304"}, {":status", "400"}, {":status", "404"}, {":status", "500"}, {"accept-charset", ""},
	{"accept-encoding", "gzip, deflate"}, {"accept-language", ""}, {"accept-ranges", ""}, {"accept", ""},
	{"access-control-allow-origin", ""}, {"age", ""}, {"allow", ""}, {"authorization", ""}, {"cache-control", ""},
	{"content-disposition", ""}, {"content-encoding", ""}, {"content-language", ""}, {"content-length", ""},
	{"content-location", ""}, {"content-range", ""}, {"content-type", ""}, {"cookie", ""}, {"date", ""}, {"etag", ""},
	{"expect", ""}, {"expires", ""}, {"from", ""}, {"host", ""}, {"if-match", ""}, {"if-modified-since", ""},
	{"if-none-match", ""}, {"if-range", ""}, {"if-unmodified-since", ""}, {"last-modified", ""}, {"link", ""},
	{"location", ""}, {"max-forwards", ""}, {"proxy-authenticate", ""}, {"proxy-authorization", ""}, {"range", ""},
	{"referer", ""}, {"refresh", ""}, {"retry-after", ""}, {"server", ""}, {"set-cookie", ""},
	{"strict-transport-security", ""}, {"transfer-encoding", ""}, {"user-agent", ""}, {"vary", ""}, {"via", ""},
	{"www-authenticate", ""},
}

// line is a field line as the tables keep it.
type line struct {
	name   []byte // canonical when id is known
	value  []byte
	id     msg.ID
	pseudo Pseudo
	flaw   flaw
}

// staticLines is static with its names recognised and its values judged.
var staticLines = func() (t [len(static)]line) {
	for i, l := range static {
		t[i] = recognise([]byte(l[0]))
		t[i].value = []byte(l[1])
	}
	return t
}()

// spelling is how the encoder writes a known name.
type spelling struct {
	index   uint8  // in the static table, 0 when it is not there
	literal []byte // coded, with its length, when index is 0
	line    []byte // what a line begins with that goes into no dynamic table
}

// spellings by msg.ID.
var spellings = func() (t [msg.Count]spelling) {
	for id := range t {
		name := strings.ToLower(msg.ID(id).String())
		if name == "" {
			continue
		}
		for i := len(static) - 1; i >= 0; i-- {
			if static[i][0] == name {
				t[id].index = uint8(i + 1)
			}
		}
		rep := byte(repPlain)
		switch msg.ID(id) {
		case msg.Authorization, msg.ProxyAuthorization, msg.Cookie, msg.SetCookie:
			rep = repNever // the value is a secret: RFC 7541 §7.1.3
		}
		if t[id].index != 0 {
			t[id].line = prefixint.Append(nil, rep, 4, int(t[id].index))
			continue
		}
		t[id].literal = huffman.Append(prefixint.Append(nil, 0x80, 7, huffman.Len(name)), name)
		t[id].line = append([]byte{rep}, t[id].literal...)
	}
	return t
}()

// Pseudo names a pseudo-header field (RFC 9113 §8.3, RFC 8441 §4).
type Pseudo uint8

// The pseudo-header fields; the zero value is an ordinary field.
const (
	None Pseudo = iota
	Method
	Scheme
	Authority
	Path
	Status
	Protocol
	pseudos
)

var pseudoNames = [pseudos]string{"", ":method", ":scheme", ":authority", ":path", ":status", ":protocol"}

// pseudoIndex is the first place of each in the static table.
var pseudoIndex = [pseudos]uint8{Authority: 1, Method: 2, Path: 4, Scheme: 6, Status: 8}

func (p Pseudo) String() string { return pseudoNames[p] }

// recognise judges a name as received and finds what it stands for.
func recognise(name []byte) (l line) {
	l.name = name
	if len(name) > 0 && name[0] == ':' {
		for p := Method; p < pseudos; p++ {
			if string(name) == pseudoNames[p] {
				l.pseudo = p
				return l
			}
		}
		l.flaw = flawPseudo
		return l
	}
	if !head.LowerToken.All(name) {
		l.flaw = flawName
		return l
	}
	if l.id = msg.Known(name); l.id != msg.Unknown {
		l.name = l.id.Bytes()
	}
	switch {
	case len(name) == 0:
		l.flaw = flawName
	case head.OfConnection(l.id):
		l.flaw = flawConnection
	case l.id == msg.Unknown && head.Imitates(name):
		l.flaw = flawName
	}
	return l
}

// judge finds what is wrong with a value (RFC 9113 §8.2.1, §8.2.2).
func judge(l *line) flaw {
	v := l.value
	if len(v) == 0 {
		return l.flaw
	}
	if !head.AllValue(v) {
		return flawValue
	}
	switch a, z := v[0], v[len(v)-1]; {
	case a == ' ' || a == '\t' || z == ' ' || z == '\t':
		return flawValue
	case l.id == msg.TE && !msg.EqualFold(v, "trailers"):
		return flawConnection
	}
	return l.flaw
}
