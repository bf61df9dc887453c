package dns

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

const (
	pointer      = 0xC000 // marks a compression pointer, RFC 1035 §4.1.4
	headerSize   = 12     // RFC 1035 §4.1.1
	toQuestion   = pointer | headerSize
	maxPointed   = 0x3FFF            // the last offset a pointer can name
	recordHead   = 2 + 2 + 2 + 4 + 2 // owner pointer, type, class, TTL, length
	lengthOffset = recordHead - 2
	packBuffer   = 1 << 10 // bytes; few records are longer
)

// pack lays the draft out: names and RRsets into the slab, then the table of
// names, then what can only be known when all names stand.
func (d *draft) pack() (*Plan, error) {
	names := d.sorted()
	p := &Plan{ID: d.id, Name: strings.TrimSuffix(d.fqdn, "."), zone: []byte(d.apex), nodes: make([]node, len(names))}
	numbers := make(map[string]uint32, len(names))
	var aliases, referrers []target
	buf := make([]byte, packBuffer)
	for i, owner := range names {
		n, nd := d.names[owner], &p.nodes[i]
		numbers[owner] = uint32(i)
		nd.name, nd.size = uint32(len(p.slab)), uint8(len(owner))
		p.slab = append(p.slab, owner...)
		nd.first, nd.count = uint32(len(p.sets)), uint16(len(n.sets))
		nd.cut = owner != d.apex && n.set(dns.TypeNS) != nil
		p.cuts = p.cuts || nd.cut
		for _, s := range n.sets {
			if len(p.slab) > maxSlabBytes {
				return nil, fmt.Errorf("dns records: more than %d bytes when packed", maxSlabBytes)
			}
			number := uint32(len(p.sets))
			if err := p.packSet(s, buf); err != nil {
				return nil, err
			}
			switch s.typ {
			case dns.TypeSOA:
				p.soa = number
			case dns.TypeCNAME:
				aliases = append(aliases, target{number, s.records})
			case dns.TypeNS, dns.TypeMX, dns.TypeSRV:
				referrers = append(referrers, target{number, s.records})
			}
		}
	}
	for owner, number := range numbers {
		if owner[0] == 1 && owner[1] == '*' && owner != d.apex {
			p.nodes[numbers[parent(owner)]].wild = number
		}
	}
	p.fillIndex()
	if err := p.resolve(aliases); err != nil {
		return nil, err
	}
	p.addExtras(referrers)
	return p, nil
}

// target is a set whose records point to names.
type target struct {
	set     uint32
	records []dns.RR
}

// packSet appends one RRset to the slab.
func (p *Plan) packSet(s *draftSet, buf []byte) error {
	out := set{off: uint32(len(p.slab)), fix: uint32(len(p.fix)), typ: s.typ, target: targetOutside}
	seen := make(map[string]bool, len(s.records))
	for _, rr := range s.records {
		n, err := dns.PackRR(rr, buf, 0, nil, false)
		if err != nil { // it may be a long one
			buf = make([]byte, 1<<16)
			n, err = dns.PackRR(rr, buf, 0, nil, false)
		}
		if err != nil {
			return setError(s, fmt.Errorf("content: %w", err))
		}
		// The owner is the root, one byte; then type, class, TTL and length.
		rdata := buf[1+lengthOffset : n]
		if seen[string(rdata)] {
			continue // an RRset holds each record once, RFC 2181 §5
		}
		seen[string(rdata)] = true
		start := len(p.slab)
		p.slab = binary.BigEndian.AppendUint16(p.slab, toQuestion)
		p.slab = binary.BigEndian.AppendUint16(p.slab, s.typ)
		p.slab = binary.BigEndian.AppendUint16(p.slab, dns.ClassINET)
		p.slab = binary.BigEndian.AppendUint32(p.slab, s.ttl)
		p.slab = append(p.slab, 0, 0)
		p.packData(&out, rdata)
		size := len(p.slab) - start - recordHead
		binary.BigEndian.PutUint16(p.slab[start+lengthOffset:], uint16(size))
		if len(p.slab)-int(out.off) > maxSetBytes {
			return setError(s, fmt.Errorf("content: the %d records of one name and type do not fit into one answer", len(s.records)))
		}
	}
	out.size, out.count = uint32(len(p.slab))-out.off, uint16(len(seen))
	p.sets = append(p.sets, out)
	return nil
}

