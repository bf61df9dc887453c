// Package arena is a bump allocator whose memory is released in one go: the
// bytes of one request. It is owned by one goroutine at a time.
package arena

// Sizes of blocks in bytes. Reset keeps one block: a first one that does for a
// plain request, or a full one where a request has needed more.
const (
	first = 1 << 10
	full  = 8 << 10
)

// Arena hands out byte slices that stay valid until Reset. The zero value works.
type Arena struct {
	block []byte // current block; len is what is used
	kept  []byte // over Reset
}

// Alloc returns n zeroed or stale bytes; the caller writes all of them.
func (a *Arena) Alloc(n int) []byte {
	if cap(a.block)-len(a.block) < n {
		a.grow(n)
	}
	at := len(a.block)
	a.block = a.block[:at+n]
	return a.block[at : at+n : at+n]
}

// Copy returns a copy of p that lives until Reset.
func (a *Arena) Copy(p []byte) []byte {
	if len(p) == 0 {
		return nil
	}
	q := a.Alloc(len(p))
	copy(q, p)
	return q
}

// CopyString returns the bytes of s, living until Reset.
func (a *Arena) CopyString(s string) []byte {
	if s == "" {
		return nil
	}
	q := a.Alloc(len(s))
	copy(q, s)
	return q
}

// Reset releases everything handed out.
func (a *Arena) Reset() {
	if n := cap(a.block); n > cap(a.kept) && n <= full {
		a.kept = a.block
	}
	a.block = a.kept[:0]
}

func (a *Arena) grow(n int) {
	size := full
	if a.kept == nil && n <= first {
		size = first
	}
	a.block = make([]byte, 0, max(n, size))
	if a.kept == nil {
		a.kept = a.block
	}
}
