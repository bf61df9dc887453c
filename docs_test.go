package selvage_test

import (
	"cmp"
	"flag"
	"fmt"
	"go/ast"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/selvage-edge/selvage/zone"
)

var update = flag.Bool("update", false, "rewrite the generated parts of docs/")

func markdown(t *testing.T) []string {
	t.Helper()
	var files []string
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			return skipDir(name)
		}
		if strings.HasSuffix(name, ".md") {
			files = append(files, name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

var (
	link  = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	fence = regexp.MustCompile("(?s)```.*?```")
)

// TestDocsLinksResolve follows each relative link.
func TestDocsLinksResolve(t *testing.T) {
	for _, file := range markdown(t) {
		text := fence.ReplaceAllString(read(t, file), "")
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			target, _, _ := strings.Cut(m[1], "#")
			if target == "" || strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
				continue
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(file), target)); err != nil {
				t.Errorf("%s links to %s, which is not there", file, m[1])
			}
		}
	}
}

// TestDocsRootFiles wants the files that a reader of any repository looks for.
func TestDocsRootFiles(t *testing.T) {
	for _, name := range []string{
		"README.md", "ARCHITECTURE.md", "GLOSSARY.md", "STYLE.md", "ROADMAP.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "LICENSE",
		"docs/reference/access-log.md", "docs/reference/defaults.md", "docs/reference/api.md", "docs/reference/cli.md", "docs/reference/state.md",
		"docs/guide/first-site.md", "docs/guide/cache.md", "docs/operate/separate-hosts.md", "docs/operate/tiers.md", "docs/operate/storage.md",
		"docs/operate/relays.md", "docs/operate/backup.md", "docs/operate/alerts.md", "docs/benchmarks.md", "docs/conformance.md",
	} {
		if info, err := os.Stat(name); err != nil || info.Size() < 200 {
			t.Errorf("%s is missing or empty", name)
		}
	}
}

// TestDocsDependenciesHaveAReason ties go.mod to ADR 0005.
func TestDocsDependenciesHaveAReason(t *testing.T) {
	adr := read(t, "docs/adr/0005-dependencies.md")
	direct := regexp.MustCompile(`(?m)^\t(\S+) v\S+$`)
	found := direct.FindAllStringSubmatch(read(t, "go.mod"), -1)
	if len(found) == 0 {
		t.Fatal("go.mod names no direct dependency: the test reads lines of the form <tab>path version")
	}
	for _, m := range found {
		if !strings.Contains(adr, "`"+m[1]+"`") {
			t.Errorf("go.mod requires %s, but docs/adr/0005-dependencies.md does not say why we do not write it ourselves", m[1])
		}
	}
}

// TestDocsADRs wants each decision dated, and with the same four parts.
func TestDocsADRs(t *testing.T) {
	names, err := filepath.Glob("docs/adr/[0-9]*.md")
	if err != nil || len(names) == 0 {
		t.Fatalf("no ADR found (%v)", err)
	}
	for i, name := range names {
		if want := fmt.Sprintf("%04d-", i+1); !strings.HasPrefix(filepath.Base(name), want) {
			t.Errorf("%s: numbers have no gaps; want the prefix %s", name, want)
		}
		text := read(t, name)
		for _, part := range []string{"Date: 20", "## Context", "## Choice", "## Price", "## What would change our mind"} {
			if !strings.Contains(text, part) {
				t.Errorf("%s has no %q", name, part)
			}
		}
	}
}

