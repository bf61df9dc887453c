package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// host is the zone that the client asks for; hook.cjs makes node find it here.
const host = "cachetests.test"

// hook makes node resolve host to this machine.
const hook = `const dns = require('dns')
const lookup = dns.lookup
dns.lookup = (name, options, done) => {
  if (typeof options === 'function') { done = options; options = {} }
  if (name !== '` + host + `') return lookup(name, options, done)
  if (options && options.all) return process.nextTick(done, null, [{ address: '127.0.0.1', family: 4 }])
  process.nextTick(done, null, '127.0.0.1', 4)
}
`

// suite is the tests and how to run them.
type suite struct {
	root   string // where tests/ is
	engine string // folder of server/ and cli.mjs, relative to root
	hook   string
	tests  []test
}

// test is what the suite says of one test.
type test struct {
	ID          string
	Name        string
	Kind        string   // required, optimal or check
	Depends     []string `json:"depends_on"`
	BrowserOnly bool     `json:"browser_only"`
}

// openSuite finds the engine and reads the list of tests. A suite that does not
// bring its modules is copied beside them, since that is where node looks.
func openSuite(ctx context.Context, o options, dir string) (*suite, error) {
	if o.suite == "" {
		return nil, errors.New("-suite is needed: the folder of a checkout of github.com/http-tests/cache-tests")
	}
	root, err := absolute(o.suite)
	if err != nil {
		return nil, err
	}
	s := &suite{root: root, hook: filepath.Join(dir, "hook.cjs")}
	if _, err := os.Stat(filepath.Join(root, "test-engine", "cli.mjs")); err == nil {
		s.engine = "test-engine"
	} else if _, err := os.Stat(filepath.Join(root, "cli.mjs")); err != nil {
		return nil, fmt.Errorf("%s holds no cache-tests: %w", root, err)
	}
	if err := os.WriteFile(s.hook, []byte(hook), 0o600); err != nil {
		return nil, err
	}
	if o.modules != "" {
		if err := s.copyBeside(o.modules, dir); err != nil {
			return nil, err
		}
	}
	const list = `import tests from './tests/index.mjs'
import { existsSync } from 'node:fs'
if (existsSync('tests/surrogate-control.mjs')) tests.push((await import(process.cwd() + '/tests/surrogate-control.mjs')).default)
console.log(JSON.stringify(tests.flatMap(s => s.tests.map(t => ({
  id: t.id, name: t.name, kind: t.kind || 'required', depends_on: t.depends_on, browser_only: t.browser_only })))))`
	cmd := exec.CommandContext(ctx, "node", "--no-warnings", "--input-type=module", "-e", list)
	cmd.Dir = s.root
	text, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("list the tests: %w", told(err))
	}
	if err := json.Unmarshal(text, &s.tests); err != nil {
		return nil, fmt.Errorf("list of tests: %w", err)
	}
	return s, nil
}

func (s *suite) copyBeside(modules, dir string) error {
	modules, err := absolute(modules)
	if err != nil {
		return err
	}
	to := filepath.Join(dir, "suite")
	for _, part := range []string{"tests", s.engine} {
		if err := os.CopyFS(filepath.Join(to, part), os.DirFS(filepath.Join(s.root, part))); err != nil {
			return fmt.Errorf("copy the suite: %w", err)
		}
	}
	s.root = to
	return os.Symlink(modules, filepath.Join(to, "node_modules"))
}

// told adds what a program said to the error of its end.
func told(err error) error {
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return fmt.Errorf("%w: %s", err, bytes.TrimSpace(exit.Stderr))
	}
	return err
}

// client runs the suite's client and returns what it printed. Each test asks
// for an answer at once and a second later, so all take about a minute.
func (s *suite) client(ctx context.Context, base, id string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "node", "--no-warnings", "--require", s.hook, filepath.Join(s.engine, "cli.mjs"))
	cmd.Dir = s.root
	cmd.Env = append(os.Environ(), "npm_config_base="+base, "npm_config_id="+id, "npm_package_config_base=", "npm_package_config_id="+id)
	text, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("the suite's client: %w", told(err))
	}
	return text, nil
}

// results runs all tests; a result is true, or the kind and text of a failure.
func (s *suite) results(ctx context.Context, base string) (map[string]json.RawMessage, error) {
	text, err := s.client(ctx, base, "")
	if err != nil {
		return nil, err
	}
	var results map[string]json.RawMessage
	if err := json.Unmarshal(text, &results); err != nil {
		return nil, fmt.Errorf("the suite's results: %w", err)
	}
	return results, nil
}

// again runs one test alone, which prints a verdict instead of results. The older
// edition prints what it does for a dependency too, which this leaves out.
func (s *suite) again(ctx context.Context, base, id string) (passed bool, err error) {
	text, err := s.client(ctx, base, id)
	if err != nil {
		return false, err
	}
	_, verdict, _ := strings.Cut(string(text), "==== Results")
	return strings.Contains(verdict, "✅") || strings.Contains(verdict, "Y -"), nil
}
