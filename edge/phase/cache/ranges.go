package cache

import (
	"bytes"
	"cmp"
	"slices"

	"github.com/selvage-edge/selvage/wire/msg"
)

// stretch is a run of bytes of a body: from the first, to past the last.
type stretch struct{ from, to int64 }

func (s stretch) size() int64 { return s.to - s.from }

// maxRanges is how many parts a Range may ask for. What asks for more gets the
// whole, which a server may always send (RFC 9110 §14.2): a list of many small
// parts costs more to answer than the whole.
const maxRanges = 16

// asked is what a Range field asks of a body.
type asked struct {
	part
	n    int
	list [maxRanges]stretch // the first n; none overlaps or touches another
}

func (a *asked) parts() []stretch { return a.list[:a.n] }

// part says in which form a body is answered.
type part uint8

const (
	wholeBody     part = iota // no range, or none that is understood
	someParts                 // those of the list
	unsatisfiable             // all beyond the end
)

// readRanges reads a Range of a body of size bytes (RFC 9110 §14.1.2). Parts
// that overlap or touch become one. Other units, malformed ranges and more than
// maxRanges parts ask for the whole: a server may ignore them.
func readRanges(value []byte, size int64) asked {
	var a asked
	set, ok := rangeSet(value)
	if !ok {
		return a
	}
	specs, satisfied := 0, 0
	for more := true; more; {
		var text []byte
		text, set, more = bytes.Cut(set, []byte{','})
		if text = bytes.Trim(text, " \t"); len(text) == 0 {
			continue // RFC 9110 §5.6.1.2: empty elements are passed over
		}
		spec, ok := readSpec(text)
		if specs++; !ok || specs > maxRanges {
			return asked{}
		}
		if s, ok := spec.of(size); ok {
			a.list[satisfied] = s
			satisfied++
		}
	}
	switch {
	case specs == 0:
		return asked{}
	case satisfied == 0:
		return asked{part: unsatisfiable}
	}
	a.part = someParts
	// In the order asked for, unless parts are joined (RFC 9110 §15.3.7.2).
	ordered := a.list
	if a.n = len(joined(ordered[:satisfied])); a.n < satisfied {
		a.list = ordered
	}
	return a
}

// rangeSet cuts the unit off.
func rangeSet(value []byte) (set []byte, ok bool) {
	unit, set, ok := bytes.Cut(value, []byte{'='})
	return set, ok && msg.EqualFold(unit, "bytes")
}

// joined orders stretches and joins those that overlap or touch, in place.
func joined(list []stretch) []stretch {
	if len(list) < 2 {
		return list
	}
	slices.SortFunc(list, func(a, b stretch) int { return cmp.Compare(a.from, b.from) })
	out := list[:1]
	for _, s := range list[1:] {
		if last := &out[len(out)-1]; s.from <= last.to {
			last.to = max(last.to, s.to)
		} else {
			out = append(out, s)
		}
	}
	return out
}

// rangeSpec is one range as it is asked for.
type rangeSpec struct {
	from, to int64 // to is past the last byte, -1 = the end
	suffix   bool  // the last from bytes
}

// readSpec reads "first-last", "first-" or "-length".
func readSpec(text []byte) (rangeSpec, bool) {
	first, last, ok := bytes.Cut(text, []byte{'-'})
	if !ok {
		return rangeSpec{}, false
	}
	if len(first) == 0 {
		n, ok := readDigits(last, maxOffset)
		return rangeSpec{from: n, to: -1, suffix: true}, ok
	}
	from, ok := readDigits(first, maxOffset)
	if !ok || len(last) == 0 {
		return rangeSpec{from: from, to: -1}, ok
	}
	end, ok := readDigits(last, maxOffset)
	return rangeSpec{from: from, to: end + 1}, ok && end >= from
}

// of is the spec in a body of size bytes; false where it is beyond the end.
func (r rangeSpec) of(size int64) (stretch, bool) {
	switch {
	case r.suffix:
		n := min(r.from, size)
		return stretch{size - n, size}, n > 0
	case r.from >= size:
		return stretch{}, false
	case r.to < 0:
		return stretch{r.from, size}, true
	}
	return stretch{r.from, min(r.to, size)}, true
}

// maxOffset keeps sums of offsets within 64 bits.
const maxOffset = 1 << 56

// contentRange is a Content-Range of bytes (RFC 9110 §14.4).
type contentRange struct {
	stretch
	total int64 // -1 = not known
}

// readContentRange reads "bytes first-last/total"; not ok where it contradicts
// itself.
func readContentRange(value []byte) (c contentRange, ok bool) {
	unit, rest, ok := bytes.Cut(value, []byte{' '})
	if !ok || !msg.EqualFold(unit, "bytes") {
		return c, false
	}
	span, total, ok := bytes.Cut(rest, []byte{'/'})
	if !ok {
		return c, false
	}
	spec, ok := readSpec(span)
	if !ok || spec.suffix || spec.to < 0 {
		return c, false
	}
	c = contentRange{stretch{spec.from, spec.to}, -1}
	if string(total) == "*" {
		return c, true
	}
	c.total, ok = readDigits(total, maxOffset)
	return c, ok && c.total >= c.to
}
