package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The older edition of the suite, which can be had as a package, against the
// program as it is. Its list of tests that pass may only grow; what does not
// pass is explained in docs/conformance.md.
func TestOlderEdition(t *testing.T) {
	binary := os.Getenv("SELVAGE_BIN")
	if binary == "" {
		binary = filepath.Join(t.TempDir(), "selvage")
		if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "../../cmd/selvage").CombinedOutput(); err != nil {
			t.Fatalf("build selvage: %v\n%s", err, out)
		}
	}
	var out strings.Builder
	err := run(t.Context(), options{
		binary: binary, suite: "../../build/cache-tests/node_modules/http-cache-tests",
		expect: "testdata/npm-0.4.5.txt", out: &out,
	})
	t.Logf("\n%s", out.String())
	if err != nil {
		t.Errorf("%v (make test fetches the suite)", err)
	}
}

// Every test of either edition that fails has its line.
func TestFailuresAreExplained(t *testing.T) {
	text, err := os.ReadFile("../../docs/conformance.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, list := range []string{"testdata/npm-0.4.5.failing.txt", "testdata/b55b8bd.failing.txt"} {
		ids, err := readList(list)
		if err != nil {
			t.Fatal(err)
		}
		if len(ids) == 0 {
			t.Errorf("%s is empty", list)
		}
		for _, id := range ids {
			if !strings.Contains(string(text), "`"+id+"`") {
				t.Errorf("docs/conformance.md does not explain %s", id)
			}
		}
	}
}

func TestJudgeFollowsDependencies(t *testing.T) {
	s := &suite{tests: []test{
		{ID: "a", Kind: "required"},
		{ID: "b", Kind: "required", Depends: []string{"a"}},
		{ID: "c", Kind: "optimal", Depends: []string{"b"}},
		{ID: "d", Kind: "check"},
		{ID: "e", Kind: "required", BrowserOnly: true},
		{ID: "loop", Kind: "required", Depends: []string{"loop"}},
	}}
	yes, no := json.RawMessage("true"), json.RawMessage(`["Assertion", "no"]`)
	v := s.judge(map[string]json.RawMessage{"a": yes, "b": no, "c": yes, "d": yes, "e": yes, "loop": yes})
	if v.count["required"] != [2]int{1, 3} || v.count["optimal"] != [2]int{0, 1} || v.count["check"] != [2]int{1, 1} {
		t.Errorf("counted %v", v.count)
	}
	if got := v.lacking([]string{"a", "b", "c", "gone"}); strings.Join(got, " ") != "b c gone" {
		t.Errorf("lacking %v", got)
	}
	if err := v.compare(options{expect: "x"}, []string{"a", "c"}); err == nil || !strings.Contains(err.Error(), "depends on b") {
		t.Errorf("compare: %v", err)
	}
}
