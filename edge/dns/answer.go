package dns

import (
	"encoding/binary"

	"github.com/miekg/dns"
)

// reply is an answer being written. One is reused by its worker.
type reply struct {
	query
	buf     []byte
	n       int
	limit   int // room for records; what OPT needs is kept back
	zone    int // where the zone's name stands in the question
	counts  [3]uint16
	aa, tc  bool
	rcode   int
	visited [maxAliases + 1]uint32
	looked  map[int]*Plan // what was looked for, by suffix of the name; nil before
	cold    int           // the suffix whose zone has to be looked for
}

const (
	inAnswer = iota
	inAuthority
	inAdditional
)

// hinfo is the answer to ANY (RFC 8482 §4.2), owner and all.
const hinfo = "\xc0\x0c\x00\x0d\x00\x01\x00\x00\x0e\x10\x00\x09\x07RFC8482\x00"

// answer writes the answer to msg into buf, at most limit bytes for a client
// that speaks EDNS, and returns its length; 0 means that none must be sent,
// coldAnswer that r.cold has to be looked for first.
// buf is at least limit long, limit at least 512.
func (r *reply) answer(zones *zones, msg, buf []byte, limit int, tcp bool) int {
	ok, rcode := r.parse(msg)
	if !ok {
		return 0
	}
	if !tcp {
		limit = min(limit, max(plainUDP, int(r.size)))
	}
	r.buf, r.n, r.limit, r.zone = buf, headerSize, limit, 0
	r.counts, r.aa, r.tc, r.rcode, r.cold = [3]uint16{}, false, false, rcode, notCold
	r.n += copy(buf[headerSize:], msg[headerSize:max(r.question, headerSize)])
	if r.edns {
		r.limit -= optSize
	}
	if rcode == dns.RcodeSuccess {
		if r.rcode = r.resolve(zones); r.cold != notCold {
			return coldAnswer
		}
	}
	r.finish()
	return r.n
}

// finish writes OPT and header.
func (r *reply) finish() {
	flags := uint16(flagQR) | r.flags&(15<<11|flagRD) | uint16(r.rcode&15)
	if r.aa {
		flags |= flagAA
	}
	if r.tc {
		flags |= flagTC
	}
	b := r.buf
	if r.edns {
		opt := b[r.n : r.n+optSize]
		clear(opt)
		opt[2] = byte(dns.TypeOPT)
		binary.BigEndian.PutUint16(opt[3:], DefaultUDPSize)
		opt[5] = byte(r.rcode >> 4)
		if r.do {
			opt[7] = 0x80
		}
		r.n += optSize
		r.counts[inAdditional]++
	}
	binary.BigEndian.PutUint16(b, r.id)
	binary.BigEndian.PutUint16(b[2:], flags)
	binary.BigEndian.PutUint16(b[4:], 0)
	if r.question > 0 {
		b[5] = 1
	}
	for i, n := range r.counts {
		binary.BigEndian.PutUint16(b[6+2*i:], n)
	}
}

// resolve answers a well-formed question.
func (r *reply) resolve(zones *zones) int {
	switch {
	case r.class != dns.ClassINET:
		return dns.RcodeRefused
	case r.typ == dns.TypeOPT || r.typ == 0:
		return dns.RcodeFormatError
	case r.typ >= 128 && r.typ < dns.TypeANY: // meta types, AXFR and IXFR among them
		return dns.RcodeRefused
	}
	var p *Plan
	if p, r.cold = zones.find(&r.query, r.looked); p == nil {
		return dns.RcodeRefused
	}
	r.zone = headerSize + r.name.size - len(p.zone)
	number, how := p.find(&r.name)
	switch how {
	case foundReferral:
		own := p.nodes[number].size == uint8(r.name.size)
		if own && r.typ == dns.TypeDS { // the parent speaks for DS, RFC 4035 §3.1.4.1
			r.aa = true
			r.negative(p)
			return dns.RcodeSuccess
		}
		r.refer(p, number)
		return dns.RcodeSuccess
	case foundNothing:
		r.aa = true
		r.negative(p)
		return dns.RcodeNameError
	}
	r.aa = true
	return r.follow(p, number)
}

