package hpack

import "github.com/selvage-edge/selvage/wire/msg"

const (
	// overhead is what a line counts beside its bytes (RFC 7541 §4.1).
	overhead = 32
	// DefaultTable is the size both sides start with (RFC 9113 §6.5.2), and the
	// most that this one lets a peer use.
	DefaultTable = 4096
)

// table is a dynamic table. It owns its bytes, takes no memory before the first
// line, and at most two and a half times its size then.
type table struct {
	buf   []byte // buf[from:] is in use
	from  int
	base  uint32 // what entry.at counts from, modulo 2^32: the place of buf[0]
	ring  []entry
	head  int // of the oldest
	n     int
	size  int // as RFC 7541 §4.1 counts
	limit int
}

type entry struct {
	at          uint32
	name, value uint16 // lengths; a name that is recognised takes no bytes
	id          msg.ID
	pseudo      Pseudo
	flaw        flaw
}

func (e *entry) cost() int { return int(e.name) + int(e.value) + overhead }

// bytes is what the entry takes in buf.
func (e *entry) bytes() int {
	if e.id != msg.Unknown || e.pseudo != None {
		return int(e.value)
	}
	return int(e.name) + int(e.value)
}

// entry returns the i-th newest, from 0, nil when there are not as many.
func (t *table) entry(i int) *entry {
	if i < 0 || i >= t.n {
		return nil
	}
	return &t.ring[(t.head+t.n-1-i)&(len(t.ring)-1)]
}

// text returns an entry's bytes, which are the table's.
func (t *table) text(e *entry) []byte { return t.buf[e.at-t.base:][:e.bytes()] }

// get returns the i-th newest line, from 0; its bytes are the table's.
func (t *table) get(i int) (l line, ok bool) {
	e := t.entry(i)
	if e == nil {
		return l, false
	}
	return t.line(e), true
}

func (t *table) line(e *entry) (l line) {
	p := t.text(e)
	l = line{id: e.id, pseudo: e.pseudo, flaw: e.flaw}
	switch {
	case e.id != msg.Unknown:
		l.name, l.value = e.id.Bytes(), p
	case e.pseudo != None:
		l.name, l.value = pseudoBytes[e.pseudo], p
	default:
		l.name, l.value = p[:e.name], p[e.name:]
	}
	return l
}

var pseudoBytes = func() (t [pseudos][]byte) {
	for p := range t {
		t[p] = []byte(pseudoNames[p])
	}
	return t
}()

// add puts a line in front; one that does not fit empties the table (RFC 7541 §4.4).
func (t *table) add(l *line) {
	need := len(l.name) + len(l.value) + overhead
	t.shrink(t.limit - need)
	if need > t.limit {
		return
	}
	e := entry{name: uint16(len(l.name)), value: uint16(len(l.value)), id: l.id, pseudo: l.pseudo, flaw: l.flaw}
	t.reserve(e.bytes())
	e.at = t.base + uint32(len(t.buf))
	if l.id == msg.Unknown && l.pseudo == None {
		t.buf = append(t.buf, l.name...)
	}
	t.buf = append(t.buf, l.value...)
	if t.n == len(t.ring) {
		t.widen()
	}
	t.ring[(t.head+t.n)&(len(t.ring)-1)] = e
	t.n++
	t.size += need
}

// resize changes the limit.
func (t *table) resize(limit int) {
	t.limit = limit
	t.shrink(limit)
}

// shrink drops the oldest lines until size is at most what is asked.
func (t *table) shrink(size int) {
	for t.n > 0 && t.size > size {
		e := &t.ring[t.head]
		t.size -= e.cost()
		t.from += e.bytes()
		t.head = (t.head + 1) & (len(t.ring) - 1)
		t.n--
	}
	if t.n == 0 {
		t.base += uint32(len(t.buf))
		t.buf, t.from = t.buf[:0], 0
	}
}

// reserve makes room for n bytes behind buf: by moving what is in use to its
// front when half of it is free, else by growing, so that each byte is moved
// but a few times.
func (t *table) reserve(n int) {
	if len(t.buf)+n <= cap(t.buf) {
		return
	}
	live := t.buf[t.from:]
	to := t.buf[:0]
	if len(live)+n > cap(t.buf)/2 && cap(t.buf) < 2*t.limit {
		to = make([]byte, 0, min(max(2*cap(t.buf), 2*(len(live)+n), 256), max(2*t.limit, len(live)+n)))
	}
	t.base += uint32(t.from)
	t.buf, t.from = append(to, live...), 0
}

func (t *table) widen() {
	ring := make([]entry, max(8, 2*len(t.ring)))
	for i := range t.n {
		ring[i] = t.ring[(t.head+i)&(len(t.ring)-1)]
	}
	t.ring, t.head = ring, 0
}
