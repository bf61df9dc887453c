package feed

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// below is what a server knows of the nodes that hang below it: of those that
// relays report, and, where it is a relay itself, of its own subscribers, for
// its parent has to hear of all.
type below struct {
	dropped atomic.Uint64 // rejections and nodes that there was no room for

	mu      sync.Mutex
	nodes   map[string]*belowNode // guarded by mu
	fresh   bool                  // some came that the parent was not told of; guarded by mu
	rejects []record              // to be told to the parent, oldest first; guarded by mu
	past    []record              // the newest of those that were told; guarded by mu
}

// belowNode is one of them.
type belowNode struct {
	info     NodeInfo
	own      bool   // a subscriber of this server's
	gone     bool   // its connection ended; forgotten when that was told
	dirty    bool   // to be told to the parent
	announce []byte // what it said of itself; nil for nothing
	said     bool   // that was told to the parent
}

const (
	maxBelow   = 65536 // nodes below one server
	maxRejects = 1024  // rejections that wait for a parent
)

// direct notes a subscriber of this server's, which what relays say of it
// earlier does not count against. track is set on relays.
func (b *below) direct(n NodeInfo, track bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !track {
		delete(b.nodes, n.Node)
		return
	}
	if len(b.nodes) < maxBelow || b.nodes[n.Node] != nil {
		b.nodes[n.Node] = &belowNode{info: n, own: true, dirty: true}
		b.fresh = true
	}
}

// left notes that a subscriber of this server's went.
func (b *below) left(node string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if n := b.nodes[node]; n != nil && n.own {
		n.own, n.gone, n.dirty = false, true, true
	}
}

// reached notes how far a subscriber of this server's came.
func (b *below) reached(info NodeInfo, seq uint64, rejected string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := b.nodes[info.Node]
	if n == nil {
		return
	}
	if rejected != "" {
		b.reject(record{kind: recordRejected, node: info.Node, colo: info.Colo, seq: seq, at: time.Now(), since: info.Since, reason: rejected})
		return
	}
	if n.info.Acked != seq {
		n.info.Acked, n.dirty = seq, true
	}
}

// reject is called with mu held.
func (b *below) reject(r record) {
	if len(b.rejects) == maxRejects {
		b.rejects = b.rejects[1:]
		b.dropped.Add(1)
	}
	b.rejects = append(b.rejects, r)
}

func (b *below) announced(node string, text []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if n := b.nodes[node]; n != nil {
		n.announce, n.said = slices.Clone(text), false
	}
}

// told takes in what the relay via says of a node. It reports how the node is
// known now, and whether it came, went or is not for this relay to speak of.
func (b *below) told(r record, via string, pass bool) (info NodeInfo, came, went, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := b.nodes[r.node]
	info = NodeInfo{Node: r.node, Colo: r.colo, Via: via, Since: r.since, Acked: r.seq}
	if r.kind == recordRejected {
		if info.Acked = 0; n != nil {
			info.Acked = n.info.Acked
		}
		if pass {
			b.reject(r)
		}
		return info, false, false, true
	}
	if r.kind == recordGone {
		if n == nil || n.own || n.gone || n.info.Via != via {
			return info, false, false, false
		}
		info = n.info
		b.forget(n, pass)
		return info, false, true, true
	}
	if n != nil && (n.own || !n.gone && n.info.Via != via && n.info.Since.After(r.since)) {
		return info, false, false, false // it moved on meanwhile
	}
	if n == nil && len(b.nodes) >= maxBelow {
		b.dropped.Add(1)
		return info, false, false, false
	}
	came = n == nil || n.gone || n.info.Via != via
	if n == nil {
		n = &belowNode{}
		b.nodes[r.node] = n
	}
	n.info, n.gone, n.dirty = info, false, pass
	b.fresh = b.fresh || came
	return info, came, false, true
}

// forget is called with mu held: at the root at once, on a relay when the
// parent was told.
func (b *below) forget(n *belowNode, pass bool) {
	if pass {
		n.gone, n.dirty = true, true
		return
	}
	delete(b.nodes, n.info.Node)
}

// cut forgets all that hung below a relay that went, and returns them.
func (b *below) cut(via string, pass bool) (gone []NodeInfo) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, n := range b.nodes {
		if n.info.Via == via && !n.own && !n.gone {
			gone = append(gone, n.info)
			b.forget(n, pass)
		}
	}
	return gone
}

// list returns those that relays report.
func (b *below) list() []NodeInfo {
	b.mu.Lock()
	defer b.mu.Unlock()
	var list []NodeInfo
	for _, n := range b.nodes {
		if !n.own && !n.gone {
			list = append(list, n.info)
		}
	}
	return list
}

// all makes everything be told again: a new parent knows nothing, and one that
// mixed two relays' reports up learns it anew.
func (b *below) all(announcements bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, n := range b.nodes {
		n.dirty = true
		n.said = n.said && !announcements
	}
	if !announcements {
		return
	}
	// The last ones may be lost with the connection that carried them.
	b.rejects = slices.Concat(slices.DeleteFunc(b.past, func(r record) bool { return b.nodes[r.node] == nil }), b.rejects)
	b.past = nil
}

// news reports whether there are nodes that the parent was not told of: it
// believes no signals of theirs.
func (b *below) news() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.fresh
}

