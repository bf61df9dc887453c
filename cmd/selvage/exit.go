package main

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/selvage-edge/selvage/client"
	"github.com/selvage-edge/selvage/fault"
)

// Exit codes; docs/reference/cli.md explains them.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitMissing     = 3 // done, but not acknowledged by every edge in time
	exitRefused     = 4 // the API said no
	exitUnreachable = 5 // the API did not answer
)

// codedError carries the exit code that an error ends the program with.
type codedError struct {
	code int
	err  error
}

func (e *codedError) Error() string { return e.err.Error() }
func (e *codedError) Unwrap() error { return e.err }

// usage is an error in what the user typed or wrote into a file.
func usage(format string, args ...any) error {
	return &codedError{exitUsage, fmt.Errorf(format, args...)}
}

func exitCode(err error) int {
	if e, ok := errors.AsType[*codedError](err); ok {
		return e.code
	}
	if _, ok := errors.AsType[*client.Error](err); ok {
		return exitRefused
	}
	if fault.Is(err, fault.NotFound) {
		return exitRefused
	}
	if fault.Is(err, fault.Unreachable) {
		return exitUnreachable
	}
	return exitFailed
}

// explain adds the next step to errors that come from below the commands.
func explain(err error) error {
	if fault.Is(err, fault.Unreachable) {
		return fmt.Errorf("%w; see that \"selvage dev\" or \"selvage control\" runs there, or give another address with --api URL", fault.As(err).Err)
	}
	e, ok := errors.AsType[*client.Error](err)
	switch {
	case ok && (e.Status == http.StatusUnauthorized || e.Status == http.StatusForbidden):
		return fmt.Errorf("the API refused: %w; check the token that --token, SELVAGE_TOKEN or the state folder gives", err)
	case ok && error(e) == err: // nothing was said around it
		return fmt.Errorf("the API refused: %w", err)
	}
	return err
}
