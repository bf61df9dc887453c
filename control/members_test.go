package control

import (
	"testing"

	"github.com/selvage-edge/selvage/control/identity"
	"github.com/selvage-edge/selvage/feed"
)

// published is a node's entry as a subscriber's snapshot has it.
func published(t *testing.T, c *Control, id string) (feed.Member, bool) {
	t.Helper()
	var m feed.Member
	found := false
	err := c.publish.Snapshot(t.Context(), "", func(feed.Cursor) error { return nil }, func(key string, value []byte, _ uint64) (err error) {
		if key == feed.NodeKey(id) {
			found = true
			m, err = feed.DecodeMember(value)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return m, found
}

func TestNodeHasAnEntryFromItsAnnouncementToItsRevocation(t *testing.T) {
	c, ctx := publishing(t)
	const id = "0123456789abcdef0123456789abcdef"
	say := func(peer string) error {
		return c.nodes.announce(ctx, id, announced{"FRA", feed.Announcement{Peer: []string{peer}, Region: "eu"}})
	}
	if err := say("192.0.2.1:7844"); !feed.Refused(err, feed.ReasonUnknown) {
		t.Errorf("announcement of a stranger: %v, want unknown node", err)
	}
	if err := c.nodes.PutNode(ctx, identity.Node{ID: id, Colo: "FRA", HPKE: []byte("key")}); err != nil {
		t.Fatal(err)
	}
	if _, found := published(t, c, id); found {
		t.Error("a node that said nothing yet has an entry")
	}
	var head uint64
	for i, peer := range []string{"192.0.2.1:7844", "192.0.2.1:7844", "192.0.2.1:7845"} {
		if err := say(peer); err != nil {
			t.Fatal(err)
		}
		m, found := published(t, c, id)
		if !found || m.Colo != "FRA" || m.Peer[0] != peer || m.Region != "eu" || m.Since.IsZero() {
			t.Errorf("entry %+v, found %t, want %s", m, found, peer)
		}
		seq, _ := c.publish.Head()
		if same := i == 1; same != (seq == head) {
			t.Errorf("announcement %d moves the feed from %d to %d", i, head, seq)
		}
		head = seq
	}
	// A renewal that was read before keeps what was announced meanwhile.
	if err := c.nodes.PutNode(ctx, identity.Node{ID: id, Colo: "FRA", HPKE: []byte("key"), Serial: "2"}); err != nil {
		t.Fatal(err)
	}
	if err := say("192.0.2.1:7845"); err != nil {
		t.Fatal(err)
	}
	if seq, _ := c.publish.Head(); seq != head {
		t.Errorf("after a renewal the same announcement moves the feed to %d", seq)
	}
	if err := c.revoke(ctx, id); err != nil {
		t.Fatal(err)
	}
	if m, found := published(t, c, id); found {
		t.Errorf("a revoked node has the entry %+v", m)
	}
	if err := say("192.0.2.1:7846"); !feed.Refused(err, feed.ReasonRevoked) {
		t.Errorf("announcement after the revocation: %v, want revoked", err)
	}
}
