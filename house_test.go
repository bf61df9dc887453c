package selvage_test

import (
	"go/ast"
	"go/token"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

const (
	maxFileLines     = 600
	maxFunctionLines = 70
)

// exceptions are files and functions over their limit that were looked at and
// left so. An entry says since when and why; one that is no longer needed
// fails, so the list only shrinks.
var exceptions = []struct{ What, Since, Why string }{}

// TestSizes keeps files and functions within what a reader can hold.
func TestSizes(t *testing.T) {
	needed := map[string]bool{}
	excused := func(what string) bool {
		for _, e := range exceptions {
			if e.What == what {
				needed[what] = true
				return true
			}
		}
		return false
	}
	for _, f := range goFiles(t) {
		if f.Test || ast.IsGenerated(f.AST) {
			continue
		}
		if f.Lines > maxFileLines && !excused(f.Path) {
			t.Errorf("%s has %d lines, over %d: split it by what a reader looks for, or add it to exceptions in house_test.go with a date and a reason", f.Path, f.Lines, maxFileLines)
		}
		for _, d := range f.AST.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			lines := f.Fset.Position(fn.End()).Line - f.Fset.Position(fn.Pos()).Line + 1
			if lines > maxFunctionLines && !excused(f.Path+" "+fn.Name.Name) {
				t.Errorf("%s: func %s has %d lines, over %d: it does more than one thing; decide in the parent and compute in a leaf", f.at(fn), fn.Name.Name, lines, maxFunctionLines)
			}
		}
	}
	for _, e := range exceptions {
		if _, err := time.Parse(time.DateOnly, e.Since); err != nil || e.Why == "" {
			t.Errorf("exception %q needs a date and a reason", e.What)
		}
		if !needed[e.What] {
			t.Errorf("exception %q is within its limit now: delete the entry", e.What)
		}
	}
}

// TestPackagesSayWhatTheyPromise wants one package comment in each package.
func TestPackagesSayWhatTheyPromise(t *testing.T) {
	comments := map[string]int{}
	for _, f := range goFiles(t) {
		if f.Test && f.Dir != "." {
			continue
		}
		comments[f.Dir] += 0
		if f.AST.Doc != nil && strings.HasPrefix(strings.TrimSpace(f.AST.Doc.Text()), prefixOfComment(f)) {
			comments[f.Dir]++
		}
	}
	for dir, n := range comments {
		if n != 1 {
			t.Errorf("%s has %d package comments, want 1: it is the first thing a reader sees, and it says what the package promises", dir, n)
		}
	}
}

func prefixOfComment(f *goFile) string {
	if f.AST.Name.Name == "main" {
		return "" // a program's comment may begin with its name
	}
	return "Package " + f.AST.Name.Name + " "
}

// TestNoInit wants construction to be visible: order lives in constructors
// and in edge/pipeline.go, not in what happens to be imported.
func TestNoInit(t *testing.T) {
	for _, f := range goFiles(t) {
		for _, d := range f.AST.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Name.Name == "init" && fn.Recv == nil {
				t.Errorf("%s: func init() runs by import, in an order nobody reads; construct it where it is used", f.at(fn))
			}
		}
	}
}

// TestPackageVariablesDoNotChange finds assignments to package variables.
func TestPackageVariablesDoNotChange(t *testing.T) {
	files := goFiles(t)
	vars := map[string]bool{} // dir.name
	for _, f := range files {
		for _, spec := range packageVars(f) {
			for _, name := range spec.Names {
				vars[f.Dir+"."+name.Name] = true
			}
		}
	}
	for _, f := range files {
		if f.Test {
			continue
		}
		own := packageVars(f)
		changed := func(e ast.Expr) {
			id, ok := e.(*ast.Ident)
			if !ok || id.Name == "_" || !vars[f.Dir+"."+id.Name] {
				return
			}
			if id.Obj != nil { // resolved within this file: only if to the package's
				spec, isSpec := id.Obj.Decl.(*ast.ValueSpec)
				if !isSpec || !slices.Contains(own, spec) {
					return
				}
			}
			t.Errorf("%s: package variable %s is changed: state that two tests or two servers in one process would share; make it a field", f.at(id), id.Name)
		}
		ast.Inspect(f.AST, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.AssignStmt:
				if n.Tok != token.DEFINE {
					for _, e := range n.Lhs {
						changed(e)
					}
				}
			case *ast.IncDecStmt:
				changed(n.X)
			}
			return true
		})
	}
}

