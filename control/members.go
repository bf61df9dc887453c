package control

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/selvage-edge/selvage/control/publish"
	"github.com/selvage-edge/selvage/control/store"
	"github.com/selvage-edge/selvage/feed"
)

// members publishes what nodes announce of themselves, so that edges find each
// other. It holds the newest announcement of each node that is not written yet:
// as many as there are nodes, however often they connect.
type members struct {
	nodes *nodes
	log   *slog.Logger
	wake  chan struct{} // capacity 1: something waits

	mu      sync.Mutex
	waiting map[string]announced // by node; guarded by mu
}

type announced struct {
	colo string
	feed.Announcement
}

func newMembers(n *nodes, log *slog.Logger) *members {
	return &members{nodes: n, log: log, wake: make(chan struct{}, 1), waiting: map[string]announced{}}
}

// note takes in an announcement without waiting.
func (m *members) note(n feed.NodeInfo, a feed.Announcement) {
	m.mu.Lock()
	m.waiting[n.Node] = announced{n.Colo, a}
	m.mu.Unlock()
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// run publishes until ctx ends. What fails is tried again, unless something
// newer came meanwhile.
func (m *members) run(ctx context.Context) error {
	if err := m.nodes.tellRevoked(ctx); err != nil && ctx.Err() == nil {
		m.log.Error("nodes that were revoked earlier are not published to relays; a restart tries again", "error", err)
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-m.wake:
		}
		m.mu.Lock()
		batch := m.waiting
		m.waiting = map[string]announced{}
		m.mu.Unlock()
		failed := false
		for id, a := range batch {
			err := m.nodes.announce(ctx, id, a)
			if ctx.Err() != nil {
				return nil
			}
			if err == nil || feed.Refused(err, feed.ReasonRevoked) || feed.Refused(err, feed.ReasonUnknown) {
				continue
			}
			failed = true
			m.log.Error("a node's announcement is not published, trying again", "node", id, "error", err, "after", retryAfter)
			m.mu.Lock()
			if _, newer := m.waiting[id]; !newer {
				m.waiting[id] = a
			}
			m.mu.Unlock()
		}
		if !failed {
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(retryAfter):
		}
		select {
		case m.wake <- struct{}{}:
		default:
		}
	}
}

// announce stores and publishes what a node says of itself, where it differs
// from what it said before. A revoked node is refused.
func (n *nodes) announce(ctx context.Context, id string, a announced) error {
	stored, known, err := n.Node(ctx, id)
	if err != nil {
		return err
	}
	if !known {
		return feed.Refuse(feed.ReasonUnknown, "%s", id)
	}
	said := feed.Member{Colo: a.colo, Announcement: a.Announcement}
	if same, err := says(stored.Member, said); err != nil || same {
		return err
	}
	said.Since = time.Now().UTC()
	value, err := json.Marshal(said)
	if err != nil {
		return fmt.Errorf("encode member %s: %w", id, err)
	}
	action := publish.Action{Actor: "control", Name: "node.announce", Object: id}
	_, err = n.publish.Write(ctx, action, func(tx *store.Tx) (publish.Written, error) {
		if err := tx.Lock(ctx, lockNodes); err != nil {
			return publish.Written{}, err
		}
		node, known, err := readNode(ctx, tx, id)
		if err != nil {
			return publish.Written{}, err
		}
		if !known || node.Revoked {
			return publish.Written{}, feed.Refuse(feed.ReasonRevoked, "%s", id)
		}
		w := publish.Written{
			Changes: []feed.Change{{Op: feed.Set, Key: feed.NodeKey(id), Value: value}},
			Before:  string(node.Member), After: string(value),
		}
		node.Member = value
		document, err := json.Marshal(node)
		if err != nil {
			return w, fmt.Errorf("encode node %s: %w", id, err)
		}
		return w, tx.PutNode(ctx, id, string(document))
	})
	return err
}

// says reports whether a stored entry tells the same as an announcement, at
// whatever time.
func says(stored json.RawMessage, now feed.Member) (bool, error) {
	if stored == nil {
		return false, nil
	}
	was, err := feed.DecodeMember(stored)
	if err != nil {
		return false, nil // of another version: told anew
	}
	was.Since, now.Since = time.Time{}, time.Time{}
	a, err := json.Marshal(was)
	if err != nil {
		return false, err
	}
	b, err := json.Marshal(now)
	return string(a) == string(b), err
}
