package control

import (
	"context"
	"log/slog"
	"testing"

	"github.com/selvage-edge/selvage/control/identity"
	"github.com/selvage-edge/selvage/feed"
)

// publishing is a control plane that publishes and does no more, until the test
// ends; its context ends before.
func publishing(t *testing.T) (*Control, context.Context) {
	t.Helper()
	c, err := New(t.Context(), stateConfig(t), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.publish.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c, ctx
}

// A renewal reads its node, and a revocation comes before it writes.
func TestRenewalDoesNotUndoARevocation(t *testing.T) {
	c, ctx := publishing(t)
	const id = "0123456789abcdef0123456789abcdef"
	node := identity.Node{ID: id, Colo: "FRA", HPKE: []byte("key")}
	if err := c.nodes.PutNode(ctx, node); err != nil {
		t.Fatal(err)
	}
	read, known, err := c.nodes.Node(ctx, id)
	if err != nil || !known {
		t.Fatalf("node known %t, %v", known, err)
	}
	if err := c.revoke(ctx, id); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"key", "new key"} {
		read.HPKE = []byte(key)
		if err := c.nodes.PutNode(ctx, read); !feed.Refused(err, feed.ReasonRevoked) {
			t.Errorf("renewal with %q: %v, want revoked", key, err)
		}
	}
	if err := c.authority.Known(ctx, id); !feed.Refused(err, feed.ReasonRevoked) {
		t.Errorf("after the renewal: %v, want revoked", err)
	}
}
