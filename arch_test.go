// Package selvage_test holds the house tests: what this repository says about
// itself, checked against its own source. They read the files as they are, so
// a change anywhere counts; `make test` runs them with -count=1.
package selvage_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

const modulePath = "github.com/selvage-edge/selvage"

// goFile is one parsed source file of this module.
type goFile struct {
	Path  string // from the root, slashes
	Dir   string
	Test  bool
	Lines int
	Fset  *token.FileSet
	AST   *ast.File
}

// imports returns the folders of this repository that the file imports.
func (f *goFile) imports() []string {
	var dirs []string
	for _, spec := range f.AST.Imports {
		name, _ := strconv.Unquote(spec.Path.Value)
		if dir, ok := strings.CutPrefix(name, modulePath+"/"); ok {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

func (f *goFile) importsPackage(name string) bool {
	return slices.ContainsFunc(f.AST.Imports, func(spec *ast.ImportSpec) bool { return spec.Path.Value == strconv.Quote(name) })
}

func (f *goFile) at(n ast.Node) string {
	return f.Path + ":" + strconv.Itoa(f.Fset.Position(n.Pos()).Line)
}

// goFiles parses each Go file of this module, once. Folders with a go.mod of
// their own, build output and test data are not part of it.
func goFiles(t *testing.T) []*goFile {
	t.Helper()
	files, err := parseTree()
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 20 {
		t.Fatalf("only %d Go files found: is the test running at the root of the repository?", len(files))
	}
	return files
}

var parseTree = sync.OnceValues(func() ([]*goFile, error) {
	var files []*goFile
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			return skipDir(name)
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		src, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		fset := token.NewFileSet()
		parsed, err := parser.ParseFile(fset, name, src, parser.ParseComments)
		if err != nil {
			return err
		}
		slash := filepath.ToSlash(name)
		files = append(files, &goFile{
			Path: slash, Dir: path.Dir(slash), Test: strings.HasSuffix(name, "_test.go"),
			Lines: strings.Count(string(src), "\n"), Fset: fset, AST: parsed,
		})
		return nil
	})
	return files, err
})

func skipDir(name string) error {
	if name == "." {
		return nil
	}
	switch path.Base(filepath.ToSlash(name)) {
	case ".git", ".state", "bin", "build", "share", "node_modules", "testdata":
		return filepath.SkipDir
	}
	if _, err := os.Stat(filepath.Join(name, "go.mod")); err == nil {
		return filepath.SkipDir
	}
	return nil
}

// houseRow is one line of the table in ARCHITECTURE.md.
type houseRow struct {
	Folder   string   // without the final slash; "edge/phase/<x>" stands for each folder below edge/phase
	May      []string // folders; "edge/*" means everything below
	Anything bool
	Exact    bool // folders below have rows of their own
}

// house reads the table: it is the source, this test only obeys it.
func house(t *testing.T) []houseRow {
	t.Helper()
	var rows []houseRow
	for _, cells := range table(t, "ARCHITECTURE.md", "folder", "may import") {
		for _, folder := range backticked(cells[0]) {
			rows = append(rows, houseRow{
				Folder:   strings.TrimSuffix(folder, "/"),
				May:      backticked(cells[2]),
				Anything: strings.Contains(cells[2], "anything"),
			})
		}
	}
	if len(rows) < 15 {
		t.Fatalf("the table of the house in ARCHITECTURE.md has %d rows; its head must name the columns folder and may import", len(rows))
	}
	for i := range rows {
		rows[i].Exact = slices.ContainsFunc(rows, func(r houseRow) bool { return strings.HasPrefix(r.Folder, rows[i].Folder+"/") })
	}
	return rows
}

// unit is the folder that a rule speaks of: below "x/<y>" each folder is one.
func (r houseRow) unit(dir string) (string, bool) {
	if stem, ok := strings.CutSuffix(r.Folder, "/<x>"); ok {
		rest, below := strings.CutPrefix(dir, stem+"/")
		if !below {
			return "", false
		}
		first, _, _ := strings.Cut(rest, "/")
		return stem + "/" + first, true
	}
	if dir == r.Folder || !r.Exact && strings.HasPrefix(dir, r.Folder+"/") {
		return r.Folder, true
	}
	return "", false
}

func ruleFor(rows []houseRow, dir string) (rule houseRow, unit string, found bool) {
	for _, r := range rows {
		if u, ok := r.unit(dir); ok && len(u) > len(unit) {
			rule, unit, found = r, u, true
		}
	}
	return rule, unit, found
}

func (r houseRow) allows(unit, dir string) bool {
	if r.Anything || within(dir, unit) || within(dir, "internal") || within(dir, "fault") {
		return true
	}
	return slices.ContainsFunc(r.May, func(may string) bool { return within(dir, strings.TrimSuffix(may, "/*")) })
}

func within(dir, folder string) bool { return dir == folder || strings.HasPrefix(dir, folder+"/") }

// TestImportsGoDownward keeps the direction of imports: a folder that imports
// upward ties what should be replaceable to what replaces it.
func TestImportsGoDownward(t *testing.T) {
	rows := house(t)
	for _, f := range goFiles(t) {
		if f.Dir == "." {
			continue
		}
		rule, unit, ok := ruleFor(rows, f.Dir)
		if !ok {
			t.Errorf("%s: the folder has no row in ARCHITECTURE.md's table of the house; a newcomer finds each folder there, with what it may import", f.Dir)
			continue
		}
		for _, dir := range f.imports() {
			if rule.allows(unit, dir) {
				continue
			}
			t.Errorf("%s imports %s, but %s may import only %s: imports go downward, so that each part can be understood, tested and replaced without what is above it (ARCHITECTURE.md)",
				f.Path, dir, unit, strings.Join(append([]string{"internal", "fault"}, rule.May...), ", "))
		}
	}
}

// TestHouseTableIsAboutWhatExists refuses rows for folders that are not there.
func TestHouseTableIsAboutWhatExists(t *testing.T) {
	for _, r := range house(t) {
		folder := strings.TrimSuffix(r.Folder, "/<x>")
		if info, err := os.Stat(folder); err != nil || !info.IsDir() {
			t.Errorf("ARCHITECTURE.md's table of the house has a row for %s, which is no folder here: the table tells what exists, ROADMAP.md what will", folder)
		}
	}
}

// TestNoCgo keeps the program one static file that is copied to a server.
func TestNoCgo(t *testing.T) {
	for _, f := range goFiles(t) {
		for _, spec := range f.AST.Imports {
			if spec.Path.Value == `"C"` {
				t.Errorf("%s: import \"C\" makes the program depend on the C library of the machine that built it", f.Path)
			}
		}
	}
}
