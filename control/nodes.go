package control

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/selvage-edge/selvage/control/identity"
	"github.com/selvage-edge/selvage/control/progress"
	"github.com/selvage-edge/selvage/control/publish"
	"github.com/selvage-edge/selvage/control/store"
	"github.com/selvage-edge/selvage/fault"
	"github.com/selvage-edge/selvage/feed"
)

// nodes is identity's keeping of join tokens and nodes, in the store. A node
// that joins is in the audit trail; one that is revoked is published as such.
type nodes struct {
	store   *store.Store
	publish *publish.Publisher // set once, before the first node joins
}

var _ identity.Tokens = (*nodes)(nil)

// PutJoin is identity.Tokens'.
func (n *nodes) PutJoin(ctx context.Context, hash []byte, expires time.Time) error {
	return n.store.Write(ctx, func(tx *store.Tx) error { return tx.PutJoin(ctx, hash, expires) })
}

// TakeJoin is identity.Tokens'.
func (n *nodes) TakeJoin(ctx context.Context, hash []byte) (taken bool, err error) {
	err = n.store.Write(ctx, func(tx *store.Tx) (err error) {
		taken, err = tx.TakeJoin(ctx, hash)
		return err
	})
	return taken, err
}

// PutNode is identity.Tokens'.
func (n *nodes) PutNode(ctx context.Context, node identity.Node) error {
	var document []byte
	put := func(tx *store.Tx) error {
		if err := tx.Lock(ctx, lockNodes); err != nil {
			return err
		}
		// A node that was revoked while it renewed stays out.
		stored, known, err := readNode(ctx, tx, node.ID)
		if err != nil || known && stored.Revoked && !node.Revoked {
			return cmp.Or(err, feed.Refuse(feed.ReasonRevoked, "%s", node.ID))
		}
		// What it announced meanwhile stays, until it is revoked.
		if node.Member = stored.Member; node.Revoked {
			node.Member = nil
		}
		if document, err = json.Marshal(node); err != nil {
			return fmt.Errorf("encode node %s: %w", node.ID, err)
		}
		return tx.PutNode(ctx, node.ID, string(document))
	}
	old, known, err := n.Node(ctx, node.ID)
	if err != nil {
		return err
	}
	action := publish.Action{Actor: "control", Name: "node.put", Object: node.ID}
	switch {
	case node.Revoked:
		action.Name = "node.revoke"
		_, err = n.publish.Write(ctx, action, func(tx *store.Tx) (publish.Written, error) {
			if err := put(tx); err != nil {
				return publish.Written{}, err
			}
			// By its entry other edges let it in.
			gone := feed.Change{Op: feed.Delete, Key: feed.NodeKey(node.ID)}
			return publish.Written{Changes: []feed.Change{gone, revokedNow(node.ID)}, After: string(document)}, nil
		})
	case known && !old.Revoked && bytes.Equal(old.HPKE, node.HPKE):
		err = n.store.Write(ctx, put)
	default:
		_, err = n.publish.Write(ctx, action, func(tx *store.Tx) (publish.Written, error) {
			return publish.Written{After: fmt.Sprintf(`{"node":%q}`, node.ID)}, put(tx)
		})
	}
	return err
}

// revokedNow tells relays whom not to serve, and those below them whom not to
// believe.
func revokedNow(id string) feed.Change {
	return feed.Change{Op: feed.Set, Key: feed.RevokedKey(id), Value: []byte(time.Now().UTC().Format(time.RFC3339))}
}

// tellRevoked publishes the nodes that were revoked before relays had to know.
func (n *nodes) tellRevoked(ctx context.Context) error {
	told := map[string]bool{}
	var untold []feed.Change
	if err := n.store.Read(ctx, func(tx *store.Tx) error {
		err := tx.Keys(ctx, feed.PrefixRevoked, func(key string, _ []byte, _ uint64) error {
			if !strings.HasPrefix(key, feed.PrefixRevoked) {
				return errEnough
			}
			told[key] = true
			return nil
		})
		if err != nil && !errors.Is(err, errEnough) {
			return err
		}
		all, err := readNodes(ctx, tx)
		for _, node := range all {
			if c := revokedNow(node.ID); node.Revoked && !told[c.Key] {
				untold = append(untold, c)
			}
		}
		return err
	}); err != nil || len(untold) == 0 {
		return err
	}
	_, err := n.publish.Write(ctx, publish.Action{Actor: "control", Name: "node.revoke", Object: "earlier"}, func(*store.Tx) (publish.Written, error) {
		return publish.Written{Changes: untold, Split: true}, nil
	})
	return err
}

var errEnough = errors.New("all that was looked for was found")

// Node is identity.Tokens'.
func (n *nodes) Node(ctx context.Context, id string) (node identity.Node, known bool, err error) {
	err = n.store.Read(ctx, func(tx *store.Tx) (err error) {
		node, known, err = readNode(ctx, tx, id)
		return err
	})
	return node, known, err
}

func readNode(ctx context.Context, tx *store.Tx, id string) (node identity.Node, known bool, err error) {
	document, err := tx.Node(ctx, id)
	if fault.Is(err, fault.NotFound) {
		return node, false, nil
	}
	if err == nil {
		err = json.Unmarshal([]byte(document), &node)
	}
	return node, err == nil, err
}

// Nodes is identity.Tokens'.
func (n *nodes) Nodes(ctx context.Context) (all []identity.Node, err error) {
	err = n.store.Read(ctx, func(tx *store.Tx) (err error) {
		all, err = readNodes(ctx, tx)
		return err
	})
	return all, err
}

func readNodes(ctx context.Context, tx *store.Tx) ([]identity.Node, error) {
	documents, err := tx.Nodes(ctx)
	all := make([]identity.Node, len(documents))
	for i, d := range documents {
		if err := json.Unmarshal([]byte(d), &all[i]); err != nil {
			return nil, fmt.Errorf("read node: %w", err)
		}
	}
	return all, err
}

// lockNodes is held by whoever writes a node or what depends on which there
// are.
const lockNodes = "nodes"

// colos are the data centers that have nodes.
func colos(ctx context.Context, tx *store.Tx) ([]string, error) {
	all, err := readNodes(ctx, tx)
	var in []string
	for _, n := range all {
		if !n.Revoked && !slices.Contains(in, n.Colo) {
			in = append(in, n.Colo)
		}
	}
	return in, err
}

// revoke shuts a node out for good. Its certificate stays valid until it ends;
// the control plane does not take it any more.
func (c *Control) revoke(ctx context.Context, nodeID string) error {
	if err := c.authority.Revoke(ctx, nodeID); err != nil {
		return err
	}
	c.feed.Drop(nodeID, feed.ReasonRevoked)
	return nil
}

// reached reports whether every node that may connect has told this control plane
// that it applied an entry.
func (c *Control) reached(ctx context.Context, seq uint64) (bool, error) {
	all, err := c.progress.At(ctx, seq)
	return err == nil && !slices.ContainsFunc(all, func(n progress.Node) bool { return n.Applied < seq }), err
}