// follow answers from a node, going along its CNAME while that stays in the
// zone, at most maxAliases times and never in a circle. The code is that of
// the last name (RFC 6604 §2).
func (r *reply) follow(p *Plan, number uint32) int {
	owner := toQuestion
	for hop := range maxAliases + 1 {
		if s := p.setOf(number, r.typ); s != nil {
			if r.put(p, s, owner, inAnswer) {
				r.extras(p, s, false)
			}
			return dns.RcodeSuccess
		}
		alias := p.setOf(number, dns.TypeCNAME)
		if r.typ == dns.TypeANY && p.nodes[number].count > 0 && hop == 0 {
			r.any()
			return dns.RcodeSuccess
		}
		if alias == nil {
			r.negative(p)
			return dns.RcodeSuccess
		}
		data := r.n + recordHead
		if !r.put(p, alias, owner, inAnswer) {
			return dns.RcodeSuccess
		}
		owner = pointer | data
		r.visited[hop] = number
		switch alias.target {
		case targetOutside:
			return dns.RcodeSuccess
		case targetGone:
			r.negative(p)
			return dns.RcodeNameError
		}
		number = alias.target
		for _, seen := range r.visited[:hop+1] {
			if seen == number {
				return dns.RcodeSuccess
			}
		}
	}
	return dns.RcodeSuccess
}

func (r *reply) any() {
	if r.n+len(hinfo) > r.limit {
		r.tc = true
		return
	}
	r.n += copy(r.buf[r.n:], hinfo)
	r.counts[inAnswer]++
}

// negative adds the SOA that tells how long "no" is good for (RFC 2308).
func (r *reply) negative(p *Plan) {
	r.put(p, &p.sets[p.soa], pointer|r.zone, inAuthority)
}

// refer writes a delegation: its NS, and the addresses that are here.
func (r *reply) refer(p *Plan, cut uint32) {
	s := p.setOf(cut, dns.TypeNS)
	owner := pointer | (headerSize + r.name.size - int(p.nodes[cut].size))
	if r.put(p, s, owner, inAuthority) {
		r.extras(p, s, true)
	}
}

// put appends an RRset whole, or sets TC.
func (r *reply) put(p *Plan, s *set, owner, section int) bool {
	size := int(s.size)
	if r.n+size > r.limit {
		r.tc = true
		return false
	}
	out := r.buf[r.n : r.n+size]
	copy(out, p.slab[s.off:])
	for _, at := range p.fix[s.fix : s.fix+uint32(s.fixes)] {
		binary.BigEndian.PutUint16(out[at:], uint16(pointer|r.zone))
	}
	if owner != toQuestion {
		for at := 0; at < size; at += recordHead + int(binary.BigEndian.Uint16(out[at+lengthOffset:])) {
			binary.BigEndian.PutUint16(out[at:], uint16(owner))
		}
	}
	r.n += size
	r.counts[section] += s.count
	return true
}

// extras appends the addresses that go with a set. Where they are needed to
// go on (glue), leaving one out sets TC (RFC 9471 §3.1); otherwise it is
// merely left out.
func (r *reply) extras(p *Plan, s *set, glue bool) {
	for _, number := range p.extra[s.extra : s.extra+uint32(s.extras)] {
		for _, typ := range [...]uint16{dns.TypeA, dns.TypeAAAA} {
			addresses := p.setOf(number, typ)
			if addresses == nil {
				continue
			}
			if !r.putNamed(p, number, addresses) {
				r.tc = r.tc || glue
				return
			}
		}
	}
}

// putNamed appends an address set whose owner is not in the answer yet: its
// labels, then a pointer to the zone's name.
func (r *reply) putNamed(p *Plan, number uint32, s *set) bool {
	nd := &p.nodes[number]
	labels := p.slab[nd.name : int(nd.name)+int(nd.size)-len(p.zone)]
	if r.n+int(s.size)+int(s.count)*len(labels) > r.limit {
		return false
	}
	records := p.slab[s.off : s.off+s.size]
	for len(records) > 0 {
		size := recordHead + int(binary.BigEndian.Uint16(records[lengthOffset:]))
		r.n += copy(r.buf[r.n:], labels)
		binary.BigEndian.PutUint16(r.buf[r.n:], uint16(pointer|r.zone))
		r.n += 2
		r.n += copy(r.buf[r.n:], records[2:size])
		records = records[size:]
	}
	r.counts[inAdditional] += s.count
	return true
}
