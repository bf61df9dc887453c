package main

import (
	"bytes"
	"log"
	"log/slog"
	"strings"
	"testing"
)

// What a library prints to Go's own log is a line as all others.
func TestLibrariesLogAsWeDo(t *testing.T) {
	before, flags, out := slog.Default(), log.Flags(), log.Writer()
	level := slog.SetLogLoggerLevel(slog.LevelInfo)
	t.Cleanup(func() {
		slog.SetDefault(before)
		slog.SetLogLoggerLevel(level)
		log.SetFlags(flags)
		log.SetOutput(out)
	})
	var text bytes.Buffer
	a := &app{err: &text}
	a.adoptLog()
	log.Printf("failed to increase receive buffer size (wanted: %d kiB)", 7168)
	if got := text.String(); !strings.HasPrefix(got, "time=") || !strings.HasSuffix(got, " level=WARN msg=\"failed to increase receive buffer size (wanted: 7168 kiB)\"\n") {
		t.Errorf("logged %q", got)
	}
}