// take returns the frames that tell a parent what is new.
func (b *below) take() (frames [][]byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	progress := beginFrame(nil, frameProgress)
	add := func(r record) {
		if len(progress)+recordHead+len(r.reason) > frameHead+maxUpFrame {
			frames = append(frames, endFrame(progress, 0))
			progress = beginFrame(nil, frameProgress)
		}
		progress = r.append(progress)
	}
	for _, r := range b.rejects {
		add(r)
	}
	b.past = append(b.past, b.rejects...)
	b.past = b.past[max(0, len(b.past)-maxRejects):]
	b.rejects, b.fresh = nil, false
	now := time.Now()
	for id, n := range b.nodes {
		if n.announce != nil && !n.said && !n.gone {
			n.said = true
			f := appendNode(beginFrame(nil, frameBelow), id, n.info.Colo)
			frames = append(frames, endFrame(append(f, n.announce...), 0))
		}
		if !n.dirty {
			continue
		}
		n.dirty = false
		r := record{kind: recordReached, node: id, colo: n.info.Colo, seq: n.info.Acked, at: now, since: n.info.Since}
		if n.gone {
			r.kind = recordGone
			delete(b.nodes, id)
		}
		add(r)
	}
	if len(progress) > frameHead {
		frames = append(frames, endFrame(progress, 0))
	}
	return frames
}

// relayed handles what a relay says of the nodes below it.
func (x *session) relayed(kind byte, p []byte) error {
	s := x.server
	if !x.peer.Relay {
		return Refuse(ReasonRole, "node %s speaks of others, and is no relay", x.peer.Node)
	}
	pass := s.cfg.Upstream != nil
	if kind == frameBelow {
		node, colo, text, err := cutNode(p)
		if err != nil {
			return err
		}
		a, err := decodeAnnouncement(text)
		if err == nil {
			s.announced(NodeInfo{Node: node, Colo: colo, Via: x.peer.Node}, a, text)
		}
		return err
	}
	for len(p) > 0 {
		r, rest, err := cutRecord(p)
		if err != nil {
			return err
		}
		p = rest
		info, came, went, ok := s.below.told(r, x.peer.Node, pass)
		switch {
		case !ok:
		case went:
			s.hook(s.cfg.Disconnected, info)
		default:
			if came {
				s.hook(s.cfg.Connected, info)
			}
			if s.cfg.OnAck != nil {
				s.cfg.OnAck(info, r.seq, r.reason)
			}
		}
	}
	return nil
}

func (s *Server) hook(f func(NodeInfo), n NodeInfo) {
	if f != nil {
		f(n)
	}
}

// record is one line of a Progress frame.
type record struct {
	kind   byte
	node   string // 32 hex digits
	colo   string
	seq    uint64
	at     time.Time // when the relay heard of it
	since  time.Time // when the node connected
	reason string    // of a rejection
}

const (
	recordReached  = 1
	recordRejected = 2
	recordGone     = 3
	recordHead     = 1 + 16 + 3 + 8 + 8 + 8 + 2
)

func (r record) append(dst []byte) []byte {
	dst = appendNode(append(dst, r.kind), r.node, r.colo)
	dst = binary.BigEndian.AppendUint64(dst, r.seq)
	dst = binary.BigEndian.AppendUint64(dst, uint64(r.at.UnixNano()))
	dst = binary.BigEndian.AppendUint64(dst, uint64(r.since.UnixNano()))
	reason := r.reason[:min(len(r.reason), maxReasonBytes)]
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(reason)))
	return append(dst, reason...)
}

func cutRecord(p []byte) (r record, rest []byte, err error) {
	if len(p) < recordHead || p[0] < recordReached || p[0] > recordGone {
		return r, nil, errFrame
	}
	r.kind = p[0]
	if r.node, r.colo, p, err = cutNode(p[1:]); err != nil {
		return r, nil, err
	}
	r.seq = binary.BigEndian.Uint64(p)
	r.at = time.Unix(0, int64(binary.BigEndian.Uint64(p[8:]))).UTC()
	r.since = time.Unix(0, int64(binary.BigEndian.Uint64(p[16:]))).UTC()
	n := int(binary.BigEndian.Uint16(p[24:]))
	if p = p[26:]; n > len(p) || n > maxReasonBytes || (n > 0) != (r.kind == recordRejected) {
		return r, nil, errFrame
	}
	r.reason = string(p[:n])
	return r, p[n:], nil
}

// appendNode writes a node's number (16 bytes) and data center (3 bytes).
func appendNode(dst []byte, node, colo string) []byte {
	return append(appendNodeID(dst, node), colo...)
}

func appendNodeID(dst []byte, node string) []byte {
	var id [16]byte
	_, _ = hex.Decode(id[:], []byte(node)) // 32 hex digits, as its certificate says
	return append(dst, id[:]...)
}

func nodeText(id []byte) string { return hex.EncodeToString(id) }

func cutNode(p []byte) (node, colo string, rest []byte, err error) {
	if len(p) < 19 {
		return "", "", nil, errFrame
	}
	node, colo = nodeText(p[:16]), string(p[16:19])
	if !ValidColo(colo) {
		return "", "", nil, fmt.Errorf("colo %q: %w", colo, errFrame)
	}
	return node, colo, p[19:], nil
}
