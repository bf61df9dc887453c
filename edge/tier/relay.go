package tier

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/selvage-edge/selvage/wire/msg"
)

// Rest is where the rest of an answer may be had that broke off.
type Rest interface {
	// More asks somebody else, with the fields that ask adds; out is nil where
	// that failed. more says that there is another one to ask.
	More(ask func(*msg.Fields)) (out *msg.Response, more bool)
	// Resumed hears that the answer goes on.
	Resumed()
}

// relay is the body of another edge's answer. Should that edge die in the
// middle, the rest is had from elsewhere, from the byte where it stopped, if
// what is there is proven to be the same: by a strong validator (RFC 9110
// §8.8.1). Otherwise the body ends with an error; a wrong byte never comes.
type relay struct {
	from  Rest
	body  io.ReadCloser
	at    int64           // of the representation, next byte to come
	end   int64           // of it, behind the last byte; -1 = not known
	id    validator       // none = nothing proves that another answer is the same
	later []*msg.Response // that went on; closed with the body
}

// validator identifies the bytes of a representation.
type validator struct {
	etag, modified []byte // one of them, or none
}

// Watch makes an answer of another edge go on from elsewhere when it breaks off.
func Watch(out *msg.Response, from Rest) {
	if out.Body == nil {
		return
	}
	b := &relay{from: from, body: out.Body, end: -1, id: validatorOf(&out.Fields)}
	switch out.Status {
	case 200:
		if out.Length >= 0 {
			b.end = out.Length
		}
	case 206:
		first, last, _, ok := contentRange(out.Fields.Get(msg.ContentRange))
		if !ok {
			b.id = validator{}
		}
		b.at, b.end = first, last+1
	default:
		b.id = validator{}
	}
	out.Body = b
}

// Read implements io.Reader.
func (b *relay) Read(p []byte) (int, error) {
	for {
		n, err := b.body.Read(p)
		b.at += int64(n)
		if err == nil || n > 0 {
			return n, nil // an error comes again
		}
		if errors.Is(err, io.EOF) && (b.end < 0 || b.at >= b.end) {
			return 0, io.EOF
		}
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		if !b.resume() {
			return 0, err
		}
	}
}

// Buffered is what the body says of bytes that need no waiting.
func (b *relay) Buffered() int {
	if held, ok := b.body.(interface{ Buffered() int }); ok {
		return held.Buffered()
	}
	return 0
}

// Close implements io.Closer.
func (b *relay) Close() error {
	err := b.body.Close()
	for _, out := range b.later {
		out.Close()
	}
	b.later = nil
	return err
}

// resume finds somebody who has the rest. The broken answer stays open: its
// head may be borrowed still.
func (b *relay) resume() bool {
	if b.id.none() || b.end >= 0 && b.at >= b.end {
		return false
	}
	for more := true; more; {
		var out *msg.Response
		if out, more = b.from.More(b.ask); out == nil {
			continue
		}
		if b.continues(out) {
			b.from.Resumed()
			return true
		}
		out.Close()
	}
	return false
}

// ask sets the fields of a request for the rest.
func (b *relay) ask(f *msg.Fields) {
	text := append(strconv.AppendInt([]byte("bytes="), b.at, 10), '-')
	if b.end >= 0 {
		text = strconv.AppendInt(text, b.end-1, 10)
	}
	f.AddID(msg.Range, text)
	if b.id.etag != nil {
		f.AddID(msg.IfRange, b.id.etag)
	} else {
		f.AddID(msg.IfRange, b.id.modified)
	}
}

// continues takes over the body of an answer that has the rest.
func (b *relay) continues(out *msg.Response) bool {
	if out.Body == nil && out.Bytes == nil || !b.id.is(validatorOf(&out.Fields)) {
		return false
	}
	skip := int64(0)
	switch out.Status {
	case 206:
		first, last, total, ok := contentRange(out.Fields.Get(msg.ContentRange))
		if !ok || first != b.at || b.end >= 0 && last+1 != b.end || b.end < 0 && last+1 != total {
			return false
		}
		b.end = last + 1
	case 200:
		if b.end >= 0 && out.Length >= 0 && out.Length < b.end {
			return false
		}
		skip = b.at
	default:
		return false
	}
	body := out.Body
	if body == nil {
		body = io.NopCloser(bytes.NewReader(out.Bytes))
	}
	if _, err := io.CopyN(io.Discard, body, skip); err != nil {
		return false
	}
	_ = b.body.Close() // broken: there is nothing to hear from it
	b.body = body
	if b.end >= 0 {
		b.body = limited{io.LimitReader(body, b.end-b.at), body}
	}
	b.later = append(b.later, out)
	return true
}

// limited is a body of which only the first part is asked for.
type limited struct {
	io.Reader
	io.Closer
}

// validatorOf finds what proves that two answers have the same bytes: a strong
// entity-tag, or a Last-Modified that lies a minute before the answer's Date
// (RFC 9110 §8.8.2.2).
func validatorOf(f *msg.Fields) (v validator) {
	if tag := f.Get(msg.ETag); len(tag) >= 2 && tag[0] == '"' {
		return validator{etag: bytes.Clone(tag)}
	}
	modified, err1 := http.ParseTime(string(f.Get(msg.LastModified)))
	date, err2 := http.ParseTime(string(f.Get(msg.Date)))
	if err1 == nil && err2 == nil && date.Sub(modified) >= time.Minute {
		v.modified = bytes.Clone(f.Get(msg.LastModified))
	}
	return v
}

func (v validator) is(o validator) bool {
	return bytes.Equal(v.etag, o.etag) && bytes.Equal(v.modified, o.modified)
}

// contentRange reads "bytes first-last/length" (RFC 9110 §14.4); length is -1
// where it is "*".
func contentRange(text []byte) (first, last, length int64, ok bool) {
	text, ok = bytes.CutPrefix(text, []byte("bytes "))
	span, total, cut := bytes.Cut(text, []byte("/"))
	from, to, dash := bytes.Cut(span, []byte("-"))
	if !ok || !cut || !dash {
		return 0, 0, 0, false
	}
	first, ok1 := number(from)
	last, ok2 := number(to)
	length, ok3 := int64(-1), string(total) == "*"
	if !ok3 {
		length, ok3 = number(total)
	}
	return first, last, length, ok1 && ok2 && ok3 && first <= last && (length < 0 || last < length)
}

func number(digits []byte) (int64, bool) {
	if len(digits) == 0 || len(digits) > 18 {
		return 0, false
	}
	n := int64(0)
	for _, c := range digits {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}

func (v validator) none() bool { return v.etag == nil && v.modified == nil }
