package msg

import (
	"bytes"
	"sync/atomic"
)

// Prepared is a response head serialised once, when an object is stored, and
// written for each hit. It never changes after it is built.
type Prepared struct {
	// H1 holds the field lines for HTTP/1.1, each ended by CRLF, without
	// status line, framing (Content-Length, Transfer-Encoding, Connection),
	// Age and what Response.Fields adds.
	H1 []byte
	// Dated says that H1 has a Date line.
	Dated bool
	// Keeper holds the blocks of HTTP/2 and HTTP/3 of a head that lives longer
	// than this value, under Form; nil = they are held here.
	Keeper Keeper
	Form   uint32

	fields atomic.Pointer[Fields] // H1 parsed, at first need
	h2, h3 atomic.Pointer[[]byte]
}

// Keeper holds what was made of a head, for all answers that show it. Its
// methods may be called by several goroutines at once.
type Keeper interface {
	// Block returns what was kept of a form for a protocol, nil = nothing.
	Block(form uint32, p Proto) []byte
	// Keep takes a copy of block, if it can, and returns what to use.
	Keep(form uint32, p Proto, block []byte) []byte
}

// Fields returns the lines of H1 parsed, for who cannot use them as they are.
// It is made at the first call, and its bytes are those of H1.
func (p *Prepared) Fields() *Fields {
	if f := p.fields.Load(); f != nil {
		return f
	}
	f := &Fields{list: make([]Field, 0, bytes.Count(p.H1, crlf))}
	for name, value, rest := CutLine(p.H1); name != nil; name, value, rest = CutLine(rest) {
		f.Add(name, value)
	}
	p.fields.Store(f)
	return f
}

var crlf = []byte("\r\n")

// CutLine cuts the first of the field lines that H1 has; nil at the end.
func CutLine(lines []byte) (name, value, rest []byte) {
	line, rest, ok := bytes.Cut(lines, crlf)
	if !ok {
		return nil, nil, nil
	}
	colon := bytes.IndexByte(line, ':')
	if colon < 0 {
		return nil, nil, nil
	}
	value = line[colon+1:]
	if len(value) > 0 && value[0] == ' ' {
		value = value[1:]
	}
	return line[:colon:colon], value, rest
}

// H2 returns the lines as an HPACK block that refers to the static table alone,
// so that it fits every connection; build makes it at first use.
func (p *Prepared) H2(build func(*Fields) []byte) []byte { return p.block(&p.h2, HTTP2, build) }

// H3 is H2 for QPACK, without the section's prefix.
func (p *Prepared) H3(build func(*Fields) []byte) []byte { return p.block(&p.h3, HTTP3, build) }

func (p *Prepared) block(kept *atomic.Pointer[[]byte], proto Proto, build func(*Fields) []byte) []byte {
	if p.Keeper != nil {
		if b := p.Keeper.Block(p.Form, proto); b != nil {
			return b
		}
		return p.Keeper.Keep(p.Form, proto, build(p.Fields()))
	}
	if b := kept.Load(); b != nil {
		return *b
	}
	b := build(p.Fields())
	kept.Store(&b)
	return b
}
