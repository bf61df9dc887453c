package expr

import (
	"bytes"
	"strings"
)

// text reads a literal in quotes. In "…" a backslash makes the next quote or
// backslash itself, \xHH a byte; r"…" and r#"…"# are as written.
func (p *parser) text() string {
	p.space()
	if p.err != nil {
		return ""
	}
	at := p.at
	if strings.HasPrefix(p.src[at:], `"`) {
		p.at++
		return p.quoted(at)
	}
	hashes := 0
	for rest := p.src[at:]; 1+hashes < len(rest) && rest[0] == 'r' && rest[1+hashes] == '#'; {
		hashes++
	}
	open := "r" + strings.Repeat("#", hashes) + `"`
	if hashes > 16 || !strings.HasPrefix(p.src[at:], open) {
		p.fail(at, "a text in double quotes")
		return ""
	}
	body, rest, found := strings.Cut(p.src[at+len(open):], `"`+strings.Repeat("#", hashes))
	if !found {
		p.fail(len(p.src), `the end of the text that begins at column `+itoa(at+1))
		return ""
	}
	p.at = len(p.src) - len(rest)
	return body
}

// quoted reads up to the closing quote; at is where the opening one stands.
func (p *parser) quoted(at int) string {
	var b strings.Builder
	for p.at < len(p.src) {
		c := p.src[p.at]
		p.at++
		switch {
		case c == '"':
			return b.String()
		case c != '\\':
			b.WriteByte(c)
			continue
		}
		rest := p.src[p.at:]
		switch {
		case len(rest) > 0 && (rest[0] == '"' || rest[0] == '\\'):
			b.WriteByte(rest[0])
			p.at++
		case len(rest) > 2 && rest[0] == 'x' && unhex(rest[1]) < 16 && unhex(rest[2]) < 16:
			b.WriteByte(unhex(rest[1])<<4 | unhex(rest[2]))
			p.at += 3
		default:
			p.fail(p.at-1, `\", \\ or \xHH; r"…" is taken as it is`)
			return ""
		}
	}
	p.fail(len(p.src), `the end of the text that begins at column `+itoa(at+1))
	return ""
}

// unhex returns the value of a hexadecimal digit, 16 for what is none.
func unhex(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c|0x20 && c|0x20 <= 'f':
		return c | 0x20 - 'a' + 10
	}
	return 16
}

// caseTables maps bytes as lower() and upper() do; only ASCII letters change.
var caseTables = func() (t [3][256]byte) {
	for i := range 256 {
		c := byte(i)
		t[asIs][i], t[lower][i], t[upper][i] = c, c, c
		if 'A' <= c && c <= 'Z' {
			t[lower][i] = c + 'a' - 'A'
		}
		if 'a' <= c && c <= 'z' {
			t[upper][i] = c - 'a' + 'A'
		}
	}
	return t
}()

// equal reports whether b, mapped by t, is s; of the same length.
func equal(b []byte, s string, t *[256]byte) bool {
	for i := range b {
		if t[b[i]] != s[i] {
			return false
		}
	}
	return true
}

// order compares b, mapped by t, with s byte by byte.
func order(b []byte, s string, t *[256]byte) int {
	for i := range min(len(b), len(s)) {
		if c := t[b[i]]; c != s[i] {
			return int(c) - int(s[i])
		}
	}
	return len(b) - len(s)
}

// index returns where s begins in b mapped by t, -1 where it does not. s is
// not empty.
func index(b, s []byte, t *[256]byte) int {
	if t == &caseTables[asIs] {
		return bytes.Index(b, s)
	}
	for i := 0; i+len(s) <= len(b); i++ {
		if t[b[i]] == s[0] && equalBytes(b[i:i+len(s)], s, t) {
			return i
		}
	}
	return -1
}

func equalBytes(b, s []byte, t *[256]byte) bool {
	for i := range b {
		if t[b[i]] != s[i] {
			return false
		}
	}
	return true
}

// pattern is a wildcard cut at its stars: what is matched begins with the
// first part, ends with the last, and has the others between them in order.
type pattern struct {
	parts [][]byte
	least int // bytes of all parts
	table *[256]byte
}

// checkWildcard says what is wrong with a wildcard pattern, "" when nothing is.
func checkWildcard(s string) string {
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\' && i+1 < len(s) && (s[i+1] == '*' || s[i+1] == '\\'):
			i++
		case s[i] == '\\':
			return `a wildcard in which \ is followed by * or \`
		case s[i] == '*' && i+1 < len(s) && s[i+1] == '*':
			return "a wildcard without two * in a row"
		}
	}
	return ""
}

// newPattern cuts a wildcard that checkWildcard accepts, for texts mapped by t.
// Where both cases are one, parts and text are mapped to lower case instead.
func newPattern(s string, t *[256]byte, strict bool) *pattern {
	p := &pattern{table: t}
	part := []byte{}
	for i := 0; i < len(s); i++ {
		if s[i] == '*' {
			p.parts = append(p.parts, part)
			part = []byte{}
			continue
		}
		if s[i] == '\\' {
			i++
		}
		c := s[i]
		if !strict {
			c = caseTables[lower][c]
		}
		part = append(part, c)
	}
	p.parts = append(p.parts, part)
	if !strict {
		p.table = &caseTables[lower]
	}
	for _, part := range p.parts {
		p.least += len(part)
	}
	return p
}

func (p *pattern) match(b []byte) bool {
	first, last := p.parts[0], p.parts[len(p.parts)-1]
	switch {
	case len(p.parts) == 1:
		return len(b) == len(first) && equalBytes(b, first, p.table)
	case len(b) < p.least, !equalBytes(b[:len(first)], first, p.table), !equalBytes(b[len(b)-len(last):], last, p.table):
		return false
	}
	b = b[len(first) : len(b)-len(last)]
	for _, part := range p.parts[1 : len(p.parts)-1] {
		if len(part) == 0 {
			continue
		}
		at := index(b, part, p.table)
		if at < 0 {
			return false
		}
		b = b[at+len(part):]
	}
	return true
}
