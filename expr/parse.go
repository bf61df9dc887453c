package expr

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// node is a part of an expression that is true or false.
type node interface{ isNode() }

type (
	constant bool
	flag     struct{ value value } // of type Bool
	negation struct{ of node }
	logic    struct {
		op   logicOp
		list []node // at least two
	}
	// compare is a value beside what it is compared with: texts, ranges or
	// prefixes by the value's type; one, or more after "in".
	compare struct {
		value    value
		op       compareOp
		texts    []string
		ranges   []numberRange
		prefixes []netip.Prefix
	}
)

func (constant) isNode() {}
func (flag) isNode()     {}
func (negation) isNode() {}
func (logic) isNode()    {}
func (compare) isNode()  {}

type logicOp uint8

const (
	opOr logicOp = iota // in order of strength
	opXor
	opAnd
)

var logicNames = [...][2]string{opOr: {"or", "||"}, opXor: {"xor", "^^"}, opAnd: {"and", "&&"}}

type compareOp uint8

const (
	opEq compareOp = iota
	opNe
	opLt
	opLe
	opGt
	opGe
	opContains
	opIn
	opWildcard
	opStrict
	opPrefix // starts_with
	opSuffix // ends_with
)

// value is a field, or functions of one.
type value struct {
	typ   Type
	field Field
	cases caseFold // of a text
	len   bool     // the length of the text; typ is Number then
}

type caseFold uint8

const (
	asIs caseFold = iota
	lower
	upper
)

type numberRange struct{ from, to int64 }

// parser reads one expression. The first failure is kept and ends all loops.
type parser struct {
	src   string
	at    int
	depth int
	err   error
}

func (p *parser) whole() node {
	n := p.expression(opOr)
	if p.space(); p.err == nil && p.at < len(p.src) {
		p.fail(p.at, "and, or, xor or the end")
	}
	return n
}

// fail notes the first thing that is wrong, at byte at.
func (p *parser) fail(at int, expected string) {
	if p.err != nil {
		return
	}
	found := "nothing"
	if at < len(p.src) {
		found = strconv.Quote(p.token(at))
	}
	p.err = &SyntaxError{at + 1, expected, found}
}

// token is the word or sign at byte at, for a message.
func (p *parser) token(at int) string {
	end := at
	for end < len(p.src) && isWord(p.src[end]) {
		end++
	}
	return p.src[at:min(max(end, at+1), at+40)]
}

func (p *parser) space() {
	for p.at < len(p.src) && strings.IndexByte(" \t\r\n", p.src[p.at]) >= 0 {
		p.at++
	}
}

// sign takes punctuation if it comes next.
func (p *parser) sign(s string) bool {
	p.space()
	if p.err != nil || !strings.HasPrefix(p.src[p.at:], s) {
		return false
	}
	p.at += len(s)
	return true
}

// word takes a whole word if it comes next.
func (p *parser) word(w string) bool {
	p.space()
	if p.err != nil || p.peekWord() != w {
		return false
	}
	p.at += len(w)
	return true
}

func (p *parser) peekWord() string {
	end := p.at
	for end < len(p.src) && isWord(p.src[end]) {
		end++
	}
	return p.src[p.at:end]
}

func isWord(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' || c == '.'
}

// expression reads operands joined by op, each made of stronger operators.
func (p *parser) expression(op logicOp) node {
	operand := func() node {
		if op == opAnd {
			return p.unary()
		}
		return p.expression(op + 1)
	}
	list := []node{operand()}
	for p.err == nil && (p.word(logicNames[op][0]) || p.sign(logicNames[op][1])) {
		list = append(list, operand())
	}
	if len(list) == 1 {
		return list[0]
	}
	return logic{op, list}
}

func (p *parser) unary() node {
	p.space()
	at := p.at
	if p.depth++; p.depth > MaxDepth {
		p.fail(at, fmt.Sprintf("at most %d levels of parentheses and negations", MaxDepth))
	}
	defer func() { p.depth-- }()
	switch {
	case p.err != nil:
		return constant(false)
	case p.word("not"):
		return negation{p.unary()}
	case strings.HasPrefix(p.src[p.at:], "!") && !strings.HasPrefix(p.src[p.at:], "!="):
		p.at++
		return negation{p.unary()}
	case p.sign("("):
		n := p.expression(opOr)
		if !p.sign(")") {
			p.fail(p.at, `and, or, xor or ")"`)
		}
		return n
	}
	return p.comparison()
}

func (p *parser) comparison() node {
	if p.word("true") {
		return constant(true)
	}
	if p.word("false") {
		return constant(false)
	}
	at := p.at
	name := p.peekWord()
	if op, ok := affixes[name]; ok {
		return p.affix(name, op)
	}
	v := p.value(at, `a field such as http.host, a function, true, false, not or "("`)
	if p.err != nil {
		return constant(false)
	}
	if v.typ == Bool {
		return p.boolean(v)
	}
	c := compare{value: v, op: p.operator(v.typ)}
	p.operand(&c)
	return c
}

// boolean is a flag alone, or compared with true or false.
func (p *parser) boolean(v value) node {
	equal := p.sign("==") || p.word("eq")
	if !equal && !p.sign("!=") && !p.word("ne") {
		return flag{v}
	}
	switch {
	case p.word("true"):
	case p.word("false"):
		equal = !equal
	default:
		p.fail(p.at, "true or false")
	}
	if equal {
		return flag{v}
	}
	return negation{flag{v}}
}

const aText = "a text field such as http.host"

var affixes = map[string]compareOp{"starts_with": opPrefix, "ends_with": opSuffix}

