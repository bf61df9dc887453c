package dev

import (
	"bytes"
	"io"
	"strings"
	"sync"

	"gopkg.in/natefinch/lumberjack.v2"
)

const (
	logMegabytes = 16 // of one child's log before it is rotated
	logBackups   = 2
	maxLogLine   = 64 << 10 // bytes; a longer line is cut in two
	maxQuoted    = 512      // bytes of a line that is quoted in an error
)

// childLog takes what a child prints: to a file that is rotated, and with
// prefixed lines to the terminal when that is asked for. It remembers the line
// that tells best why the child ended.
type childLog struct {
	mu   sync.Mutex
	file io.Writer
	tee  io.Writer // nil = file alone
	name string
	part []byte // guarded by mu: an unfinished line
	why  string // guarded by mu
	told bool   // guarded by mu: why is a line that gives a reason
}

func newChildLog(path, name string, verbose bool, terminal io.Writer) *childLog {
	l := &childLog{name: name, file: &lumberjack.Logger{Filename: path, MaxSize: logMegabytes, MaxBackups: logBackups}}
	if verbose {
		l.tee = terminal
	}
	return l
}

// Write never fails: a full disk must not stop a child by its log.
func (l *childLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, _ = l.file.Write(b)
	l.part = append(l.part, b...)
	for {
		i := bytes.IndexByte(l.part, '\n')
		if i < 0 && len(l.part) < maxLogLine {
			return len(b), nil
		}
		if i < 0 {
			i = len(l.part)
		}
		l.line(string(l.part[:i]))
		l.part = append(l.part[:0], l.part[min(i+1, len(l.part)):]...)
	}
}

func (l *childLog) line(s string) {
	if l.tee != nil {
		_, _ = io.WriteString(l.tee, l.name+": "+s+"\n")
	}
	reason := strings.HasPrefix(s, "selvage: ") || strings.HasPrefix(s, "panic: ") || strings.HasPrefix(s, "fatal error: ")
	if reason || !l.told && strings.TrimSpace(s) != "" {
		l.why, l.told = strings.TrimPrefix(s[:min(len(s), maxQuoted)], "selvage: "), reason
	}
}

// reason is the child's own word on why it ended, else its last line.
func (l *childLog) reason() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.why
}

// begin forgets what an earlier process of the child said.
func (l *childLog) begin() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.part, l.why, l.told = l.part[:0], "", false
}
