package expr

import (
	"net/netip"
	"slices"
	"strconv"
)

func itoa(n int) string { return strconv.Itoa(n) }

// test is a compiled node.
type test func(Source) bool

func isConstant(n node) bool {
	switch n := n.(type) {
	case constant:
		return true
	case negation:
		return isConstant(n.of)
	case logic:
		return !slices.ContainsFunc(n.list, func(n node) bool { return !isConstant(n) })
	}
	return false
}

func compile(n node) test {
	switch n := n.(type) {
	case constant:
		if n {
			return func(Source) bool { return true }
		}
		return func(Source) bool { return false }
	case flag:
		field := n.value.field
		return func(src Source) bool { return src.Flag(field) }
	case negation:
		of := compile(n.of)
		return func(src Source) bool { return !of(src) }
	case logic:
		return n.compile()
	case compare:
		switch n.value.typ {
		case Number:
			return n.numbers()
		case Address:
			return n.addresses()
		}
		return n.text()
	}
	panic("expr: a node of unknown kind")
}

func (n *logic) compile() test {
	list := make([]test, len(n.list))
	for i := range n.list {
		list[i] = compile(n.list[i])
	}
	first, second := list[0], list[1]
	switch {
	case n.op == opAnd && len(list) == 2:
		return func(src Source) bool { return first(src) && second(src) }
	case n.op == opOr && len(list) == 2:
		return func(src Source) bool { return first(src) || second(src) }
	case n.op == opAnd:
		return func(src Source) bool {
			for _, t := range list {
				if !t(src) {
					return false
				}
			}
			return true
		}
	case n.op == opOr:
		return func(src Source) bool {
			for _, t := range list {
				if t(src) {
					return true
				}
			}
			return false
		}
	}
	return func(src Source) bool { // xor
		odd := false
		for _, t := range list {
			odd = odd != t(src)
		}
		return odd
	}
}

// text compiles a comparison of a text.
func (n *compare) text() test {
	field, t := n.value.field, &caseTables[n.value.cases]
	s := n.texts[0]
	b := []byte(s)
	switch n.op {
	case opEq:
		return func(src Source) bool { v := src.Text(field); return len(v) == len(s) && equal(v, s, t) }
	case opNe:
		return func(src Source) bool { v := src.Text(field); return len(v) != len(s) || !equal(v, s, t) }
	case opLt:
		return func(src Source) bool { return order(src.Text(field), s, t) < 0 }
	case opLe:
		return func(src Source) bool { return order(src.Text(field), s, t) <= 0 }
	case opGt:
		return func(src Source) bool { return order(src.Text(field), s, t) > 0 }
	case opGe:
		return func(src Source) bool { return order(src.Text(field), s, t) >= 0 }
	case opPrefix:
		return func(src Source) bool { v := src.Text(field); return len(v) >= len(s) && equal(v[:len(s)], s, t) }
	case opSuffix:
		return func(src Source) bool {
			v := src.Text(field)
			return len(v) >= len(s) && equal(v[len(v)-len(s):], s, t)
		}
	case opContains:
		if len(b) == 0 {
			return func(Source) bool { return true }
		}
		return func(src Source) bool { return index(src.Text(field), b, t) >= 0 }
	case opIn:
		return n.textSet()
	}
	pattern := newPattern(s, t, n.op == opStrict)
	return func(src Source) bool { return pattern.match(src.Text(field)) }
}

// few is how many members of a set are compared one by one.
const few = 8

func (n *compare) textSet() test {
	field, t := n.value.field, &caseTables[n.value.cases]
	if list := slices.Clone(n.texts); len(list) <= few {
		return func(src Source) bool {
			v := src.Text(field)
			for _, s := range list {
				if len(v) == len(s) && equal(v, s, t) {
					return true
				}
			}
			return false
		}
	}
	if n.value.cases == asIs {
		set := make(map[string]struct{}, len(n.texts))
		for _, s := range n.texts {
			set[s] = struct{}{}
		}
		return func(src Source) bool { _, in := set[string(src.Text(field))]; return in }
	}
	list := slices.Clone(n.texts)
	slices.Sort(list)
	return func(src Source) bool {
		v := src.Text(field)
		_, in := slices.BinarySearchFunc(list, v, func(s string, v []byte) int { return -order(v, s, t) })
		return in
	}
}

func (v *value) number() func(Source) int64 {
	field := v.field
	if v.len {
		return func(src Source) int64 { return int64(len(src.Text(field))) }
	}
	return func(src Source) int64 { return src.Number(field) }
}

func (n *compare) numbers() test {
	get := n.value.number()
	want := n.ranges[0].from
	switch n.op {
	case opEq:
		return func(src Source) bool { return get(src) == want }
	case opNe:
		return func(src Source) bool { return get(src) != want }
	case opLt:
		return func(src Source) bool { return get(src) < want }
	case opLe:
		return func(src Source) bool { return get(src) <= want }
	case opGt:
		return func(src Source) bool { return get(src) > want }
	case opGe:
		return func(src Source) bool { return get(src) >= want }
	}
	list := slices.Clone(n.ranges)
	return func(src Source) bool {
		v := get(src)
		for i := range list {
			if list[i].from <= v && v <= list[i].to {
				return true
			}
		}
		return false
	}
}

func (n *compare) addresses() test {
	field := n.value.field
	list := slices.Clone(n.prefixes)
	in := func(a netip.Addr) bool {
		a = a.Unmap()
		for i := range list {
			if list[i].Contains(a) {
				return true
			}
		}
		return false
	}
	if n.op == opNe {
		return func(src Source) bool { return !in(src.Addr(field)) }
	}
	return func(src Source) bool { return in(src.Addr(field)) }
}
