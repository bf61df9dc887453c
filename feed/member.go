package feed

import (
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"strconv"
	"time"
)

// PrefixNode begins the keys under which the feed carries its own nodes:
//
//	node/{node id} → Member
//
// A node has an entry from its first announcement until it is revoked: who is
// not there is no node any more, whatever certificate it shows.
const PrefixNode = "node/"

// NodeKey is the key of a node's entry.
func NodeKey(nodeID string) string { return PrefixNode + nodeID }

// PrefixRevoked begins the keys of nodes that were shut out. They stay, so that
// whoever starts from a snapshot knows as well whom not to serve and not to
// believe:
//
//	revoked/{node id} → time, RFC 3339
const PrefixRevoked = "revoked/"

// RevokedKey is the key that shuts a node out.
func RevokedKey(nodeID string) string { return PrefixRevoked + nodeID }

// revokes reports whether an entry shuts a node out.
func (e *Entry) revokes(node string) bool {
	return slices.ContainsFunc(e.Changes, func(c Change) bool { return c.Op == Set && c.Key == RevokedKey(node) })
}

// Announcement is what a node tells its parent of itself each time it connects.
type Announcement struct {
	// Peer is where other edges reach it, host:port, the best first; none when
	// it has no listener for them.
	Peer []string `json:"peer,omitempty"`
	// Region names data centers that are near each other; "" for none.
	Region string `json:"region,omitempty"`
	// Hub says that its data center collects for its region.
	Hub bool `json:"hub,omitempty"`
}

// Member is a node as all others are told of it.
type Member struct {
	Colo string `json:"colo"`
	Announcement
	Since time.Time `json:"since"` // of what it announced
}

// Bounds on an announcement.
const (
	MaxPeerAddrs   = 4
	maxAddrBytes   = 255
	maxRegionBytes = 32
)

// Check names what is wrong with an announcement.
func (a *Announcement) Check() error {
	if len(a.Peer) > MaxPeerAddrs {
		return fmt.Errorf("peer: %d addresses, at most %d: %w", len(a.Peer), MaxPeerAddrs, ErrLimit)
	}
	for _, addr := range a.Peer {
		host, port, err := net.SplitHostPort(addr)
		if err != nil || host == "" || len(addr) > maxAddrBytes {
			return fmt.Errorf("peer: %.40q is no host:port of at most %d bytes", addr, maxAddrBytes)
		}
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return fmt.Errorf("peer: %.40q: port from 1 to 65535 is needed", addr)
		}
	}
	return CheckRegion(a.Region)
}

// CheckRegion refuses what is no region's name: up to 32 of a-z, 0-9 and '-'.
func CheckRegion(s string) error {
	if len(s) > maxRegionBytes || slices.ContainsFunc([]byte(s), func(b byte) bool {
		return (b < 'a' || b > 'z') && (b < '0' || b > '9') && b != '-'
	}) {
		return fmt.Errorf("region: at most %d of a-z, 0-9 and '-' are needed, got %.40q", maxRegionBytes, s)
	}
	return nil
}

// DecodeMember reads a node's entry.
func DecodeMember(value []byte) (m Member, err error) {
	if err := json.Unmarshal(value, &m); err != nil {
		return m, fmt.Errorf("node entry: %w", err)
	}
	if !ValidColo(m.Colo) {
		return m, fmt.Errorf("node entry: colo %.10q", m.Colo)
	}
	return m, m.Check()
}

// append is the payload of an announce frame.
func (a *Announcement) append(dst []byte) ([]byte, error) {
	p, err := json.Marshal(a)
	return append(dst, p...), err
}

func decodeAnnouncement(p []byte) (a Announcement, err error) {
	if err := json.Unmarshal(p, &a); err != nil {
		return a, fmt.Errorf("announcement: %w: %w", errFrame, err)
	}
	if err := a.Check(); err != nil {
		return a, fmt.Errorf("announcement: %w: %w", errFrame, err)
	}
	return a, nil
}