func setError(s *draftSet, err error) error {
	if s.source == nil {
		return fmt.Errorf("dns %s of the zone: %w", dns.TypeToString[s.typ], err)
	}
	return recordError(s.source, err)
}

// packData appends rdata, compressing the names of the types of RFC 1035 (no
// others may be, RFC 3597 §4).
func (p *Plan) packData(out *set, rdata []byte) {
	switch out.typ {
	case dns.TypeCNAME, dns.TypeNS, dns.TypePTR:
		p.packTarget(out, rdata)
	case dns.TypeMX:
		p.slab = append(p.slab, rdata[:2]...)
		p.packTarget(out, rdata[2:])
	case dns.TypeSOA:
		rest := p.packTarget(out, rdata)
		rest = p.packTarget(out, rest)
		p.slab = append(p.slab, rest...)
	default:
		p.slab = append(p.slab, rdata...)
	}
}

// packTarget appends the name at the front of rdata and returns what follows.
// The zone's name in it becomes a pointer into the question, to be fixed when
// the question's length is known.
func (p *Plan) packTarget(out *set, rdata []byte) []byte {
	end := 0
	for rdata[end] != 0 {
		end += int(rdata[end]) + 1
	}
	end++
	lower := make([]byte, end)
	copy(lower, rdata)
	lowerName(lower)
	if !below(string(lower), string(p.zone)) {
		p.slab = append(p.slab, rdata[:end]...)
		return rdata[end:]
	}
	p.slab = append(p.slab, rdata[:end-len(p.zone)]...)
	p.fix = append(p.fix, uint16(len(p.slab)-int(out.off)))
	out.fixes++
	p.slab = append(p.slab, pointer>>8, 0)
	return rdata[end:]
}

// fillIndex builds the open-addressed table of names, at most half full.
func (p *Plan) fillIndex() {
	size := 2
	for size < 2*len(p.nodes) {
		size *= 2
	}
	p.index = make([]uint32, size)
	var n name
	for i := range p.nodes {
		n.set(string(p.nameOf(uint32(i))))
		if i == 0 {
			p.labels = n.labels
		}
		h := n.hashes[0] & uint64(size-1)
		for p.index[h] != 0 {
			h = (h + 1) & uint64(size-1)
		}
		p.index[h] = uint32(i) + 1
	}
}

// set takes a name in lower-case wire form.
func (n *name) set(wire string) {
	n.size = copy(n.wire[:], wire)
	n.seal()
}

// resolve notes for each CNAME which node its target comes to.
func (p *Plan) resolve(aliases []target) error {
	var n name
	for _, a := range aliases {
		s := &p.sets[a.set]
		wire, err := packName(a.records[0].(*dns.CNAME).Target)
		if err != nil {
			return fmt.Errorf("dns CNAME target: %w", err)
		}
		n.set(wire)
		if !p.inZone(&n) {
			continue
		}
		switch number, how := p.find(&n); how {
		case foundNode:
			s.target = number
		case foundNothing:
			s.target = targetGone
		}
	}
	return nil
}

// addExtras notes for NS, MX and SRV the nodes whose addresses go into the
// additional section. Wildcards are left out: their addresses have no owner
// name of their own.
func (p *Plan) addExtras(referrers []target) {
	var n name
	for _, r := range referrers {
		s := &p.sets[r.set]
		s.extra = uint32(len(p.extra))
		for _, rr := range r.records {
			wire, err := packName(host(rr))
			if err != nil {
				continue // the root: a null MX or an SRV that says "not here"
			}
			n.set(wire)
			if !p.inZone(&n) {
				continue
			}
			number, ok := p.at(&n, 0)
			if !ok || slices.Contains(p.extra[s.extra:], number) || (p.setOf(number, dns.TypeA) == nil && p.setOf(number, dns.TypeAAAA) == nil) {
				continue
			}
			p.extra = append(p.extra, number)
			s.extras++
		}
	}
}

func host(rr dns.RR) string {
	switch rr := rr.(type) {
	case *dns.NS:
		return rr.Ns
	case *dns.MX:
		return rr.Mx
	case *dns.SRV:
		return rr.Target
	}
	return "."
}
