package edge

import (
	"errors"
	"testing"
	"time"

	"github.com/selvage-edge/selvage/edge/peer"
	"github.com/selvage-edge/selvage/edge/request"
	"github.com/selvage-edge/selvage/feed"
	"github.com/selvage-edge/selvage/internal/arena"
	"github.com/selvage-edge/selvage/wire/msg"
	"github.com/selvage-edge/selvage/zone"
)

// An entry that is in the copy has not taken effect yet: a purge in it still
// waits for the entries that came along.
func TestPeerIsRefusedUntilItsSeqHasTakenEffect(t *testing.T) {
	e := inMemory(t, site(), stored)
	var err error
	if e.copy, err = feed.OpenCopy(t.TempDir()+"/copy", feed.CopyOptions{NoSync: true}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.copy.Close(); err != nil {
			t.Error(err)
		}
	})
	e.feed = feed.NewSubscriber(feed.SubscriberConfig{Copy: e.copy})
	entry := feed.Seal([32]byte{}, 1, time.Now(), []feed.Change{{Op: feed.Signal, Key: zone.PrefixPurge + site().ID, Value: []byte(`{}`)}})
	if err := e.copy.Apply(&entry); err != nil {
		t.Fatal(err)
	}
	in := ask("/")
	r := &Request{In: in, Out: new(msg.Response), Ctx: e.requests, Arena: new(arena.Arena), Body: request.NewBody(nil, 0)}
	if err := e.passOn(peer.Envelope{Zone: site().ID, Seq: 1}, r); !errors.Is(err, errBehind) {
		t.Errorf("stored and not settled: %v, want %v", err, errBehind)
	}
}
