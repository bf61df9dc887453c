// Package hot is what of many is in memory: a bounded table of what was asked
// for lately, by name, and a filter that tells which names need not be looked
// for anywhere else. It knows names and sizes, and nothing of what they stand
// for.
//
// It promises that a look-up takes no lock, waits for nobody and allocates
// nothing, whatever is put in or leaves meanwhile; that what is in the table
// stays under its bound; and that a name is called absent only if it is.
package hot

import (
	"bytes"
	"hash/maphash"
	"math/bits"
)

// seed keys every hash of names: drawn once per process, so that nobody can
// choose names that collide.
var seed = maphash.MakeSeed()

// Hash returns the hash of a name from that of its parent, 0 for the root, and
// the label before it, in lower case. Text and wire form have the same.
func Hash(parent uint64, label []byte) uint64 {
	hi, lo := bits.Mul64(parent^0x9e3779b97f4a7c15, maphash.Bytes(seed, label)|1)
	return hi ^ lo
}

// MaxLabels is how many labels a name has at most (RFC 1035 §2.3.4).
const MaxLabels = 127

// Suffixes are a name and its parents, the name itself first.
type Suffixes struct {
	name   []byte
	count  int
	starts [MaxLabels]uint8
	hashes [MaxLabels]uint64
}

const maxName = 253 // bytes of a name as text

// Set takes a name as text, in lower case and without the final dot. One that is
// none has no suffixes. The bytes are kept.
func (s *Suffixes) Set(name []byte) {
	s.name, s.count = name, 0
	if len(name) > maxName {
		return
	}
	h, end := uint64(0), len(name)
	for end >= 0 {
		start := bytes.LastIndexByte(name[:end], '.') + 1
		if start == end || s.count == MaxLabels {
			s.count = 0
			return
		}
		h = Hash(h, name[start:end])
		s.starts[s.count], s.hashes[s.count] = uint8(start), h
		s.count++
		end = start - 1
	}
}

// Len is how many there are.
func (s *Suffixes) Len() int { return s.count }

// At returns the i-th, the longest is number 0.
func (s *Suffixes) At(i int) (name []byte, hash uint64) {
	i = s.count - 1 - i
	return s.name[s.starts[i]:], s.hashes[i]
}

// HashOf is the hash of a name as Set takes it, 0 of one that is none.
func HashOf(name string) uint64 {
	var s Suffixes
	s.Set([]byte(name))
	if s.count == 0 {
		return 0
	}
	return s.hashes[s.count-1]
}
