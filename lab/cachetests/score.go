package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
)

// verdicts are the tests of each kind that pass, and why the others do not.
type verdicts struct {
	passed map[string]bool
	why    map[string]string
	count  map[string][2]int // by kind: passed, all
	checks map[string]bool   // tests that ask what a cache does, and want nothing
}

// judge counts as the suite's own determineTestResult: a test passes when its
// result is true and all that it depends on pass.
func (s *suite) judge(results map[string]json.RawMessage) verdicts {
	v := verdicts{passed: map[string]bool{}, why: map[string]string{}, checks: map[string]bool{}, count: map[string][2]int{}}
	byID := map[string]*test{}
	for i := range s.tests {
		byID[s.tests[i].ID] = &s.tests[i]
	}
	var passes func(id string, depth int) bool
	passes = func(id string, depth int) bool {
		t := byID[id]
		if t == nil || depth > len(s.tests) {
			return false
		}
		for _, d := range t.Depends {
			if !passes(d, depth+1) {
				v.why[id] = "depends on " + d
				return false
			}
		}
		if string(results[id]) != "true" {
			v.why[id] = oneLine(results[id])
			return false
		}
		return true
	}
	for i := range s.tests {
		t := &s.tests[i]
		if t.BrowserOnly {
			continue
		}
		v.checks[t.ID] = t.Kind == "check"
		n := v.count[t.Kind]
		if n[1]++; passes(t.ID, 0) {
			v.passed[t.ID] = true
			n[0]++
		}
		v.count[t.Kind] = n
	}
	return v
}

func (v *verdicts) print(to io.Writer, s *suite) {
	for i := range s.tests {
		if t := &s.tests[i]; !t.BrowserOnly && !v.passed[t.ID] && t.Kind != "check" {
			fmt.Fprintf(to, "not passed (%s): %s: %s: %s\n", t.Kind, t.ID, t.Name, v.why[t.ID])
		}
	}
	for _, kind := range []string{"required", "optimal", "check"} {
		fmt.Fprintf(to, "%s: %d of %d\n", kind, v.count[kind][0], v.count[kind][1])
	}
}

// oneLine is a result without the suite's indentation.
func oneLine(result json.RawMessage) string {
	var b bytes.Buffer
	if err := json.Compact(&b, result); err != nil {
		return "no result"
	}
	return b.String()
}

// lacking lists the wanted tests that do not pass.
func (v *verdicts) lacking(wanted []string) []string {
	var ids []string
	for _, id := range wanted {
		if !v.passed[id] {
			ids = append(ids, id)
		}
	}
	return ids
}

// compare is an error that names what has to pass and does not. With update
// what passes besides is added to the list.
func (v *verdicts) compare(o options, wanted []string) error {
	if o.expect == "" {
		return nil
	}
	var failed []string
	for _, id := range v.lacking(wanted) {
		failed = append(failed, id+": "+v.why[id])
	}
	if failed != nil {
		return fmt.Errorf("tests that passed before do not:\n  %s", strings.Join(failed, "\n  "))
	}
	if !o.update {
		return nil
	}
	all := slices.Sorted(maps.Keys(v.passed))
	all = slices.DeleteFunc(all, func(id string) bool { return v.checks[id] })
	return errors.Join(writeList(o.expect, all), writeList(failing(o.expect), v.failing()))
}

// failing is the list beside the one at path: what docs/conformance.md explains.
func failing(path string) string { return strings.TrimSuffix(path, ".txt") + ".failing.txt" }

// failing lists the tests that want something and do not pass.
func (v *verdicts) failing() []string {
	var ids []string
	for _, id := range slices.Sorted(maps.Keys(v.why)) {
		if !v.checks[id] && !v.passed[id] {
			ids = append(ids, id)
		}
	}
	return ids
}

func writeList(path string, ids []string) error {
	text := strings.Join(ids, "\n") + "\n"
	return os.WriteFile(path, []byte(text), 0o644) //nolint:gosec // a list in the source tree
}

// readList reads ids, one a line.
func readList(path string) ([]string, error) {
	if path == "" {
		return nil, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("the list of tests that pass: %w", err)
	}
	defer f.Close()
	var ids []string
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if id := strings.TrimSpace(lines.Text()); id != "" {
			ids = append(ids, id)
		}
	}
	return ids, nil
}