// TestDocsSettings keeps docs/reference/settings.md as zone.SettingTable has it.
func TestDocsSettings(t *testing.T) {
	const file = "docs/reference/settings.md"
	var b strings.Builder
	b.WriteString("# Zone settings\n\nMade from `zone.SettingTable` by `make docs`. Read and changed under\n`/client/v4/zones/{id}/` at the path in the table, or all of them by name at\n`/selvage/v1/zones/{id}/settings/{name}`; the edge uses the same table. The default\nis the operator's where [he gives one](../operate/defaults.md), else this.\n\n| name | path | default | values | what it does |\n|---|---|---|---|---|\n")
	for _, s := range zone.SettingTable {
		values := fmt.Sprintf("%d to %d %s", s.Min, s.Max, s.Unit)
		if s.Values != nil {
			values = "`\"" + strings.Join(s.Values, "\"`, `\"") + "\"`"
		}
		if s.Object != nil {
			values = s.Unit
		}
		path := "`" + cmp.Or(s.Path, "settings/"+s.Name) + "`"
		if s.Path == zone.PathOurs {
			path = "–"
		}
		fmt.Fprintf(&b, "| `%s` | %s | `%s` | %s | %s |\n", s.Name, path, s.Default, values, s.Doc)
	}
	if *update {
		if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if read(t, file) != b.String() {
		t.Errorf("%s is not what zone.SettingTable says; run make docs", file)
	}
}

// TestDocsKill keeps docs/reference/kill.md as zone.KillTable has it.
func TestDocsKill(t *testing.T) {
	const file = "docs/reference/kill.md"
	var b strings.Builder
	b.WriteString("# Kill switches\n\nMade from `zone.KillTable` by `make docs`. Set and cleared by `selvage kill` or\nunder `/selvage/v1/kill/{name}`: [operating](../operate/kill.md).\n\n| name | while it is set |\n|---|---|\n")
	for _, s := range zone.KillTable {
		fmt.Fprintf(&b, "| `%s` | %s |\n", s.Name, s.Doc)
	}
	b.WriteString("| `zone/ID` | requests for that zone are answered 503 with a page that says so; its names resolve on, its certificate is served on |\n")
	if *update {
		if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if read(t, file) != b.String() {
		t.Errorf("%s is not what zone.KillTable says; run make docs", file)
	}
}

// pipelineRows returns the names of the rows in edge/pipeline.go, in order.
func pipelineRows(t *testing.T) map[string][]string {
	t.Helper()
	lists := map[string][]string{}
	for _, f := range goFiles(t) {
		if f.Path != "edge/pipeline.go" {
			continue
		}
		ast.Inspect(f.AST, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok || len(spec.Values) != 1 || !strings.HasPrefix(spec.Names[0].Name, "on") {
				return true
			}
			if list, ok := spec.Values[0].(*ast.CompositeLit); ok {
				lists[spec.Names[0].Name] = rowNames(list)
			}
			return true
		})
	}
	if len(lists["onRequest"]) == 0 {
		t.Fatal("edge/pipeline.go has no var onRequest = []row{…}: it is the design, and this test reads it")
	}
	return lists
}

func rowNames(list *ast.CompositeLit) []string {
	var names []string
	for _, e := range list.Elts {
		row, ok := e.(*ast.CompositeLit)
		if !ok || len(row.Elts) == 0 {
			continue
		}
		first := row.Elts[0]
		if kv, ok := first.(*ast.KeyValueExpr); ok {
			first = kv.Value
		}
		if name := textOf(first); name != "" {
			names = append(names, name)
		}
	}
	return names
}

// TestPipelineRowsAreDocumented ties each row to its line in ARCHITECTURE.md,
// in the same order, and to a benchmark and a fuzz target in its folder.
func TestPipelineRowsAreDocumented(t *testing.T) {
	documented := table(t, "ARCHITECTURE.md", "row", "list", "folder")
	lists := pipelineRows(t)
	for _, name := range slices.Sorted(maps.Keys(lists)) {
		var inDoc []string
		for _, cells := range documented {
			if backticked(cells[1])[0] == name {
				inDoc = append(inDoc, backticked(cells[0])[0])
			}
		}
		if !slices.Equal(inDoc, lists[name]) {
			t.Errorf("edge/pipeline.go has %s = %v, ARCHITECTURE.md's table of rows has %v: the two tell the same order", name, lists[name], inDoc)
		}
	}
	for _, cells := range documented {
		row, folder := backticked(cells[0])[0], backticked(cells[2])[0]
		if !hasTest(t, folder, "Benchmark") {
			t.Errorf("row %s: %s has no benchmark: what every request pays for is measured", row, folder)
		}
		if !hasTest(t, folder, "Fuzz") {
			t.Errorf("row %s: %s has no fuzz target: each row sees what strangers send", row, folder)
		}
	}
}

func hasTest(t *testing.T, folder, prefix string) bool {
	for _, f := range goFiles(t) {
		if f.Dir != folder || !f.Test {
			continue
		}
		for _, d := range f.AST.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && strings.HasPrefix(fn.Name.Name, prefix) {
				return true
			}
		}
	}
	return false
}

// TestDocsMetrics keeps docs/reference/metrics.md as the code has it.
func TestDocsMetrics(t *testing.T) {
	const file = "docs/reference/metrics.md"
	metrics := metricsInCode(t)
	if len(metrics) < 10 {
		t.Fatalf("only %d metrics found in the code", len(metrics))
	}
	var b strings.Builder
	b.WriteString("# Metrics\n\nPrometheus text at `/metrics` of each edge's metrics address and of control's\nAPI address. Go and process metrics are there as well. Made from the code by\n`make docs`.\n\n| name | what |\n|---|---|\n")
	for _, name := range slices.Sorted(maps.Keys(metrics)) {
		fmt.Fprintf(&b, "| `%s` | %s |\n", name, metrics[name])
	}
	if *update {
		if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if read(t, file) != b.String() {
		t.Errorf("%s is not what the code makes; run make docs", file)
	}
}

var metricName = regexp.MustCompile(`^selvage_[a-z0-9_]+$`)

// metricsInCode returns name and help of each metric: the two strings that
// follow each other in a call or stand as Name and Help in a literal.
func metricsInCode(t *testing.T) map[string]string {
	metrics := map[string]string{}
	for _, f := range goFiles(t) {
		if f.Test || !program(f) {
			continue
		}
		ast.Inspect(f.AST, func(n ast.Node) bool {
			var parts []ast.Expr
			switch n := n.(type) {
			case *ast.CallExpr:
				parts = n.Args
			case *ast.CompositeLit:
				for _, e := range n.Elts {
					if kv, ok := e.(*ast.KeyValueExpr); ok {
						e = kv.Value
					}
					parts = append(parts, e)
				}
			}
			for i, e := range parts {
				name := textOf(e)
				if !metricName.MatchString(name) {
					continue
				}
				help := ""
				if i+1 < len(parts) {
					help = textOf(parts[i+1])
				}
				if help == "" {
					t.Errorf("%s: metric %s has no help text right after its name: docs/reference/metrics.md is made from it", f.at(e), name)
				}
				metrics[name] = help
			}
			return true
		})
	}
	return metrics
}

// textOf returns the value of a string literal, "" for anything else.
func textOf(e ast.Expr) string {
	lit, ok := e.(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return ""
	}
	text, _ := strconv.Unquote(lit.Value)
	return text
}
