package selvage_test

import (
	"go/ast"
	"go/token"
	"regexp"
	"strings"
	"testing"
)

// literalsIn returns the string literals of one folder's or file's code.
func literalsIn(t *testing.T, where string) []string {
	t.Helper()
	var texts []string
	for _, f := range goFiles(t) {
		if f.Test || (f.Dir != where && f.Path != where) {
			continue
		}
		ast.Inspect(f.AST, func(n ast.Node) bool {
			if _, ok := n.(*ast.ImportSpec); ok {
				return false
			}
			if e, ok := n.(ast.Expr); ok {
				if text := textOf(e); text != "" {
					texts = append(texts, text)
				}
			}
			return true
		})
	}
	return texts
}

// TestDocsAPI ties each route and error code to docs/reference/api.md.
func TestDocsAPI(t *testing.T) {
	doc := read(t, "docs/reference/api.md")
	route := regexp.MustCompile(`^(GET|POST|PUT|PATCH|DELETE) /\S+$`)
	routes := 0
	for _, text := range literalsIn(t, "control/api/v4") {
		if route.MatchString(text) {
			routes++
			if !strings.Contains(doc, "`"+text+"`") {
				t.Errorf("docs/reference/api.md does not tell of %s", text)
			}
		}
	}
	for _, text := range literalsIn(t, "control/api/selvage") {
		if strings.HasPrefix(text, "/") && text != "/" && !strings.HasPrefix(text, "/selvage") {
			routes++
			if !strings.Contains(doc, " "+text+"`") {
				t.Errorf("docs/reference/api.md does not tell of /selvage/v1%s", text)
			}
		}
	}
	if routes < 25 {
		t.Errorf("only %d routes found in control/api", routes)
	}
	codes := 0
	for _, f := range goFiles(t) {
		if f.Path != "control/api/errors.go" {
			continue
		}
		ast.Inspect(f.AST, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok || !strings.HasPrefix(spec.Names[0].Name, "Code") || len(spec.Values) != 1 {
				return true
			}
			if lit, ok := spec.Values[0].(*ast.BasicLit); ok && lit.Kind == token.INT {
				codes++
				if !regexp.MustCompile(`\b` + lit.Value + `\b`).MatchString(doc) {
					t.Errorf("docs/reference/api.md does not tell of error code %s (%s)", lit.Value, spec.Names[0].Name)
				}
			}
			return true
		})
	}
	if codes < 10 {
		t.Errorf("only %d error codes found in control/api/errors.go", codes)
	}
}

// TestDocsAccessLog ties the fields that telemetry renders to
// docs/reference/access-log.md: their names are fixed.
func TestDocsAccessLog(t *testing.T) {
	documented := map[string]bool{}
	for _, cells := range table(t, "docs/reference/access-log.md", "field", "type", "unit") {
		documented[backticked(cells[0])[0]] = true
	}
	raw := regexp.MustCompile(`"([a-z_]+)":`)
	word := regexp.MustCompile(`^[a-z_]{3,}$`)
	rendered := map[string]bool{}
	for _, text := range literalsIn(t, "telemetry/render.go") {
		if word.MatchString(text) {
			rendered[text] = true
		}
		for _, m := range raw.FindAllStringSubmatch(text, -1) {
			rendered[m[1]] = true
		}
	}
	for name := range rendered {
		if !documented[name] {
			t.Errorf("the access log has the field %s, which docs/reference/access-log.md does not tell of", name)
		}
	}
	for name := range documented {
		if !rendered[name] {
			t.Errorf("docs/reference/access-log.md tells of the field %s, which telemetry does not render", name)
		}
	}
}
