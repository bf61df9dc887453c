// Selvage is an edge network in one program: `selvage edge` serves visitors,
// `selvage control` accepts changes and publishes them, `selvage dev` runs both
// on one machine, and the other commands speak to the public API.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// version is set by the build: -ldflags "-X main.version=v1.2.3".
var version string

func main() {
	os.Exit(program())
}

func program() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// The second signal has its usual effect: it ends a program that drains.
	context.AfterFunc(ctx, stop)
	a := &app{
		out: os.Stdout, err: os.Stderr, getenv: os.Getenv, environ: os.Environ(),
		executable: os.Executable, version: versionText(version),
	}
	a.adoptLog()
	return a.run(ctx, os.Args[1:])
}
