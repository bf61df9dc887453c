package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/selvage-edge/selvage/control/publish"
	"github.com/selvage-edge/selvage/fault"
)

func TestEveryErrorHasAStatus(t *testing.T) {
	inner := errors.New("at /var/lib/selvage: secret detail")
	for _, c := range []struct {
		err    error
		status int
		says   string
	}{
		{Invalid(CodeBody, "name", "is missing"), 400, "name: is missing"},
		{&publish.Refusal{Err: errors.New("content: bad")}, 400, "content: bad"},
		{&http.MaxBytesError{Limit: 5}, 413, "more than 5 bytes"},
		{&fault.Error{Op: "store.zone", Kind: fault.NotFound, Err: inner}, 404, "zone_id"},
		{&fault.Error{Op: "publish.create", Kind: fault.Conflict, Err: errors.New("a.test already exists")}, 409, "name: a.test"},
		{fmt.Errorf("x: %w", &fault.Error{Op: "store.write", Kind: fault.Limit, Err: inner}), 507, "disk"},
		{&fault.Error{Op: "store.open", Kind: fault.Malformed, Err: inner}, 500, "internal error"},
		{context.Canceled, 503, "given up"},
		{inner, 500, "internal error"},
	} {
		p := AsProblem(c.err)
		if p.Status != c.status || !strings.Contains(p.Message, c.says) {
			t.Errorf("%v: %d %q, want %d and %q", c.err, p.Status, p.Message, c.status, c.says)
		}
		if p.Status >= 500 && strings.Contains(p.Message, "secret") {
			t.Errorf("%v tells the caller what is inside: %q", c.err, p.Message)
		}
	}
}
