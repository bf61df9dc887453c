package edge

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/selvage-edge/selvage/feed"
)

// relayGather is how long a relay gathers: what comes has been gathered at the
// root already, and comes in one piece.
const relayGather = 5 * time.Millisecond

// retention is what the copy keeps for edges below this one; nothing without a
// listener for them.
func (c *Config) retention() feed.Retention {
	if c.Relay == "" {
		return feed.Retention{}
	}
	return feed.Retention{Entries: c.RelayKeepEntries, Age: c.RelayKeepTime, Bytes: c.RelayKeepBytes}
}

// openRelay builds the server of the feed, where there is a listener for it. It
// serves from the copy alone, so it may run before the subscriber does.
func (e *Edge) openRelay() error {
	if e.sockets.relay == nil {
		return nil
	}
	if e.cfg.Replica == ReplicaPartial {
		return errors.New("replica: partial holds too little to be a relay; a socket for one was handed over")
	}
	if !e.identity.Relay() {
		return errors.New("relay: this edge joined with a token for an edge alone; it has to join anew (an empty --state) with one of `selvage control token --join --relay`")
	}
	e.relay = feed.NewServer(feed.ServerConfig{
		Log: feed.NewRelayLog(e.copy), Copy: e.copy, Identity: e.identity, Known: e.mayFollow, Gather: relayGather,
		Upstream: func() feed.Upstream { return e.feed.Upstream() }, Pass: e.up, OnFrame: e.passUp,
		Logger: e.log.With("part", "relay"),
	})
	return nil
}

// mayFollow refuses nodes that were shut out, as far as this edge has heard.
func (e *Edge) mayFollow(_ context.Context, node string) error {
	_, _, revoked, err := e.copy.Get(feed.RevokedKey(node))
	if err != nil {
		return fmt.Errorf("look up node %s: %w", node, err)
	}
	if revoked {
		return feed.Refuse(feed.ReasonRevoked, "%s", node)
	}
	return nil
}

// dropRevoked ends the connections of nodes that a snapshot says were shut out.
func (e *Edge) dropRevoked(ctx context.Context) {
	if e.relay == nil {
		return
	}
	for _, p := range e.relay.Peers() {
		if feed.Refused(e.mayFollow(ctx, p.Node), feed.ReasonRevoked) {
			e.relay.Drop(p.Node, feed.ReasonRevoked)
		}
	}
}