// affix reads starts_with(value, "text") and its twin.
func (p *parser) affix(name string, op compareOp) node {
	p.at += len(name)
	p.open(name)
	p.space()
	at := p.at
	c := compare{op: op, value: p.value(at, aText)}
	if p.err == nil && c.value.typ != Text {
		p.fail(at, aText)
	}
	if !p.sign(",") {
		p.fail(p.at, `","`)
	}
	c.texts = []string{p.text()}
	p.shut()
	return c
}

func (p *parser) open(name string) {
	if !p.sign("(") {
		p.fail(p.at, `"(" after `+name)
	}
}

func (p *parser) shut() {
	if !p.sign(")") {
		p.fail(p.at, `")"`)
	}
}

// value reads a field or a function that starts at byte at.
func (p *parser) value(at int, expected string) value {
	if p.err != nil {
		return value{}
	}
	name := p.peekWord()
	switch name {
	case "lower", "upper", "len":
		return p.function(name)
	}
	f, ok := byName[name]
	if !ok {
		p.fail(at, expected)
		return value{}
	}
	p.at += len(name)
	return value{typ: f.Type(), field: f}
}

// function reads lower(text), upper(text) and len(text).
func (p *parser) function(name string) value {
	if p.depth++; p.depth > MaxDepth {
		p.fail(p.at, fmt.Sprintf("at most %d levels of parentheses and negations", MaxDepth))
	}
	defer func() { p.depth-- }()
	p.at += len(name)
	p.open(name)
	p.space()
	at := p.at
	v := p.value(at, aText)
	if p.err == nil && v.typ != Text {
		p.fail(at, aText)
	}
	p.shut()
	switch name {
	case "lower":
		v.cases = lower
	case "upper":
		v.cases = upper
	case "len":
		v.len, v.typ = true, Number
	}
	return v
}

// operators lists what may stand between a value and a literal; longer signs
// first.
var operators = []struct {
	word, sign string
	op         compareOp
	types      []Type
}{
	{"eq", "==", opEq, []Type{Text, Number, Address}},
	{"ne", "!=", opNe, []Type{Text, Number, Address}},
	{"le", "<=", opLe, []Type{Text, Number}},
	{"ge", ">=", opGe, []Type{Text, Number}},
	{"lt", "<", opLt, []Type{Text, Number}},
	{"gt", ">", opGt, []Type{Text, Number}},
	{"in", "", opIn, []Type{Text, Number, Address}},
	{"contains", "", opContains, []Type{Text}},
	{"wildcard", "", opWildcard, []Type{Text}},
	{"strict", "", opStrict, []Type{Text}},
}

func (p *parser) operator(t Type) compareOp {
	for _, o := range operators {
		allowed := false
		for _, typ := range o.types {
			allowed = allowed || typ == t
		}
		if !allowed || !p.word(o.word) && (o.sign == "" || !p.sign(o.sign)) {
			continue
		}
		if o.op == opStrict && !p.word("wildcard") {
			p.fail(p.at, "wildcard after strict")
		}
		return o.op
	}
	switch t {
	case Text:
		p.fail(p.at, "eq, ne, lt, le, gt, ge, contains, in, wildcard or strict wildcard")
	case Number:
		p.fail(p.at, "eq, ne, lt, le, gt, ge or in")
	default:
		p.fail(p.at, "eq, ne or in")
	}
	return 0
}

// operand reads the right side of a comparison.
func (p *parser) operand(c *compare) {
	if c.op != opIn {
		p.literal(c)
		return
	}
	if !p.sign("{") {
		p.fail(p.at, `"{"`)
	}
	for p.err == nil {
		p.literal(c)
		if p.sign("}") {
			return
		}
	}
}

// literal reads one literal of the value's type and adds it to the comparison.
func (p *parser) literal(c *compare) {
	p.space()
	if p.err != nil {
		return
	}
	switch c.value.typ {
	case Text:
		at := p.at
		s := p.text()
		if c.op == opWildcard || c.op == opStrict {
			if err := checkWildcard(s); err != "" {
				p.fail(at, err)
			}
		}
		c.texts = append(c.texts, s)
	case Number:
		c.ranges = append(c.ranges, p.numbers(c.op == opIn))
	case Address:
		c.prefixes = append(c.prefixes, p.address(c.op == opIn))
	}
}

// numbers reads 80, and in a list 8000..8010 too.
func (p *parser) numbers(list bool) numberRange {
	at := p.at
	w := p.peekWord()
	if strings.HasPrefix(p.src[p.at:], "-") {
		p.at++
		w = "-" + p.peekWord()
		p.at--
	}
	first, last, isRange := strings.Cut(w, "..")
	from, err := strconv.ParseInt(first, 10, 64)
	to := from
	if err == nil && isRange {
		to, err = strconv.ParseInt(last, 10, 64)
	}
	switch {
	case err != nil || first[0] == '+' || isRange && !list:
		p.fail(at, "a whole number")
	case to < from:
		p.fail(at, "a range that begins with its smaller number")
	}
	p.at += len(w)
	return numberRange{from, to}
}

// address reads 192.0.2.1 or 2001:db8::1, and in a list networks in CIDR form.
func (p *parser) address(list bool) netip.Prefix {
	at, end := p.at, p.at
	for end < len(p.src) && (isWord(p.src[end]) || p.src[end] == ':' || p.src[end] == '/') {
		end++
	}
	w := p.src[at:end]
	if addr, err := netip.ParseAddr(w); err == nil {
		p.at = end
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen())
	}
	prefix, err := netip.ParsePrefix(w)
	switch {
	case err != nil && list:
		p.fail(at, "an IP address or a network such as 192.0.2.0/24")
	case err != nil || !list:
		p.fail(at, "an IP address; networks stand in a list, as in {192.0.2.0/24}")
	}
	p.at = end
	return prefix.Masked()
}
