package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// printList writes a listing: JSON with the API's names, or aligned columns.
func printList[T any](w io.Writer, asJSON bool, items []T, head []string, row func(T) []string) error {
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
		cells[i] = strings.Map(func(r rune) rune {
			if r < ' ' || r == 0x7f {
				return '�'
			}
			return r
		}, c)
	}
	return cells
}

func onOff(b bool) string {
	if b {
		return "on"
	}
	return "off"
}
