package cache

import (
	"bytes"
	"strconv"

	"github.com/selvage-edge/selvage/edge/request"
	"github.com/selvage-edge/selvage/wire/msg"
)

// part is what a Range field asks of a body.
type part uint8

const (
	wholeBody     part = iota // no range, several, or none that is understood
	onePart                   // from..to
	unsatisfiable             // beyond the end
)

// readRange reads a Range of one part of a body of size bytes (RFC 9110
// §14.1.2); to is past the last byte. Several parts, other units and
// malformed ranges ask for the whole: a server may ignore them.
func readRange(value []byte, size int64) (from, to int64, p part) {
	unit, set, ok := bytes.Cut(value, []byte{'='})
	if !ok || !msg.EqualFold(unit, "bytes") {
		return 0, 0, wholeBody
	}
	set = bytes.Trim(set, " \t")
	first, last, ok := bytes.Cut(set, []byte{'-'})
	if !ok || bytes.IndexByte(set, ',') >= 0 {
		return 0, 0, wholeBody
	}
	if len(first) == 0 {
		n, ok := readDigits(last, maxOffset)
		switch {
		case !ok:
			return 0, 0, wholeBody
		case n == 0 || size == 0:
			return 0, 0, unsatisfiable
		}
		return size - min(n, size), size, onePart
	}
	from, ok = readDigits(first, maxOffset)
	if !ok {
		return 0, 0, wholeBody
	}
	to = size
	if len(last) > 0 {
		end, ok := readDigits(last, maxOffset)
		if !ok || end < from {
			return 0, 0, wholeBody
		}
		to = min(size, end+1)
	}
	if from >= size {
		return 0, 0, unsatisfiable
	}
	return from, to, onePart
}

// maxOffset keeps sums of offsets within 64 bits.
const maxOffset = 1 << 56

// rangeHolds is If-Range (RFC 9110 §13.1.5): a strong ETag or the very
// Last-Modified that was sent.
func (o *object) rangeHolds(f *msg.Fields) bool {
	want := f.Get(msg.IfRange)
	if want == nil {
		return true
	}
	if len(want) > 0 && want[0] == '"' {
		return bytes.Equal(want, o.etag())
	}
	return o.lastMod() != nil && bytes.Equal(want, o.lastMod())
}

// servePart turns the answer, which is the whole object of size bytes, into
// what Range asks, and returns the part of the body that goes with it. Where the
// origin itself sent a Content-Range with the whole, it stays whole: two of them
// would contradict each other.
func (o *object) servePart(r *request.Request, size int64) (from, to int64) {
	value := r.In.Fields.Get(msg.Range)
	if value == nil || r.In.Method != msg.GET || o.status != 200 || !o.rangeHolds(&r.In.Fields) || o.field(msg.ContentRange) != nil {
		return 0, size
	}
	from, to, p := readRange(value, size)
	if p == wholeBody {
		return 0, size
	}
	text := r.Arena.Alloc(len("bytes -/") + 3*20)[:0]
	text = append(text, "bytes "...)
	if p == unsatisfiable {
		text = strconv.AppendInt(append(text, "*/"...), size, 10)
		from, to = 0, 0
		r.Out.Status, r.Out.Prepared, r.Out.Length = 416, nil, 0
	} else {
		text = append(strconv.AppendInt(text, from, 10), '-')
		text = append(strconv.AppendInt(text, to-1, 10), '/')
		text = strconv.AppendInt(text, size, 10)
		r.Out.Status, r.Out.Length = 206, to-from
	}
	r.Out.Fields.AddID(msg.ContentRange, text)
	return from, to
}
