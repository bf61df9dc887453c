package cache

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"

	"github.com/selvage-edge/selvage/wire/msg"
)

// stored is an answer's head as it lies on a disk or in a reserve: all that an
// object is made of again, with times by the wall clock. Its bytes are those
// that it was decoded from.
type stored struct {
	kind  storedKind
	stamp uint64 // random, the same in a head and in the record of its body
	size  int64  // of the body, in bytes

	life uint64 // of the ledger of purges that seq counts in
	seq  uint64 // newest feed entry that had taken effect when it was fetched
	tags []byte // of Cache-Tag
	page []byte // the URL that was fetched, where several lead to the key

	status                  int
	born                    int64 // Unix time of age zero, in nanoseconds
	lifetime, revalid, fail int64 // nanoseconds
	strict, shared          bool
	validate, noETag        bool

	date  []byte
	lines []byte // the origin's fields, as msg.Prepared.H1 has them
	vary  []varyField
}

// storedKind is what a record's meta is about.
type storedKind uint8

const (
	storedVary  storedKind = 1 // names of fields that choose; the answers are under other keys
	storedWhole storedKind = 2 // an answer, its body in the same record
	storedHead  storedKind = 3 // an answer, its body in a record of its own
)

// storedVersion changes whenever what follows it does. Another version counts
// as nothing.
const storedVersion = 1

// Flags of stored.
const (
	flagStrict = 1 << iota
	flagShared
	flagValidate
	flagNoETag
	flagsKnown = 1<<iota - 1
)

// Bounds of what is decoded.
const (
	maxStoredLines = 160 << 10
	maxStoredText  = 32 << 10
)

var errStored = errors.New("not a stored head that is known here")

// append encodes the head.
func (h *stored) append(b []byte) []byte {
	le := binary.LittleEndian
	b = append(b, storedVersion, byte(h.kind))
	b = le.AppendUint64(b, h.stamp)
	b = le.AppendUint64(le.AppendUint64(b, h.life), h.seq)
	b = le.AppendUint64(b, uint64(h.size))
	for _, n := range [...]int64{h.born, h.lifetime, h.revalid, h.fail} {
		b = le.AppendUint64(b, uint64(n))
	}
	b = le.AppendUint16(b, uint16(h.status))
	b = append(b, flag(h.strict, flagStrict)|flag(h.shared, flagShared)|flag(h.validate, flagValidate)|flag(h.noETag, flagNoETag))
	for _, p := range [...][]byte{h.tags, h.page, h.date, h.lines} {
		b = appendBytes(b, p)
	}
	b = append(b, byte(len(h.vary)))
	for i := range h.vary {
		v := &h.vary[i]
		b = appendBytes(b, v.fieldName())
		for _, p := range [...][]byte{v.value, v.sent, v.language} {
			b = appendBytes(b, p)
		}
	}
	return b
}

// fieldName is the name of the field, known or not.
func (v *varyField) fieldName() []byte {
	if v.id != msg.Unknown {
		return v.id.Bytes()
	}
	return v.name
}

func flag(on bool, bit byte) byte {
	if on {
		return bit
	}
	return 0
}

// appendBytes appends a length and the bytes; nil is told from empty.
func appendBytes(b, p []byte) []byte {
	if p == nil {
		return binary.AppendUvarint(b, 0)
	}
	return append(binary.AppendUvarint(b, uint64(len(p))+1), p...)
}

// cutter reads what append wrote; after a failure it gives nothing.
type cutter struct {
	b      []byte
	failed bool
}

func (c *cutter) take(n int) []byte {
	if c.failed || n > len(c.b) {
		c.failed = true
		return nil
	}
	p := c.b[:n:n]
	c.b = c.b[n:]
	return p
}

func (c *cutter) uint64() uint64 {
	if p := c.take(8); p != nil {
		return binary.LittleEndian.Uint64(p)
	}
	return 0
}

func (c *cutter) uint8() byte {
	if p := c.take(1); p != nil {
		return p[0]
	}
	return 0
}

// span is a length of time: not negative, and such that sums stay in range.
func (c *cutter) span() int64 {
	n := int64(c.uint64())
	if n < 0 || n > math.MaxInt64/4 {
		c.failed = true
	}
	return n
}

// bytes reads at most most bytes.
func (c *cutter) bytes(most int) []byte {
	n, read := binary.Uvarint(c.b)
	if c.failed || read <= 0 || n > uint64(most)+1 {
		c.failed = true
		return nil
	}
	c.b = c.b[read:]
	if n == 0 {
		return nil
	}
	return c.take(int(n - 1))
}

// decodeStored reads a head. Whatever the bytes are, it does not panic, and what
// it accepts can be shown to visitors: the lines are fields.
func decodeStored(b []byte) (h stored, err error) {
	c := cutter{b: b}
	if c.uint8() != storedVersion {
		return h, errStored
	}
	h.kind = storedKind(c.uint8())
	h.stamp, h.life, h.seq, h.size = c.uint64(), c.uint64(), c.uint64(), c.span()
	h.born = int64(c.uint64())
	h.lifetime, h.revalid, h.fail = c.span(), c.span(), c.span()
	if p := c.take(2); p != nil {
		h.status = int(binary.LittleEndian.Uint16(p))
	}
	flags := c.uint8()
	h.strict, h.shared = flags&flagStrict != 0, flags&flagShared != 0
	h.validate, h.noETag = flags&flagValidate != 0, flags&flagNoETag != 0
	h.tags, h.page = c.bytes(maxStoredText), c.bytes(maxStoredText)
	h.date, h.lines = c.bytes(64), c.bytes(maxStoredLines)
	n := int(c.uint8())
	if c.failed || n > maxVary || flags&^flagsKnown != 0 {
		return stored{}, errStored
	}
	for range n {
		h.vary = append(h.vary, c.varyField())
	}
	if c.failed || len(c.b) > 0 || !h.sound() {
		return stored{}, errStored
	}
	return h, nil
}

func (c *cutter) varyField() (v varyField) {
	name := c.bytes(maxStoredText)
	c.failed = c.failed || len(name) == 0
	if v.id = msg.Known(name); v.id == msg.Unknown {
		v.name = name
	}
	v.value, v.sent, v.language = c.bytes(maxStoredText), c.bytes(maxStoredText), c.bytes(maxStoredText)
	return v
}

// sound reports whether the parts are such as an answer can have.
func (h *stored) sound() bool {
	switch h.kind {
	case storedVary:
		return len(h.vary) > 0 && len(h.lines) == 0
	case storedWhole, storedHead:
	default:
		return false
	}
	return h.status >= 200 && h.status <= 599 && isFieldValue(h.date) && soundLines(h.lines)
}

// soundLines reports whether b is field lines and nothing else, so that no
// line of an answer can be two.
func soundLines(b []byte) bool {
	for len(b) > 0 {
		name, value, rest := msg.CutLine(b)
		if len(name) == 0 || !isFieldValue(value) {
			return false
		}
		for _, c := range name {
			if c <= ' ' || c >= 0x7f || bytes.IndexByte([]byte(`"(),/:;<=>?@[\]{}`), c) >= 0 {
				return false
			}
		}
		b = rest
	}
	return true
}

func isFieldValue(b []byte) bool {
	for _, c := range b {
		if c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}
