// Package expr is the rule language. Today it knows the boolean literals, which
// is all that an entrypoint may use; fields, functions and operators join the
// same Compile and Source.
package expr

import (
	"fmt"
	"strings"
)

// Source answers what an expression asks of the thing being judged: a
// request, a query or a handshake.
type Source any

// Program is a compiled expression: immutable, safe for concurrent use.
type Program struct{ value bool }

// Match evaluates the expression.
func (p *Program) Match(Source) bool { return p.value }

// MaxBytes is the longest expression accepted.
const MaxBytes = 4096

// SyntaxError points at the column (from 1, in bytes) where an expression
// stops making sense, and says what was expected.
type SyntaxError struct {
	Column   int
	Expected string
	Found    string
}

func (e *SyntaxError) Error() string {
	return fmt.Sprintf("column %d: expected %s, found %s", e.Column, e.Expected, e.Found)
}

// Compile checks and compiles an expression. The only error is a *SyntaxError.
func Compile(src string) (*Program, error) {
	if len(src) > MaxBytes {
		return nil, &SyntaxError{MaxBytes + 1, fmt.Sprintf("at most %d bytes", MaxBytes), fmt.Sprintf("%d", len(src))}
	}
	text := strings.TrimLeft(src, " \t\r\n")
	column := len(src) - len(text) + 1
	word := strings.TrimRight(text, " \t\r\n")
	switch word {
	case "true":
		return &Program{value: true}, nil
	case "false":
		return &Program{value: false}, nil
	case "":
		return nil, &SyntaxError{column, "true or false", "nothing"}
	}
	return nil, &SyntaxError{column, "true or false", fmt.Sprintf("%q", word)}
}
