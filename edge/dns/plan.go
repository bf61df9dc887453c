// Package dns answers names: the authoritative server of an edge, over UDP and
// TCP, for the zones that were compiled into it.
//
// Compile turns a zone's records into a Plan in which every answer stands
// packed as it goes on the wire; a query then costs a parse, a few probes of a
// table and one copy. The promises:
//
//   - The content of a proxied A, AAAA or CNAME record is not part of a Plan at
//     all, so no section of any answer can tell it. Such a name answers with
//     the edge's own addresses. (A paused zone has no proxied names.)
//   - Nothing is answered from outside memory, and a query allocates nothing.
//     One for a zone that is not in memory waits beside the others until it is,
//     if the server was told how to get it, for a bounded time.
//   - An answer over UDP is never longer than the client allowed, and never
//     longer than Config.UDPSize; what does not fit is left out by whole RRsets
//     with TC set.
//
// A CNAME at the apex is flattened. When it is proxied it answers with the
// edge's addresses; when it is not, its target must lie inside the zone, since
// an edge asks nobody while it answers: Compile refuses other targets.
package dns

import (
	"bytes"

	"github.com/selvage-edge/selvage/edge/hot"
)

// Plan is one compiled zone: immutable, and free of pointers but for its few
// slices, so that a hundred thousand of them cost the garbage collector
// nothing. A nil Plan answers for no name.
type Plan struct {
	ID, Name string // of the zone
	zone     []byte // apex in wire form, lower case
	labels   int    // of the apex
	slab     []byte // names of nodes, and RRsets as they go on the wire
	nodes    []node // node 0 is the apex
	index    []uint32
	sets     []set
	fix      []uint16 // see set.fix
	extra    []uint32 // see set.extra
	soa      uint32   // the set that negative answers carry
	cuts     bool     // at least one node is a delegation
}

// node is one existing name, empty non-terminals included.
type node struct {
	name  uint32 // where in the slab
	size  uint8  // length of the name in wire form
	cut   bool   // a delegation: NS below the apex
	count uint16 // of RRsets
	first uint32 // RRset
	wild  uint32 // number of the node "*.<this>", 0 when there is none
}

// set is one RRset. Each record begins with a pointer to the question's name,
// which is right whenever the owner is the name that was asked for.
type set struct {
	off, size uint32 // in the slab
	fix       uint32 // first of the places, counted from off, …
	fixes     uint16 // … where a pointer to the zone's name has to be written
	extras    uint16
	extra     uint32 // first of the nodes whose addresses go with this set
	typ       uint16
	count     uint16 // of records
	target    uint32 // CNAME: the node that its target comes to, or one of these
}

const (
	targetOutside uint32 = 1<<32 - 1 - iota // not ours to answer
	targetGone                              // in the zone, and does not exist
)

// name is a domain name taken apart: lower-case wire form, where each label
// starts, and the hash of each suffix, so that every ancestor is one probe.
type name struct {
	wire   [maxName]byte
	size   int
	starts [maxLabels]uint8
	hashes [maxLabels + 1]uint64 // hashes[i] is of the suffix from label i; [labels] is the root's
	labels int
}

const (
	maxName   = 255 // RFC 1035 §2.3.4
	maxLabels = 127
	maxLabel  = 63
)

// seal computes labels and hashes of n.wire[:n.size], a well-formed name.
func (n *name) seal() {
	n.labels = 0
	for at := 0; n.wire[at] != 0; at += int(n.wire[at]) + 1 {
		n.starts[n.labels] = uint8(at)
		n.labels++
	}
	h := uint64(0)
	n.hashes[n.labels] = h
	for i := n.labels - 1; i >= 0; i-- {
		at := int(n.starts[i])
		h = hot.Hash(h, n.wire[at+1:at+1+int(n.wire[at])])
		n.hashes[i] = h
	}
}

// suffix returns the wire form from label i on.
func (n *name) suffix(i int) []byte {
	if i >= n.labels {
		return n.wire[n.size-1 : n.size]
	}
	return n.wire[n.starts[i]:n.size]
}

// at returns the number of the node that is n's suffix from label i on.
func (p *Plan) at(n *name, i int) (uint32, bool) {
	want := n.suffix(i)
	mask := uint64(len(p.index) - 1)
	for h := n.hashes[i] & mask; ; h = (h + 1) & mask {
		number := p.index[h]
		if number == 0 {
			return 0, false
		}
		if bytes.Equal(p.nameOf(number-1), want) {
			return number - 1, true
		}
	}
}

func (p *Plan) nameOf(number uint32) []byte {
	nd := &p.nodes[number]
	return p.slab[nd.name : nd.name+uint32(nd.size)]
}

// found says how a name relates to the zone.
type found uint8

const (
	foundNothing  found = iota // NXDOMAIN
	foundNode                  // the name itself, or the wildcard that stands for it
	foundReferral              // at or below a delegation
)

// find looks a name of this zone up: delegations first, then the name, then
// the wildcard at its closest encloser (RFC 4592 §3.3.1).
func (p *Plan) find(n *name) (uint32, found) {
	apex := n.labels - p.labels
	if p.cuts {
		for i := apex - 1; i >= 0; i-- {
			number, ok := p.at(n, i)
			if !ok {
				break
			}
			if p.nodes[number].cut {
				return number, foundReferral
			}
		}
	}
	if number, ok := p.at(n, 0); ok {
		return number, foundNode
	}
	for i := 1; i <= apex; i++ {
		encloser, ok := p.at(n, i)
		if !ok {
			continue
		}
		if wild := p.nodes[encloser].wild; wild != 0 {
			return wild, foundNode
		}
		return 0, foundNothing
	}
	return 0, foundNothing
}

// setOf returns a node's RRset of one type, nil when it has none.
func (p *Plan) setOf(number uint32, typ uint16) *set {
	nd := &p.nodes[number]
	sets := p.sets[nd.first : nd.first+uint32(nd.count)]
	for i := range sets {
		if sets[i].typ == typ {
			return &sets[i]
		}
	}
	return nil
}

// inZone reports whether a name lies at or below this plan's apex.
func (p *Plan) inZone(n *name) bool {
	return n.labels >= p.labels && bytes.Equal(n.suffix(n.labels-p.labels), p.zone)
}
