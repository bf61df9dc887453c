// Package supervise keeps child processes running: a child that ends is started
// again after a pause that grows, and a stop ends all of them within a bound.
// On Linux the children also end when the supervisor itself is killed.
package supervise

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// Child is one process to keep running.
type Child struct {
	Name string
	// Command makes the command for one start; it runs on the supervisor's
	// goroutine for this child and may wait. An error counts as a failed start.
	Command func(ctx context.Context) (*exec.Cmd, error)
}

// Config of a supervisor; zero durations have the default in the comment.
type Config struct {
	FirstPause time.Duration // before the first restart; 100 ms
	LastPause  time.Duration // the pause doubles up to here; 5 s
	Steady     time.Duration // a child that ran this long starts over at FirstPause; 10 s
	StopLimit  time.Duration // after SIGTERM, before SIGKILL; 30 s
	// Started and Ended are called from the child's goroutine; nil is fine.
	Started func(name string, pid int)
	Ended   func(name string, pid int, reason string)
	Log     *slog.Logger // never nil
}

// Supervisor starts and restarts children.
type Supervisor struct {
	c       Config
	starts  chan start // to the starter's thread
	waiting sync.WaitGroup
}

type start struct {
	cmd  *exec.Cmd
	done chan error
}

// New returns a supervisor without children.
func New(c Config) *Supervisor {
	for _, d := range []struct {
		v         *time.Duration
		otherwise time.Duration
	}{
		{&c.FirstPause, 100 * time.Millisecond}, {&c.LastPause, 5 * time.Second},
		{&c.Steady, 10 * time.Second}, {&c.StopLimit, 30 * time.Second},
	} {
		if *d.v == 0 {
			*d.v = d.otherwise
		}
	}
	return &Supervisor{c: c, starts: make(chan start)}
}

// Run owns the thread that starts children until all of them have ended; it
// returns some time after ctx's end, when every child added by Add is gone.
// Add works only while Run runs.
func (s *Supervisor) Run(ctx context.Context) {
	// The kernel sends the parent-death signal when the thread that started a
	// child ends, so one locked thread starts all of them and outlives them.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	idle := make(chan struct{})
	stopped := ctx.Done()
	for {
		select {
		case st := <-s.starts:
			st.done <- st.cmd.Start()
		case <-stopped:
			stopped = nil
			go func() { // ends when the last child's goroutine does, which StopLimit bounds
				s.waiting.Wait()
				close(idle)
			}()
		case <-idle:
			return
		}
	}
}

// Add keeps a child running until ctx ends. The ctx must be the one given to
// Run, or end before it.
func (s *Supervisor) Add(ctx context.Context, child Child) {
	s.waiting.Go(func() { s.keep(ctx, child) })
}

func (s *Supervisor) keep(ctx context.Context, child Child) {
	pause := s.c.FirstPause
	for ctx.Err() == nil {
		begun := time.Now()
		reason := s.once(ctx, child)
		if ctx.Err() != nil {
			return
		}
		if time.Since(begun) >= s.c.Steady {
			pause = s.c.FirstPause
		}
		s.c.Log.Warn("child ended, restarting", "child", child.Name, "reason", reason, "pause", pause)
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
		}
		pause = min(pause*2, s.c.LastPause)
	}
}

// once runs a child to its end and says why it ended.
func (s *Supervisor) once(ctx context.Context, child Child) string {
	cmd, err := child.Command(ctx)
	if err != nil {
		return fmt.Sprintf("not started: %v", err)
	}
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true // Ctrl-C in the terminal reaches the supervisor alone
	dieWithParent(cmd.SysProcAttr)
	st := start{cmd: cmd, done: make(chan error, 1)}
	select {
	case s.starts <- st:
	case <-ctx.Done():
		return "stopped before it started"
	}
	if err := <-st.done; err != nil {
		return fmt.Sprintf("not started: %v", err)
	}
	pid := cmd.Process.Pid
	s.c.Log.Info("child started", "child", child.Name, "pid", pid)
	if s.c.Started != nil {
		s.c.Started(child.Name, pid)
	}
	reason := s.wait(ctx, child.Name, cmd)
	if s.c.Ended != nil {
		s.c.Ended(child.Name, pid, reason)
	}
	return reason
}

// wait returns when the process is gone: by itself, or stopped at ctx's end.
func (s *Supervisor) wait(ctx context.Context, name string, cmd *exec.Cmd) string {
	gone := make(chan error, 1)
	go func() { gone <- cmd.Wait() }() // ends with the process, which the code below sees to
	select {
	case err := <-gone:
		return reasonOf(err)
	case <-ctx.Done():
	}
	s.signal(name, cmd, syscall.SIGTERM)
	limit := time.NewTimer(s.c.StopLimit)
	defer limit.Stop()
	select {
	case err := <-gone:
		return reasonOf(err)
	case <-limit.C:
	}
	s.c.Log.Warn("child did not stop in time, killing it", "child", name, "limit", s.c.StopLimit)
	s.signal(name, cmd, syscall.SIGKILL)
	return reasonOf(<-gone)
}

// signal reaches the child's whole process group.
func (s *Supervisor) signal(name string, cmd *exec.Cmd, sig syscall.Signal) {
	if err := syscall.Kill(-cmd.Process.Pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		s.c.Log.Error("child could not be signalled", "child", name, "signal", sig, "error", err)
	}
}

func reasonOf(err error) string {
	if err == nil {
		return "exit status 0"
	}
	return err.Error()
}