func packageVars(f *goFile) []*ast.ValueSpec {
	var specs []*ast.ValueSpec
	for _, d := range f.AST.Decls {
		if gen, ok := d.(*ast.GenDecl); ok && gen.Tok == token.VAR {
			for _, s := range gen.Specs {
				specs = append(specs, s.(*ast.ValueSpec))
			}
		}
	}
	return specs
}

// ban is a call that some part of the house must not make.
type ban struct {
	Calls  []string // pkg.Name
	Where  func(f *goFile) bool
	Reason string
}

func program(f *goFile) bool {
	return !f.Test && !within(f.Dir, "cmd") && !within(f.Dir, "lab") && !within(f.Dir, "internal/testkit") && !strings.HasSuffix(f.Dir, "test")
}

// TestForbiddenCalls is the list of calls that are wrong by place.
func TestForbiddenCalls(t *testing.T) {
	bans := []ban{
		{
			[]string{"time.Sleep"},
			func(f *goFile) bool { return f.Test && !f.importsPackage("testing/synctest") },
			"a test that sleeps is slow when it passes and lies when the machine is busy; sleep in a synctest bubble, where it takes no time, or use a channel, or poll with a deadline",
		},
		{
			[]string{"context.Background", "context.TODO"},
			program,
			"work without an owner's context outlives shutdown; take ctx as the first argument",
		},
		{
			[]string{"fmt.Print", "fmt.Println", "fmt.Printf", "log.Print", "log.Println", "log.Printf", "log.Fatal", "log.Fatalf"},
			program,
			"only cmd/ speaks to the terminal; elsewhere the logger that was passed in does",
		},
		{
			[]string{"os.Getenv", "os.LookupEnv", "os.Environ"},
			program,
			"the environment is read in cmd/ and passed on as a field, so that what a constructor depends on is in its arguments",
		},
		{
			[]string{"os.Exit"},
			program,
			"exit codes are decided in cmd/; return the error",
		},
		{
			[]string{"t.Skip", "t.Skipf", "t.SkipNow", "b.Skip", "tb.Skip"},
			func(f *goFile) bool { return f.Test },
			"a skipped test is a check that cannot fail; make install what it needs",
		},
	}
	for _, f := range goFiles(t) {
		for _, b := range bans {
			if !b.Where(f) {
				continue
			}
			ast.Inspect(f.AST, func(n ast.Node) bool {
				if sel, ok := n.(*ast.SelectorExpr); ok {
					if id, ok := sel.X.(*ast.Ident); ok && slices.Contains(b.Calls, id.Name+"."+sel.Sel.Name) {
						t.Errorf("%s: %s.%s: %s", f.at(sel), id.Name, sel.Sel.Name, b.Reason)
					}
				}
				return true
			})
		}
	}
}

// TestNothingIsLeftForLater refuses notes to self: what is missing stands in
// ROADMAP.md, where users see it.
func TestNothingIsLeftForLater(t *testing.T) {
	marks := []string{"TO" + "DO", "FIX" + "ME", "XX" + "X:", "not implemented"}
	for _, f := range goFiles(t) {
		for _, group := range f.AST.Comments {
			for _, mark := range marks {
				if strings.Contains(group.Text(), mark) {
					t.Errorf("%s: %q in a comment: do it, or write it in ROADMAP.md where users see it", f.at(group), mark)
				}
			}
		}
	}
}

