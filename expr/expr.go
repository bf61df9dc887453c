// Package expr is the rule language: Cloudflare's, as far as its table of
// fields goes. It promises that an expression that compiles cannot fail when
// it is asked, that asking allocates nothing, and that one that does not
// compile is refused with the column and what was expected there.
//
// Compile reads an expression into a tree (parse.go), whose every node has a
// type, and turns it into closures (compile.go). What there is to ask about is
// the table in field.go; who is asked implements Source by field number.
//
//	expression  = term { ("or" | "||") term }            weakest
//	term        = factor { ("xor" | "^^") factor }
//	factor      = unary { ("and" | "&&") unary }          strongest
//	unary       = ("not" | "!") unary | "(" expression ")" | comparison
//	comparison  = "true" | "false" | value [ operator literal ]
//	value       = field | function "(" arguments ")"
//	literal     = "text" | r"text" | r#"text"# | number | address | "{" list "}"
//
// A text compared by eq, ne, in, contains, lt … is compared byte by byte. With
// wildcard, "*" stands for any bytes and letters for both cases; with strict
// wildcard for one case. `\*` and `\\` in either are themselves.
package expr

import "fmt"

// Program is a compiled expression: immutable, safe for concurrent use.
type Program struct {
	ask      test
	constant bool
}

// Match evaluates the expression for src, which may be nil only where the
// expression names no field.
func (p *Program) Match(src Source) bool { return p.ask(src) }

// Constant reports an expression that has the same value for every source.
func (p *Program) Constant() (value, ok bool) {
	if !p.constant {
		return false, false
	}
	return p.ask(nil), true
}

// Limits on one expression.
const (
	MaxBytes = 4096 // as Cloudflare has it
	MaxDepth = 32   // parentheses and negations inside each other
)

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
	p := parser{src: src}
	n := p.whole()
	if p.err != nil {
		return nil, p.err
	}
	return &Program{ask: compile(n), constant: isConstant(n)}, nil
}
