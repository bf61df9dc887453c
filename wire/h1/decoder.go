package h1

import (
	"bytes"
	"errors"
	"io"

	"github.com/selvage-edge/selvage/wire/head"
	"github.com/selvage-edge/selvage/wire/msg"
)

var (
	errChunkLine  = bad("invalid chunk size line")
	errChunkLong  = bad("chunk size line too long")
	errChunkExt   = bad("too many chunk extensions")
	errChunkSize  = bad("chunk size too large")
	errChunkEnd   = bad("chunk not ended by CRLF")
	errTrailerBig = bad("trailer section too large")
)

const (
	chunkLineMax = 1 << 10  // bytes of one chunk size line with its extensions
	chunkExtMax  = 16 << 10 // bytes of extensions of all chunks of a message
)

type decodeState uint8

const (
	inLine decodeState = iota // before a chunk size line
	inData                    // in a chunk, or in a body of known length
	inGap                     // before the CRLF behind a chunk's data
	inTrailer
	inRest // until the connection closes
	ended
)

// decoder takes the framing off a message's body (RFC 9112 §6, §7). It keeps
// its place over failed reads, so that one that timed out may be repeated.
type decoder struct {
	rd      *reader
	lim     *bounds
	trailer *msg.Fields // filled when chunked
	state   decodeState
	chunked bool
	left    int64 // of the chunk or body
	ext     int   // bytes of extensions so far
	tail    scan
	total   int64 // bytes handed out
	max     int64 // 0 = unlimited
}

func (d *decoder) start(fr framing, untilClose bool) {
	switch {
	case fr.chunked:
		d.state, d.chunked = inLine, true
	case fr.length > 0:
		d.state, d.left = inData, fr.length
	case fr.length < 0 && untilClose:
		d.state = inRest
	default:
		d.state = ended
	}
}

// Read returns body bytes, io.EOF at the message's end, io.ErrUnexpectedEOF
// when the connection ends before it, a *refusal for malformed framing.
func (d *decoder) Read(p []byte) (int, error) {
	for {
		switch d.state {
		case ended:
			return 0, io.EOF
		case inData, inRest:
			if len(p) == 0 {
				return 0, nil
			}
			return d.data(p)
		case inLine:
			if err := d.sizeLine(); err != nil {
				return 0, early(err)
			}
		case inGap:
			if err := d.gap(); err != nil {
				return 0, early(err)
			}
		case inTrailer:
			if err := d.readTrailer(); err != nil {
				return 0, early(err)
			}
		}
	}
}