// TestMetricNames keeps names greppable and in one form.
func TestMetricNames(t *testing.T) {
	unit := regexp.MustCompile(`_(seconds|bytes)(_total)?$`)
	timed := regexp.MustCompile(`_(ms|millis|milliseconds|ns|nanos|nanoseconds|us|kb|mb|duration|time)(_total)?$`)
	for name := range metricsInCode(t) {
		if timed.MatchString(name) && !unit.MatchString(name) {
			t.Errorf("metric %q: times are in _seconds and sizes in _bytes, as Prometheus has them everywhere", name)
		}
	}
	for _, f := range goFiles(t) {
		if f.Test {
			continue
		}
		ast.Inspect(f.AST, func(n ast.Node) bool {
			lit, ok := n.(*ast.CompositeLit)
			if !ok || !isPrometheusOpts(lit.Type) {
				return true
			}
			kind := lit.Type.(*ast.SelectorExpr).Sel.Name
			for _, e := range lit.Elts {
				kv, ok := e.(*ast.KeyValueExpr)
				if !ok {
					continue
				}
				key, name := kv.Key.(*ast.Ident).Name, textOf(kv.Value)
				switch {
				case key == "Namespace" || key == "Subsystem":
					t.Errorf("%s: a metric's name is written whole, so that a search for what a dashboard shows finds the line that makes it", f.at(kv))
				case key == "Name" && name != "" && !metricName.MatchString(name):
					t.Errorf("%s: metric %q: names are selvage_ and then lower-case letters, digits and underscores", f.at(kv), name)
				case key == "Name" && name != "" && strings.HasPrefix(kind, "Counter") && !strings.HasSuffix(name, "_total"):
					t.Errorf("%s: counter %q: Prometheus counters end in _total, with the unit before it", f.at(kv), name)
				}
			}
			return true
		})
	}
}

func isPrometheusOpts(e ast.Expr) bool {
	sel, ok := e.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	id, ok := sel.X.(*ast.Ident)
	return ok && id.Name == "prometheus" && strings.HasSuffix(sel.Sel.Name, "Opts")
}

// TestFolderBudgets compares each folder's code without tests to the ceiling
// in STYLE.md: a folder at its ceiling splits, or an ADR says why not.
func TestFolderBudgets(t *testing.T) {
	rows := table(t, "STYLE.md", "folder", "ceiling, lines")
	lines := map[string]int{}
	for _, f := range goFiles(t) {
		if f.Test || ast.IsGenerated(f.AST) || f.Dir == "." {
			continue
		}
		best := ""
		for _, row := range rows {
			folder := backticked(row[0])[0]
			if (within(f.Dir, folder) || folder == path.Dir(f.Dir)+"/<x>") && len(folder) > len(best) {
				best = folder
			}
		}
		if best == "" {
			t.Errorf("%s: no folder of STYLE.md's budget table covers it", f.Path)
			continue
		}
		if strings.HasSuffix(best, "/<x>") {
			best = f.Dir
		}
		lines[best] += f.Lines
	}
	ceilings := map[string]int{}
	for _, row := range rows {
		n, err := strconv.Atoi(strings.ReplaceAll(row[1], ",", ""))
		if err != nil {
			t.Errorf("STYLE.md: the ceiling of %s is no number: %v", row[0], err)
		}
		ceilings[backticked(row[0])[0]] = n
	}
	for folder, n := range lines {
		ceiling, own := ceilings[folder]
		if !own {
			ceiling = ceilings[path.Dir(folder)+"/<x>"]
		}
		if n > ceiling {
			t.Errorf("%s has %d lines of code, over its ceiling of %d in STYLE.md: split it, or raise the ceiling with an ADR", folder, n, ceiling)
		}
	}
}

// TestMakefile keeps the list of targets short enough to read.
func TestMakefile(t *testing.T) {
	targets := makeTargets(t)
	if len(targets) > 20 {
		t.Errorf("the Makefile has %d targets with help, over 20", len(targets))
	}
	for _, want := range []string{"help", "run", "build", "test", "race", "fuzz", "lint", "clean"} {
		if !slices.Contains(targets, want) {
			t.Errorf("the Makefile has no target %s with a line of help", want)
		}
	}
	if ci, err := os.ReadFile(".ci/run"); err != nil || !strings.Contains(string(ci), "make test") {
		t.Errorf(".ci/run must call make test, the same that people call (%v)", err)
	}
}

func makeTargets(t *testing.T) []string {
	t.Helper()
	var targets []string
	for _, m := range regexp.MustCompile(`(?m)^([a-z-]+):.*## `).FindAllStringSubmatch(read(t, "Makefile"), -1) {
		targets = append(targets, m[1])
	}
	return targets
}
