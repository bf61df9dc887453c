// Command cachetests runs http-tests/cache-tests, the caches' own conformance
// suite, through a running edge: its origin behind the edge, its client before
// it. It prints how many tests pass and compares them with a list that may only
// grow. The suite is somebody else's program and is not kept here.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
)

type options struct {
	binary  string // selvage
	suite   string // folder with tests/ and the engine
	modules string // node_modules with what the suite imports; "" = it finds them itself
	expect  string // list of tests that pass
	id      string // the only test to run
	update  bool
	out     io.Writer
}

func main() {
	o := options{out: os.Stdout}
	flag.StringVar(&o.binary, "selvage", "bin/selvage", "program to judge")
	flag.StringVar(&o.suite, "suite", "", "checkout of http-tests/cache-tests, or its npm package")
	flag.StringVar(&o.modules, "modules", "", "node_modules with undici, for the tests of interim answers")
	flag.StringVar(&o.expect, "expect", "", "list of the tests that have to pass")
	flag.StringVar(&o.id, "id", "", "the only test to run; its exchange is printed")
	flag.BoolVar(&o.update, "update", false, "add to the list what passes besides")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "cachetests:", err)
		os.Exit(1)
	}
}

// run judges the edge; the error says what does not pass that has to.
func run(ctx context.Context, o options) (err error) {
	dir, err := os.MkdirTemp("", "cachetests")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	s, err := openSuite(ctx, o, dir)
	if err != nil {
		return err
	}
	l, err := startLab(ctx, o.binary, s, dir)
	if err != nil {
		return err
	}
	if o.id != "" {
		text, err := s.client(ctx, l.base, o.id)
		fmt.Fprintf(o.out, "%s\n", text)
		return l.stop(err)
	}
	results, err := s.results(ctx, l.base)
	if err != nil {
		return l.stop(err)
	}
	// A test that lost a race with its own clock gets a second chance, alone.
	wanted, err := readList(o.expect)
	if err != nil {
		return l.stop(err)
	}
	judged := s.judge(results)
	for _, id := range judged.lacking(wanted) {
		again, err := s.again(ctx, l.base, id)
		if err != nil {
			return l.stop(err)
		}
		if again {
			results[id] = []byte("true")
		}
	}
	judged = s.judge(results)
	judged.print(o.out, s)
	return l.stop(judged.compare(o, wanted))
}

// absolute is a path that holds in another working folder.
func absolute(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	return filepath.Abs(path)
}
