package dns

import (
	"encoding/binary"

	"github.com/miekg/dns"

	"github.com/selvage-edge/selvage/edge/hot"
)

// DefaultBytes is what plans may have of memory.
const DefaultBytes = 64 << 20

// zones finds the plan that answers for a name, among those in memory.
type zones struct {
	plans *hot.Table[Plan]
	names *hot.Names // what may be elsewhere; nil = nothing
}

func (z *zones) set(apex *name, p *Plan) {
	key := string(apex.suffix(0))
	if p == nil {
		z.plans.Remove(apex.hashes[0], key)
		return
	}
	z.plans.Put(apex.hashes[0], key, p, p.bytes(), false)
}

// notCold says that a name's zone is in memory, or nowhere.
const notCold = -1

// find returns the plan of the longest suffix of the question's name, by
// labels; nil when no zone holds it. What a zone's parent knows better (DS,
// RFC 4035 §3.1.4.1) is asked of the parent when that is here too. Where cold is
// not notCold, the zone of that suffix has to be looked for first; looked has
// what came of that for those before, nil where there is none.
func (z *zones) find(q *query, looked map[int]*Plan) (p *Plan, cold int) {
	var own *Plan
	for i := range q.labels {
		p := z.plans.Find(q.hashes[i], q.suffix(i))
		if p == nil && looked != nil {
			p = looked[i]
		}
		if p == nil {
			if z.names != nil && z.names.May(q.hashes[i]) {
				if _, done := looked[i]; !done {
					return nil, i
				}
			}
			continue
		}
		if i == 0 && q.typ == dns.TypeDS {
			own = p
			continue
		}
		return p, notCold
	}
	return own, notCold
}

// bytes is what a plan has of memory.
func (p *Plan) bytes() int64 {
	const nodeBytes, setBytes, planBytes = 16, 28, 200
	return planBytes + int64(cap(p.zone)+cap(p.slab)+nodeBytes*cap(p.nodes)+4*cap(p.index)+setBytes*cap(p.sets)+2*cap(p.fix)+4*cap(p.extra))
}

// textOf returns a name as text, "" when no zone can have it.
func textOf(wire []byte) string {
	text := make([]byte, 0, len(wire))
	for len(wire) > 0 && wire[0] != 0 {
		label := wire[1 : 1+wire[0]]
		for _, c := range label {
			if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
				return ""
			}
		}
		if len(text) > 0 {
			text = append(text, '.')
		}
		text = append(text, label...)
		wire = wire[1+len(label):]
	}
	return string(text)
}

// Serial is what the zone's SOA says.
func (p *Plan) Serial() uint32 {
	s := &p.sets[p.soa]
	end := s.off + s.size
	return binary.BigEndian.Uint32(p.slab[end-20:])
}
