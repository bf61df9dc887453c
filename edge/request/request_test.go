package request

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/selvage-edge/selvage/internal/arena"
	"github.com/selvage-edge/selvage/wire/msg"
)

func TestPeekThenReadGivesTheWholeBodyOnce(t *testing.T) {
	const text = "the quick brown fox"
	for _, limit := range []int{0, 4, len(text), len(text) + 1, 10_000} {
		b := NewBody(io.NopCloser(strings.NewReader(text)), int64(len(text)))
		held, more, err := b.Peek(limit)
		if err != nil || len(held) != min(limit, len(text)) || more != (limit <= len(text)) {
			t.Errorf("Peek(%d) = %q, %v, %v", limit, held, more, err)
		}
		got, err := io.ReadAll(&b)
		if string(got) != text || err != nil {
			t.Errorf("after Peek(%d): %q, %v", limit, got, err)
		}
		if again := b.Rewind(); again != (limit > len(text)) {
			t.Errorf("Rewind after Peek(%d) = %v", limit, again)
		}
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }
func (failing) Close() error               { return nil }

func TestPeekReportsTheVisitorsFailure(t *testing.T) {
	gone := errors.New("gone")
	b := NewBody(failing{gone}, msg.LengthUnknown)
	if _, _, err := b.Peek(10); !errors.Is(err, gone) {
		t.Errorf("Peek: %v", err)
	}
	if _, err := b.Read(make([]byte, 1)); !errors.Is(err, gone) {
		t.Errorf("Read: %v", err)
	}
	if b.Rewind() {
		t.Error("a body that failed can be sent again")
	}
	var none Body
	if held, more, err := none.Peek(5); held != nil || more || err != nil || none.Present() || !none.Rewind() {
		t.Error("the empty body is not empty")
	}
}

func TestDetachedRequestLivesOnItsOwn(t *testing.T) {
	buffer := []byte("GET /path?q=1 host.test value")
	r := &Request{Arena: &arena.Arena{}, Out: &msg.Response{}, Ctx: t.Context(), In: &msg.Request{
		MethodText: buffer[0:3], Method: msg.GET, Path: buffer[4:9], Query: buffer[10:13], Target: buffer[4:13], Authority: buffer[14:23],
	}}
	r.Host = buffer[14:23]
	r.In.Fields.Add([]byte("X-Thing"), buffer[24:])
	r.ZoneID, r.Seq = "z", 9
	d := r.Detach(context.WithoutCancel(t.Context()))
	clear(buffer)
	r.Reset()
	if got := string(d.In.MethodText) + " " + string(d.In.Path) + "?" + string(d.In.Query) + " " + string(d.Host) + " " + string(d.In.Fields.Lookup("x-thing")); got != "GET /path?q=1 host.test value" {
		t.Errorf("detached request reads %q", got)
	}
	if d.ZoneID != "z" || d.Seq != 9 || r.ZoneID != "" {
		t.Error("notes not kept in the copy, or kept in the original")
	}
}

func TestRay(t *testing.T) {
	if got := string(Ray(0x0123456789abcdef).AppendWithColo(nil, "FRA")); got != "0123456789abcdef-FRA" {
		t.Errorf("%q", got)
	}
}

func TestStatusAndTierTextsAreComplete(t *testing.T) {
	if CacheUpdating.String() != "UPDATING" || TierOrigin.String() != "origin" || CacheNone.String() != "NONE" || TierEdge.String() != "edge" {
		t.Error("texts do not line up with their constants")
	}
}
