// Package hpack is the compression of HTTP/2 fields (RFC 7541): a Decoder that
// puts a block straight into msg.Fields, names recognised and lines judged by
// RFC 9113 §8.2, and functions that append to a block. Nothing allocates but
// what the caller's slices and a bounded dynamic table need to grow.
package hpack

import (
	"errors"

	"github.com/selvage-edge/selvage/internal/huffman"
	"github.com/selvage-edge/selvage/internal/prefixint"
	"github.com/selvage-edge/selvage/wire/head"
	"github.com/selvage-edge/selvage/wire/msg"
)

// What Decode returns: the table's state is lost, and the connection with it,
// as COMPRESSION_ERROR (RFC 9113 §4.3).
var (
	errInteger = errors.New("hpack: integer cut short or too large")
	errIndex   = errors.New("hpack: index beyond the tables")
	errString  = errors.New("hpack: string longer than its block")
	errHuffman = errors.New("hpack: invalid Huffman code")
	errResize  = errors.New("hpack: table size update that is not allowed here")
)

// Decoder holds one direction of a connection. The zero value has no table:
// NewDecoder makes one that has. Not safe for concurrent use.
type Decoder struct {
	t table
}

// NewDecoder makes a decoder whose peer may use a table of DefaultTable bytes.
func NewDecoder() Decoder {
	return Decoder{table{limit: DefaultTable}}
}

// Decode takes a whole block and appends its lines to s. An error is the
// connection's end; what is wrong with the message alone is s.Err.
func (d *Decoder) Decode(block []byte, s *Section) error {
	p, err := d.updates(block)
	for len(p) > 0 && err == nil {
		switch b := p[0]; {
		case b&0x80 != 0:
			p, err = d.indexed(p, s)
		case b&0xc0 == 0x40:
			p, err = d.literal(p, 6, true, s)
		case b&0xe0 == 0x20:
			return errResize
		default:
			p, err = d.literal(p, 4, false, s)
		}
	}
	if err != nil {
		return err
	}
	s.join()
	return nil
}

// updates takes the size updates at the front: at most two, the smallest size
// and the last (RFC 7541 §4.2).
func (d *Decoder) updates(p []byte) ([]byte, error) {
	for n := 0; len(p) > 0 && p[0]&0xe0 == 0x20; n++ {
		size, rest, ok := prefixint.Read(p, 5)
		if !ok {
			return nil, errInteger
		}
		if n == 2 || size > DefaultTable {
			return nil, errResize
		}
		d.t.resize(size)
		p = rest
	}
	return p, nil
}

// lookup finds a line in the static or the dynamic table, and whether its bytes
// are constants.
func (d *Decoder) lookup(i int) (l line, constant bool, err error) {
	if i >= 1 && i <= len(static) {
		return staticLines[i-1], true, nil
	}
	l, ok := d.t.get(i - len(static) - 1)
	if !ok {
		return l, false, errIndex
	}
	return l, false, nil
}

// indexed takes a line of a table as it is: what most lines of most requests
// are, from a connection's second one on.
func (d *Decoder) indexed(p []byte, s *Section) ([]byte, error) {
	i, rest := int(p[0]&0x7f), p[1:]
	if i == 0x7f {
		var ok bool
		if i, rest, ok = prefixint.Read(p, 7); !ok {
			return nil, errInteger
		}
	}
	if i >= 1 && i <= len(static) {
		if l := &staticLines[i-1]; s.room(l) {
			s.keep(l)
		}
		return rest, nil
	}
	e := d.t.entry(i - len(static) - 1)
	if e == nil {
		return nil, errIndex
	}
	if e.flaw != sound || e.pseudo != None {
		l := d.t.line(e)
		if s.room(&l) {
			l.value = s.copy(l.value)
			s.keep(&l)
		}
		return rest, nil
	}
	if s.size += e.cost(); s.Err != nil {
		return rest, nil
	}
	if s.size > s.Limit {
		s.Err = ErrTooLarge
		return rest, nil
	}
	s.regular = true
	if e.id == msg.Cookie {
		s.cookies++
	}
	text := s.copy(d.t.text(e))
	if e.id != msg.Unknown {
		s.Fields.AddField(msg.Field{Name: e.id.Bytes(), Value: text, ID: e.id})
	} else {
		s.Fields.AddField(msg.Field{Name: text[:e.name:e.name], Value: text[e.name:]})
	}
	return rest, nil
}

func (d *Decoder) literal(p []byte, prefix uint, index bool, s *Section) ([]byte, error) {
	i, p, ok := prefixint.Read(p, prefix)
	if !ok {
		return nil, errInteger
	}
	mark := len(s.Mem)
	var l line
	var err error
	if i == 0 {
		var name []byte
		if name, p, err = s.text(p); err != nil {
			return nil, err
		}
		if l = recognise(name); l.id != msg.Unknown || l.pseudo != None {
			s.Mem = s.Mem[:mark]
		}
	} else {
		var constant bool
		if l, constant, err = d.lookup(i); err != nil {
			return nil, err
		}
		if !constant && l.id == msg.Unknown && l.pseudo == None {
			l.name = s.copy(l.name) // adding may drop its entry
		}
		l.flaw = nameFlaw(&l)
	}
	if l.value, p, err = s.text(p); err != nil {
		return nil, err
	}
	if l.flaw == sound {
		l.flaw = judge(&l)
	}
	if index {
		d.t.add(&l)
	}
	if s.room(&l) {
		s.keep(&l)
	} else {
		s.Mem = s.Mem[:mark]
	}
	return p, nil
}

// nameFlaw is the part of a line's flaw that its name brings to another value.
func nameFlaw(l *line) flaw {
	if l.flaw == flawValue || l.flaw == flawConnection && !head.OfConnection(l.id) {
		return sound
	}
	return l.flaw
}

// text reads a string literal (RFC 7541 §5.2) into Mem.
func (s *Section) text(p []byte) (text, rest []byte, err error) {
	if len(p) == 0 {
		return nil, nil, errString
	}
	coded := p[0]&0x80 != 0
	n, p, ok := prefixint.Read(p, 7)
	if !ok {
		return nil, nil, errInteger
	}
	if n > len(p) {
		return nil, nil, errString
	}
	if !coded {
		return s.copy(p[:n]), p[n:], nil
	}
	mark := len(s.Mem)
	if s.Mem, ok = huffman.Decode(s.Mem, p[:n]); !ok {
		return nil, nil, errHuffman
	}
	return s.Mem[mark:len(s.Mem):len(s.Mem)], p[n:], nil
}
