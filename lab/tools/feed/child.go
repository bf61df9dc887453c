package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A child is this program in a process of its own, so that what it costs can be
// told apart. It takes one JSON value a line and answers each by one: an answer
// with an error, or what the role says.

// roles are what a child can be, each made of its first line.
var roles = map[string]func(context.Context, json.RawMessage) (role, error){
	"selvage": newSelvage, "nats": newNATS, "etcd": newEtcd, "relays": newRelays, "subscribers": newSubscribers, "copy": newCopy,
}

// role is a child's work after its first line.
type role interface {
	// ready is the answer to the first line.
	ready() any
	// do answers one of the further lines.
	do(ctx context.Context, order json.RawMessage) (any, error)
	close() error
}

type answer struct {
	Error string          `json:"error,omitempty"`
	Value json.RawMessage `json:"value,omitempty"`
}

// child is the main function of a child's process.
func child(ctx context.Context, name, profile string) (err error) {
	if profile != "" {
		f, err := os.Create(filepath.Join(profile, fmt.Sprintf("%s-%d.pprof", name, os.Getpid())))
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	in, out := bufio.NewReaderSize(os.Stdin, 1<<20), json.NewEncoder(os.Stdout)
	say := func(value any, err error) error {
		var a answer
		if err != nil {
			a.Error = err.Error()
		} else if a.Value, err = json.Marshal(value); err != nil {
			return err
		}
		return out.Encode(a)
	}
	first, err := in.ReadBytes('\n')
	if err != nil {
		return err
	}
	r, err := roles[name](ctx, first)
	if err != nil {
		return errors.Join(err, say(nil, err))
	}
	defer func() { err = errors.Join(err, r.close()) }()
	if err := say(r.ready(), nil); err != nil {
		return err
	}
	for {
		line, err := in.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := say(r.do(ctx, line)); err != nil {
			return err
		}
		if err := heap(name, profile); err != nil {
			return err
		}
	}
}

// heap replaces the profile of what memory holds, where profiles are asked for.
func heap(name, profile string) error {
	if profile == "" {
		return nil
	}
	f, err := os.Create(filepath.Join(profile, fmt.Sprintf("%s-%d.heap", name, os.Getpid())))
	if err != nil {
		return err
	}
	return errors.Join(pprof.WriteHeapProfile(f), f.Close())
}

// process is a child as its parent sees it.
type process struct {
	name string
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Reader
	mu   sync.Mutex // one order at a time
}

// profileArgs hands the folder for profiles on to children.
func profileArgs() []string {
	if f := flag.Lookup("profile"); f.Value.String() != "" {
		return []string{"-profile", f.Value.String()}
	}
	return nil
}

// start runs a child; into gets what it says when it is ready.
func start(ctx context.Context, name string, first, into any) (*process, error) {
	path, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &process{name: name, cmd: exec.CommandContext(ctx, path, append([]string{"-role", name}, profileArgs()...)...)}
	p.cmd.Stderr = os.Stderr
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.out = bufio.NewReaderSize(out, 1<<20)
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	if err := p.do(first, into); err != nil {
		return nil, errors.Join(err, p.end())
	}
	return p, nil
}

// do gives the child an order and waits for its answer.
func (p *process) do(order, into any) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := json.NewEncoder(p.in).Encode(order); err != nil {
		return fmt.Errorf("%s: %w", p.name, err)
	}
	line, err := p.out.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("%s: no answer: %w", p.name, err)
	}
	var a answer
	if err := json.Unmarshal(line, &a); err != nil {
		return fmt.Errorf("%s: %w", p.name, err)
	}
	if a.Error != "" {
		return fmt.Errorf("%s: %s", p.name, a.Error)
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(a.Value, into)
}

// end lets the child close what it has open, and waits.
func (p *process) end() error {
	_ = p.in.Close() // by which it knows
	if err := p.cmd.Wait(); err != nil {
		return fmt.Errorf("%s: %w", p.name, err)
	}
	return nil
}

// cost is what a process has taken.
type cost struct {
	cpu  time.Duration // user and system
	anon int64         // anonymous memory that is resident now, bytes
	sent float64       // bytes of frames to subscribers, of ours
}

// cost reads it (proc(5): stat has hundredths of a second, status RssAnon).
func (p *process) cost() (c cost, err error) {
	dir := "/proc/" + strconv.Itoa(p.cmd.Process.Pid)
	stat, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return c, err
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return c, fmt.Errorf("unexpected %s/stat", dir)
	}
	for _, f := range fields[11:13] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return c, err
		}
		c.cpu += time.Duration(n) * 10 * time.Millisecond
	}
	status, err := os.ReadFile(dir + "/status")
	if err != nil {
		return c, err
	}
	_, rest, _ = strings.Cut(string(status), "RssAnon:")
	line, _, _ := strings.Cut(rest, "kB")
	n, err := strconv.ParseInt(strings.TrimSpace(line), 10, 64)
	c.anon = n << 10
	return c, err
}
