package msg

import "bytes"

// Field is one header or trailer line. Its bytes are borrowed from whoever
// parsed or made it: see the lifetimes at Request and Response.
type Field struct {
	Name  []byte // as received; compare with ID or EqualFold
	Value []byte // without surrounding white space
	ID    ID     // Unknown when the name is not in the table
}

// Fields is an ordered list of field lines. A bit set of the known names in
// it makes the common question, "is there a Range?", one test. The zero value
// is an empty list. Not safe for concurrent writers; readers may share it.
type Fields struct {
	list []Field
	has  [2]uint64
}

// Reset empties the list and keeps its memory.
func (f *Fields) Reset() { f.list, f.has = f.list[:0], [2]uint64{} }

// Len returns the number of field lines.
func (f *Fields) Len() int { return len(f.list) }

// At returns the i-th field line, in the order received.
func (f *Fields) At(i int) *Field { return &f.list[i] }

// All returns the field lines in order; the slice is the list's own memory.
func (f *Fields) All() []Field { return f.list }

// Has reports whether a line with this known name is present.
func (f *Fields) Has(id ID) bool { return f.has[id>>6]&(1<<(id&63)) != 0 }

// Get returns the first value of a known name, nil when absent.
func (f *Fields) Get(id ID) []byte {
	if !f.Has(id) {
		return nil
	}
	for i := range f.list {
		if f.list[i].ID == id {
			return f.list[i].Value
		}
	}
	return nil
}

// Count returns how many lines carry a known name.
func (f *Fields) Count(id ID) int {
	if !f.Has(id) {
		return 0
	}
	n := 0
	for i := range f.list {
		if f.list[i].ID == id {
			n++
		}
	}
	return n
}

// Lookup returns the first value of any name, compared without case.
func (f *Fields) Lookup(name string) []byte {
	if id := Known(name); id != Unknown {
		return f.Get(id)
	}
	for i := range f.list {
		if f.list[i].ID == Unknown && EqualFold(f.list[i].Name, name) {
			return f.list[i].Value
		}
	}
	return nil
}

// Add appends a line as received and recognises its name.
func (f *Fields) Add(name, value []byte) {
	f.list = append(f.list, Field{Name: name, Value: value, ID: Known(name)})
	f.mark(f.list[len(f.list)-1].ID)
}

// AddID appends a line with a known name in its canonical spelling.
func (f *Fields) AddID(id ID, value []byte) {
	f.list = append(f.list, Field{Name: id.Bytes(), Value: value, ID: id})
	f.mark(id)
}

// AddField appends a line that was recognised before.
func (f *Fields) AddField(l Field) {
	f.list = append(f.list, l)
	f.mark(l.ID)
}

// Set replaces all lines of a known name by one.
func (f *Fields) Set(id ID, value []byte) {
	if f.Has(id) {
		f.Del(id)
	}
	f.AddID(id, value)
}

// Del removes all lines of a known name.
func (f *Fields) Del(id ID) {
	if !f.Has(id) {
		return
	}
	f.DelFunc(func(l *Field) bool { return l.ID == id })
}

// DelFunc removes the lines for which drop answers true, keeping the order.
func (f *Fields) DelFunc(drop func(*Field) bool) {
	kept := f.list[:0]
	f.has = [2]uint64{}
	for i := range f.list {
		if !drop(&f.list[i]) {
			kept = append(kept, f.list[i])
			f.mark(f.list[i].ID)
		}
	}
	clear(f.list[len(kept):])
	f.list = kept
}

func (f *Fields) mark(id ID) {
	if id != Unknown {
		f.has[id>>6] |= 1 << (id & 63)
	}
}

// CopyTo appends all lines to dst, their bytes copied by alloc into memory
// that dst's owner controls; known names are shared, not copied.
func (f *Fields) CopyTo(dst *Fields, alloc func([]byte) []byte) {
	for i := range f.list {
		l := f.list[i]
		if l.ID != Unknown {
			l.Name = l.ID.Bytes()
		} else {
			l.Name = alloc(l.Name)
		}
		l.Value = alloc(l.Value)
		dst.AddField(l)
	}
}

// EqualFold compares ASCII without case; b must not contain non-ASCII letters.
func EqualFold[T ~string | ~[]byte](a []byte, b T) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c | 0x20
	}
	return c
}

// NextToken cuts the next element of a comma-separated list value (RFC 9110
// §5.6.1), quoted strings respected; empty elements are passed over. It
// returns nil, nil at the end.
func NextToken(list []byte) (token, rest []byte) {
	for {
		list = bytes.TrimLeft(list, " \t,")
		if len(list) == 0 {
			return nil, nil
		}
		end, quoted := 0, false
	scan:
		for ; end < len(list); end++ {
			switch c := list[end]; {
			case quoted && c == '\\':
				end++
			case c == '"':
				quoted = !quoted
			case c == ',' && !quoted:
				break scan
			}
		}
		end = min(end, len(list))
		token, rest = bytes.TrimRight(list[:end], " \t"), list[end:]
		if len(token) > 0 {
			return token, rest
		}
		list = rest
	}
}

// HasToken reports whether any line of a known name lists the token,
// compared without case.
func (f *Fields) HasToken(id ID, token string) bool {
	if !f.Has(id) {
		return false
	}
	for i := range f.list {
		if f.list[i].ID != id {
			continue
		}
		for t, rest := NextToken(f.list[i].Value); t != nil; t, rest = NextToken(rest) {
			if EqualFold(t, token) {
				return true
			}
		}
	}
	return false
}
