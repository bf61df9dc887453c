// Package qpack is the compression of HTTP/3 fields (RFC 9204) without the
// dynamic table: a peer that is told a capacity of 0 may not use it, and what
// we send refers to the static table alone, so that a section fits every
// connection and is kept with a stored object.
package qpack

import (
	"errors"

	"github.com/selvage-edge/selvage/internal/huffman"
	"github.com/selvage-edge/selvage/internal/prefixint"
)

// What a Reader returns: the connection's end, as QPACK_DECOMPRESSION_FAILED
// (RFC 9204 §2.2, §6).
var (
	errInteger = errors.New("qpack: integer cut short or too large")
	errIndex   = errors.New("qpack: index beyond the static table")
	errDynamic = errors.New("qpack: reference to a dynamic table, whose capacity is 0")
	errString  = errors.New("qpack: string longer than its section")
	errHuffman = errors.New("qpack: invalid Huffman code")
	errBase    = errors.New("qpack: negative base")
)

// Reader takes one field section apart. It is owned by one goroutine. Sections
// are bounded by their reader's caller; strings by their section.
type Reader struct {
	// Mem is where Huffman-coded strings are put; its memory is used again
	// after Start. Other strings are slices of the section or constants.
	Mem []byte
	p   []byte
}

// Start begins a section and reads its prefix (RFC 9204 §4.5.1). The lines of
// the section before become invalid.
func (r *Reader) Start(section []byte) error {
	r.Mem = r.Mem[:0]
	inserts, p, ok := prefixint.Read(section, 8)
	if !ok || len(p) == 0 {
		return errInteger
	}
	if inserts != 0 {
		return errDynamic
	}
	if p[0]&0x80 != 0 {
		return errBase
	}
	if _, p, ok = prefixint.Read(p, 7); !ok {
		return errInteger
	}
	r.p = p
	return nil
}

// More reports whether another line follows.
func (r *Reader) More() bool { return len(r.p) > 0 }

// Next returns the next line. Name and value are not judged, and valid until
// the next Start or as long as the section's memory.
func (r *Reader) Next() (name, value []byte, err error) {
	switch b := r.p[0]; {
	case b&0x80 != 0: // indexed
		e, err := r.lookup(b&0x40 != 0, 6)
		if err != nil {
			return nil, nil, err
		}
		return e.name, e.value, nil
	case b&0x40 != 0: // literal with name reference
		e, err := r.lookup(b&0x10 != 0, 4)
		if err != nil {
			return nil, nil, err
		}
		name = e.name
	case b&0x20 != 0: // literal with literal name
		if name, err = r.text(3); err != nil {
			return nil, nil, err
		}
	default: // post-base forms
		return nil, nil, errDynamic
	}
	value, err = r.text(7)
	return name, value, err
}

func (r *Reader) lookup(static bool, prefix uint) (*entry, error) {
	i, p, ok := prefixint.Read(r.p, prefix)
	switch {
	case !ok:
		return nil, errInteger
	case !static:
		return nil, errDynamic
	case i >= len(entries):
		return nil, errIndex
	}
	r.p = p
	return &entries[i], nil
}

// text reads a string whose length has a prefix of n bits, and before it the
// bit that says whether it is coded (RFC 9204 §4.1.2).
func (r *Reader) text(n uint) ([]byte, error) {
	if len(r.p) == 0 {
		return nil, errString
	}
	coded := r.p[0]&(1<<n) != 0
	size, p, ok := prefixint.Read(r.p, n)
	if !ok {
		return nil, errInteger
	}
	if size > len(p) {
		return nil, errString
	}
	r.p = p[size:]
	if !coded {
		return p[:size:size], nil
	}
	mark := len(r.Mem)
	if r.Mem, ok = huffman.Decode(r.Mem, p[:size]); !ok {
		return nil, errHuffman
	}
	return r.Mem[mark:len(r.Mem):len(r.Mem)], nil
}
