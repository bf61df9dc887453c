package mark

// hash is FNV-1a of 64 bits: it can be read off at each byte, and is the same
// in every process, so that it can be stored. Two names with one hash are purged
// together, and both are of one zone: whoever makes them collide harms himself.
type hash uint64

const start hash = 0xcbf29ce484222325

func (h hash) add(c byte) hash { return (h ^ hash(c)) * 0x100000001b3 }

// Hash is the hash of a host, a prefix or a URL.
func Hash[T string | []byte](name T) uint64 {
	h := start
	for i := range len(name) {
		h = h.add(name[i])
	}
	return uint64(h)
}

// TagHash is the hash of a tag, whatever the case of its letters.
func TagHash[T string | []byte](name T) uint64 {
	h := start
	for i := range len(name) {
		c := name[i]
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		h = h.add(c)
	}
	return uint64(h)
}
