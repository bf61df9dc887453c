// Package must ends the program when an invariant of our own is broken. It is
// never used on input.
package must

// That panics with what when ok is false.
func That(ok bool, what string) {
	if !ok {
		panic("broken invariant: " + what)
	}
}
