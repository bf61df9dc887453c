// Package tools drives Selvage with other people's programs, unmodified. It has
// a module of its own because they take minutes to compile. SELVAGE_BIN names
// the binary under test; without it, one is built.
package tools
