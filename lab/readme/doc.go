// Package readme runs the commands that the README and the first guide show,
// as they stand: what a newcomer pastes must work.
package readme