func early(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

func (d *decoder) data(p []byte) (n int, err error) {
	if d.state == inData && int64(len(p)) > d.left {
		p = p[:d.left]
	}
	have := d.rd.buffered()
	if len(have) == 0 && len(p) < smallBlock/2 && d.chunked {
		if err := d.rd.fill(); err != nil {
			return 0, early(err)
		}
		have = d.rd.buffered()
	}
	if len(have) > 0 {
		n = copy(p, have)
		d.rd.r += n
	} else if n, err = d.rd.read(p); err != nil {
		if d.state == inRest && err == io.EOF {
			d.state = ended
			return 0, io.EOF
		}
		return 0, early(err)
	}
	d.total += int64(n)
	if d.state == inRest {
		return n, nil
	}
	if d.left -= int64(n); d.left > 0 {
		return n, nil
	}
	d.state = ended
	if d.chunked {
		d.state = inGap
	}
	return n, nil
}

// sizeLine reads chunk-size [ chunk-ext ] CRLF.
func (d *decoder) sizeLine() error {
	line, err := d.line()
	if err != nil {
		return err
	}
	size, ext, bad := parseChunkLine(line)
	if bad != nil {
		return bad
	}
	if d.ext += ext; d.ext > chunkExtMax {
		return errChunkExt
	}
	if d.max > 0 && size > d.max-d.total {
		return errBodyLarge
	}
	d.left, d.state = size, inData
	if size == 0 {
		d.state, d.tail = inTrailer, scan{}
	}
	return nil
}

// line returns the next line without its CRLF, consumed.
func (d *decoder) line() ([]byte, error) {
	for from := 0; ; {
		p := d.rd.buffered()
		if i := bytes.IndexByte(p[from:], '\n'); i >= 0 {
			i += from
			if i > chunkLineMax {
				return nil, errChunkLong
			}
			if i == 0 || p[i-1] != '\r' {
				return nil, errChunkLine
			}
			d.rd.r += i + 1
			return p[:i-1], nil
		}
		if from = len(p); from > chunkLineMax {
			return nil, errChunkLong
		}
		if from > 0 && !head.Hex.Has(p[0]) {
			return nil, errChunkLine // no use in waiting
		}
		if err := d.rd.fill(); err != nil {
			return nil, err
		}
	}
}

// parseChunkLine reads 1*HEXDIG and returns how long the extensions are.
// They carry nothing for us and are dropped, but not unjudged.
func parseChunkLine(line []byte) (size int64, ext int, err *refusal) {
	i := 0
	for i < len(line) && head.Hex.Has(line[i]) {
		if size >= 1<<59 {
			return 0, 0, errChunkSize
		}
		size = size<<4 | hexValue(line[i])
		i++
	}
	rest := line[i:]
	if i == 0 || i > 16 {
		return 0, 0, errChunkLine
	}
	if len(rest) > 0 && !validExtensions(rest) {
		return 0, 0, errChunkLine
	}
	return size, len(rest), nil
}

// validExtensions judges *( ";" name [ "=" ( token / quoted-string ) ] ). The
// white space that RFC 9112 §7.1.1 tells recipients to bear with is refused:
// it serves nobody but those who hide things in it.
func validExtensions(p []byte) bool {
	for len(p) > 0 {
		if p[0] != ';' {
			return false
		}
		n := tokenLen(p[1:])
		if n == 0 {
			return false
		}
		if p = p[1+n:]; len(p) == 0 || p[0] != '=' {
			continue
		}
		if p = p[1:]; len(p) > 0 && p[0] == '"' {
			n = quotedLen(p)
		} else {
			n = tokenLen(p)
		}
		if n == 0 {
			return false
		}
		p = p[n:]
	}
	return true
}

func tokenLen(p []byte) int {
	for i, b := range p {
		if !head.Token.Has(b) {
			return i
		}
	}
	return len(p)
}

// quotedLen returns the length of the quoted string that p starts with, 0 for none.
func quotedLen(p []byte) int {
	for i := 1; i < len(p); i++ {
		switch {
		case p[i] == '"':
			return i + 1
		case !head.Value.Has(p[i]):
			return 0
		case p[i] == '\\':
			i++
			if i < len(p) && !head.Value.Has(p[i]) {
				return 0
			}
		}
	}
	return 0
}

func hexValue(b byte) int64 {
	if b <= '9' {
		return int64(b - '0')
	}
	return int64((b|0x20)-'a') + 10
}

func (d *decoder) gap() error {
	for {
		p := d.rd.buffered()
		if len(p) > 0 && p[0] != '\r' || len(p) > 1 && p[1] != '\n' {
			return errChunkEnd
		}
		if len(p) > 1 {
			d.rd.r += 2
			d.state = inLine
			return nil
		}
		if err := d.rd.fill(); err != nil {
			return err
		}
	}
}

func (d *decoder) readTrailer() error {
	p, err := d.rd.head(&d.tail, d.lim)
	if err != nil {
		if r, ok := errors.AsType[*refusal](err); ok && r.status == 431 {
			return errTrailerBig
		}
		return err
	}
	if len(p) > 2 {
		d.rd.lend() // the trailer's slices are of it
		bad := parseFields(p[:len(p)-2], d.trailer)
		if bad == nil && !head.TrailerAllowed(d.trailer) {
			bad = errTrailerField
		}
		if bad != nil {
			d.trailer.Reset() // none of it is to be trusted
			return bad
		}
	}
	d.state = ended
	return nil
}
