package edge

import (
	"context"
	"encoding/json"
	"path/filepath"
	"strings"

	"github.com/selvage-edge/selvage/edge/pair"
	"github.com/selvage-edge/selvage/edge/tlsterm"
	"github.com/selvage-edge/selvage/feed"
	"github.com/selvage-edge/selvage/zone"
)

// openPairs makes the keeper of certificates' pairs, and returns what puts them
// into a zone. A Kit has none.
func (e *Edge) openPairs(view copyReader) (fill func(*zone.Spec) error) {
	if e.cfg.State == "" {
		return nil
	}
	e.pairs = pair.New(pair.Config{
		Dir: filepath.Join(e.cfg.State, "pairs"), Node: e.identity.NodeID, Open: e.identity.OpenKey, Copy: view,
		Up:      func(kind byte, payload []byte) bool { return e.feed.Up(kind, payload) },
		Arrived: e.applier.arrived, Log: e.log.With("part", "pairs"),
	})
	return e.pairs.Fill
}

// comparePairs has what the copy names fetched. A partial replica does not hold
// the rows for that; it fetches what the zones that it compiles need.
func (e *Edge) comparePairs() {
	if e.pairs != nil && e.cfg.Replica != ReplicaPartial {
		e.pairs.Compare()
	}
}

// awaitPairs is tlsterm's: a handshake needs pairs that have not come.
func (e *Edge) awaitPairs(ctx context.Context, zoneID string, lack []tlsterm.Lack) {
	for _, l := range lack {
		ref, err := pair.RefOf(&zone.Certificate{ID: l.ID, Pair: l.Pair})
		if err != nil {
			continue // of an earlier version: its key comes by the feed
		}
		e.pairs.Await(ctx, zoneID, ref)
	}
}

// onDown takes in frames of the parent's that are no part of the log, and passes
// on what is for edges below.
func (e *Edge) onDown(_ context.Context, kind byte, payload []byte) error {
	switch kind {
	case feed.KindCertificateStaged:
		s, err := feed.DecodeStaged(payload)
		if err != nil {
			return err
		}
		if s.Node == "" || s.Node == e.identity.NodeID {
			e.pairs.Staged(s.Pairs)
		}
		if s.Node == "" && e.relay != nil {
			e.relay.Broadcast(kind, payload)
		} else {
			e.passDown(s.Node, kind, payload)
		}
	case feed.KindCertificate:
		d, err := feed.DecodeDelivery(payload)
		if err != nil {
			return err
		}
		if d.Node == e.identity.NodeID {
			e.pairs.Deliver(d)
		} else {
			e.passDown(d.Node, kind, payload)
		}
	}
	return nil
}

// passDown sends a frame on to an edge below this one. It may be lost, as with a
// connection.
func (e *Edge) passDown(node string, kind byte, payload []byte) {
	if e.relay != nil && node != e.identity.NodeID {
		e.relay.Send(node, kind, payload)
	}
}

// passUp is the relay's: what edges below want and hold goes on to the parent,
// as far as they speak of themselves.
func (e *Edge) passUp(kind byte, from feed.NodeInfo, payload []byte) error {
	w, err := feed.DecodeWanted(payload)
	if err != nil {
		return err
	}
	if e.relay.Speaks(from.Node, w.Node) {
		_ = e.feed.Up(kind, payload) // asked for again where there is no room
	}
	return nil
}

// certificate notes that an entry changed a key of a zone: what it names is
// fetched, whether the zone is in memory or not.
func (a *applier) certificate(c *feed.Change) {
	rest, _ := strings.CutPrefix(c.Key, zone.PrefixZone)
	id, part, _ := strings.Cut(rest, "/")
	certID, ok := strings.CutPrefix(part, "cert/")
	if !ok || a.edge.pairs == nil {
		return
	}
	if c.Op == feed.Delete {
		a.edge.pairs.Drop(certID)
		return
	}
	var told zone.Certificate
	if json.Unmarshal(c.Value, &told) != nil {
		return // the zone is rejected when it is compiled
	}
	if ref, err := pair.RefOf(&told); err == nil {
		a.edge.pairs.Want(id, ref)
	}
}

// arrived makes true that a pair of a zone came, which was read without it.
func (a *applier) arrived(zoneID string) {
	a.turn.Lock()
	defer a.turn.Unlock()
	at := a.copy.Cursor().Seq
	if err := a.edge.zones.Refresh(zoneID, func() error { return a.load(zoneID, at) }); err != nil {
		a.edge.log.Error("a zone whose certificate came cannot be served anew", "zone", zoneID, "error", err)
	}
}
