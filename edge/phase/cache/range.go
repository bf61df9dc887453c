package cache

import (
	"bytes"
	"io"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/selvage-edge/selvage/edge/phase/cache/coding"
	"github.com/selvage-edge/selvage/edge/request"
	"github.com/selvage-edge/selvage/wire/msg"
)

// rangeHolds is If-Range (RFC 9110 §13.1.5): a strong ETag, or the very
// Last-Modified that was sent if that is strong, which takes that the answer was
// made at least a second after it (§8.8.2.2).
func (o *object) rangeHolds(f *msg.Fields) bool {
	want := f.Get(msg.IfRange)
	if want == nil {
		return true
	}
	if len(want) > 0 && want[0] == '"' {
		return bytes.Equal(want, o.etag())
	}
	if o.lastMod() == nil || !bytes.Equal(want, o.lastMod()) {
		return false
	}
	if o.State.Load()&stateCodable != 0 && coding.Choose(f, coding.Stored) != coding.Identity {
		return false // who asks may have a part of another coding, of the same date
	}
	now := o.engine().cfg.Now()
	modified, ok := readDate(want, now)
	date, dated := readDate(o.date(), now)
	return ok && dated && date.Sub(modified) >= time.Second
}

// rangeOf is the Range field of a request that the object may answer in part;
// nil where it is to be answered whole. Where the origin itself sent a
// Content-Range with the whole, it stays whole: two of them would contradict
// each other.
func (o *object) rangeOf(in *msg.Request) []byte {
	if in.Method != msg.GET || !in.Fields.Has(msg.Range) || o.status != 200 || !o.rangeHolds(&in.Fields) || o.field(msg.ContentRange) != nil {
		return nil
	}
	return in.Fields.Get(msg.Range)
}

// serves reports whether the object has all that a request wants of its body.
func (o *object) serves(in *msg.Request) bool {
	if !o.partial() {
		return true
	}
	if in.Method != msg.GET {
		return false
	}
	l := o.layout()
	a := readRanges(o.rangeOf(in), l.total)
	for _, s := range a.parts() {
		if _, ok := l.find(s); !ok {
			return false
		}
	}
	return a.part != wholeBody
}

// notSatisfied makes a 416.
func notSatisfied(r *request.Request, total int64) {
	text := append(r.Arena.Alloc(len("bytes */") + 20)[:0], "bytes */"...)
	r.Out.Status, r.Out.Prepared, r.Out.Bytes, r.Out.Length = 416, nil, nil, 0
	r.Out.Fields.AddID(msg.ContentRange, strconv.AppendInt(text, total, 10))
}

func addContentRange(r *request.Request, s stretch, total int64) {
	r.Out.Fields.AddID(msg.ContentRange, appendContentRange(r.Arena.Alloc(len("bytes -/") + 3*20)[:0], s, total))
}

func appendContentRange(b []byte, s stretch, total int64) []byte {
	b = strconv.AppendInt(append(b, "bytes "...), s.from, 10)
	b = strconv.AppendInt(append(b, '-'), s.to-1, 10)
	return strconv.AppendInt(append(b, '/'), total, 10)
}

// serveParts answers several ranges as multipart/byteranges (RFC 9110 §14.6).
// The bodies of the parts are not copied.
func (o *object) serveParts(r *request.Request, a *asked, l layout, whole []byte) {
	const hexDigits = 2 * 16
	boundary := strconv.AppendUint(make([]byte, 0, hexDigits), rand.Uint64()|1<<63, 16)
	boundary = strconv.AppendUint(boundary, rand.Uint64()|1<<63, 16)
	kind := o.field(msg.ContentType)
	body := &pieces{}
	for _, s := range a.parts() {
		var head []byte
		if body.list != nil {
			head = append(head, "\r\n"...)
		}
		head = append(append(head, "--"...), boundary...)
		if kind != nil {
			head = append(append(head, "\r\nContent-Type: "...), kind...)
		}
		head = append(appendContentRange(append(head, "\r\nContent-Range: "...), s, l.total), "\r\n\r\n"...)
		body.add(head)
		body.add(l.cut(whole, s))
	}
	body.add(append(append([]byte("\r\n--"), boundary...), "--\r\n"...))
	r.Out.Prepared = &msg.Prepared{H1: withoutType(r.Out.Prepared.H1)}
	r.Out.Fields.AddID(msg.ContentType, append([]byte("multipart/byteranges; boundary="), boundary...))
	r.Out.Status, r.Out.Bytes, r.Out.Body, r.Out.Length = 206, nil, body, body.size
}

// withoutType copies field lines without Content-Type, which is the parts'.
func withoutType(lines []byte) []byte {
	kept := make([]byte, 0, len(lines))
	for name, value, rest := msg.CutLine(lines); name != nil; name, value, rest = msg.CutLine(rest) {
		if !msg.EqualFold(name, "content-type") {
			kept = append(append(append(append(kept, name...), ": "...), value...), "\r\n"...)
		}
	}
	return kept
}

// pieces is a body of several.
type pieces struct {
	list [][]byte
	size int64
}

func (p *pieces) add(b []byte) {
	p.list = append(p.list, b)
	p.size += int64(len(b))
}

func (p *pieces) Read(to []byte) (int, error) {
	for len(p.list) > 0 && len(p.list[0]) == 0 {
		p.list = p.list[1:]
	}
	if len(p.list) == 0 {
		return 0, io.EOF
	}
	n := copy(to, p.list[0])
	p.list[0] = p.list[0][n:]
	return n, nil
}

// Close drops what was not read: it may be memory of the object's.
func (p *pieces) Close() error {
	p.list = nil
	return nil
}
