package selvage_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// table returns the cells of each row of the Markdown table in file whose
// head has these columns among its own.
func table(t *testing.T, file string, columns ...string) [][]string {
	t.Helper()
	var rows [][]string
	inside := false
	for line := range strings.Lines(read(t, file)) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "|") {
			inside = false
			continue
		}
		cells := cellsOf(line)
		switch {
		case inside && strings.Trim(cells[0], "-: ") != "":
			rows = append(rows, cells)
		case !inside:
			inside = !slices.ContainsFunc(columns, func(c string) bool { return !slices.Contains(cells, c) })
		}
	}
	if len(rows) == 0 {
		t.Fatalf("%s has no table with the columns %s", file, strings.Join(columns, ", "))
	}
	return rows
}

func cellsOf(line string) []string {
	cells := strings.Split(strings.Trim(line, "|"), "|")
	for i := range cells {
		cells[i] = strings.TrimSpace(cells[i])
	}
	return cells
}

var backtick = regexp.MustCompile("`([^`]+)`")

// backticked returns what stands in backticks.
func backticked(cell string) []string {
	var names []string
	for _, m := range backtick.FindAllStringSubmatch(cell, -1) {
		names = append(names, m[1])
	}
	return names
}
