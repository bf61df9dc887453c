package hpack

import (
	"errors"

	"github.com/selvage-edge/selvage/wire/msg"
)

// What can be wrong with a section whose coding is right: the message is
// malformed (RFC 9113 §8.1.1) or too large, the connection goes on.
var (
	ErrTooLarge = errors.New("hpack: field section too large")

	errName       = errors.New("hpack: invalid field name")
	errValue      = errors.New("hpack: invalid field value")
	errConnection = errors.New("hpack: field of a connection")
	errPseudo     = errors.New("hpack: unknown pseudo-header field")
	errTwice      = errors.New("hpack: pseudo-header field given twice")
	errOrder      = errors.New("hpack: pseudo-header field after an ordinary one")
)

// flaw is what is wrong with one line, kept with it in the table.
type flaw uint8

const (
	sound flaw = iota
	flawName
	flawValue
	flawConnection
	flawPseudo
)

var flaws = [...]error{nil, errName, errValue, errConnection, errPseudo}

// Section is where a Decoder puts one field section. Its owner sets Fields,
// Mem and Limit, calls Reset before each section, and keeps Mem as long as
// Fields and the pseudo-header fields are used: their bytes are there, or are
// constants.
type Section struct {
	Fields *msg.Fields // gets the ordinary lines; known names in their canonical spelling
	Mem    []byte      // appended to
	// Limit is the most that the lines may count together, each as the bytes of
	// name and value and 32 (RFC 9113 §6.5.2). What is over it is decoded, as
	// the table demands, but not kept.
	Limit int
	// Err is the first thing wrong with the section: ErrTooLarge, or it is
	// malformed. Nothing is kept from there on. Nil when it is sound, as far as
	// each line can tell; which pseudo-header fields there must be is the caller's.
	Err error

	size    int
	pseudo  [pseudos][]byte
	seen    uint8
	regular bool
	cookies int
}

// Reset empties the section and keeps memory. Fields is reset too.
func (s *Section) Reset() {
	*s = Section{Fields: s.Fields, Mem: s.Mem[:0], Limit: s.Limit}
	if s.Fields != nil {
		s.Fields.Reset()
	}
}

// Get returns a pseudo-header field; nil when it is absent or empty.
func (s *Section) Get(p Pseudo) []byte { return s.pseudo[p] }

// Has reports whether a pseudo-header field came.
func (s *Section) Has(p Pseudo) bool { return s.seen&(1<<p) != 0 }

// HasPseudo reports whether any came: a trailer section must have none.
func (s *Section) HasPseudo() bool { return s.seen != 0 }

// room counts a line and reports whether it is to be kept.
func (s *Section) room(l *line) bool {
	s.size += len(l.name) + len(l.value) + overhead
	switch {
	case s.Err != nil:
		return false
	case s.size > s.Limit:
		s.Err = ErrTooLarge
		return false
	case l.flaw != sound:
		s.Err = flaws[l.flaw]
		return false
	}
	return true
}

// keep takes a line for which there is room and whose bytes stay.
func (s *Section) keep(l *line) {
	if l.pseudo == None {
		s.regular = true
		if l.id == msg.Cookie {
			s.cookies++
		}
		s.Fields.AddField(msg.Field{Name: l.name, Value: l.value, ID: l.id})
		return
	}
	switch {
	case s.regular:
		s.Err = errOrder
	case s.seen&(1<<l.pseudo) != 0:
		s.Err = errTwice
	default:
		s.seen |= 1 << l.pseudo
		s.pseudo[l.pseudo] = l.value
	}
}

// copy puts bytes that the table owns where they stay.
func (s *Section) copy(p []byte) []byte {
	n := len(s.Mem)
	s.Mem = append(s.Mem, p...)
	return s.Mem[n:len(s.Mem):len(s.Mem)]
}

// join makes one line of cookies that came in crumbs (RFC 9113 §8.2.3).
func (s *Section) join() {
	if s.cookies < 2 || s.Err != nil {
		return
	}
	n, first := len(s.Mem), true
	for i := range s.Fields.Len() {
		l := s.Fields.At(i)
		if l.ID != msg.Cookie {
			continue
		}
		if !first {
			s.Mem = append(s.Mem, "; "...)
		}
		first = false
		s.Mem = append(s.Mem, l.Value...)
	}
	s.Fields.Set(msg.Cookie, s.Mem[n:len(s.Mem):len(s.Mem)])
	s.cookies = 1
}
