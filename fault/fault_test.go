package fault

import (
	"errors"
	"fmt"
	"io"
	"testing"
)

func TestAsFindsTheFaultOrBlamesTheEdge(t *testing.T) {
	inner := &Error{Op: "origin.dial", Side: Origin, Kind: Refused, Retry: true, Err: io.EOF}
	if got := As(fmt.Errorf("fetch: %w", inner)); got != inner {
		t.Errorf("As = %v", got)
	}
	if got := As(io.EOF); got.Side != Edge || got.Kind != Other || !errors.Is(got, io.EOF) {
		t.Errorf("plain error becomes %+v", got)
	}
	if !Is(fmt.Errorf("x: %w", inner), Refused) || Is(inner, Timeout) || Is(io.EOF, Refused) {
		t.Error("Is does not tell kinds apart")
	}
	if inner.Error() != "origin.dial: EOF" || (&Error{Op: "x", Kind: Loop}).Error() != "x: loop" {
		t.Errorf("texts %q, %q", inner, &Error{Op: "x", Kind: Loop})
	}
}
