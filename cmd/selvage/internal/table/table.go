// Package table writes listings: for people in aligned columns, for programs as
// JSON. It promises that nothing in a cell moves the terminal's cursor.
package table

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"golang.org/x/sys/unix"
)

// Print writes a listing: JSON with the API's names, or aligned columns.
func Print[T any](w io.Writer, asJSON bool, items []T, head []string, row func(T) []string) error {
	if asJSON {
		enc := json.NewEncoder(w)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		if items == nil {
			items = []T{}
		}
		return enc.Encode(items)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, strings.Join(head, "\t"))
	for _, item := range items {
		fmt.Fprintln(t, strings.Join(printable(row(item)), "\t"))
	}
	return t.Flush()
}

// printable keeps what users wrote from moving the terminal's cursor.
func printable(cells []string) []string {
	for i, c := range cells {
		cells[i] = Line(c)
	}
	return cells
}

// Line is a text without what moves the terminal's cursor.
func Line(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '�'
		}
		return r
	}, text)
}

// TerminalSize returns the size of the terminal that w is, 0 and 0 when it is none.
func TerminalSize(w io.Writer) (rows, cols int) {
	f, ok := w.(*os.File)
	if !ok {
		return 0, 0
	}
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0, 0
	}
	if size.Row < 4 || size.Col < 20 { // one that does not know its size
		return 24, 80
	}
	return int(size.Row), int(size.Col)
}
