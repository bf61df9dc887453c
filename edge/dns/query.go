package dns

import (
	"encoding/binary"

	"github.com/miekg/dns"
)

// query is one question taken apart. It is reused: parse sets every field.
type query struct {
	name
	id       uint16
	flags    uint16
	typ      uint16
	class    uint16
	question int  // where the question ends; 0 when it could not be read
	edns     bool // an OPT record came along (RFC 6891)
	version  uint8
	do       bool // DNSSEC OK, echoed (RFC 3225 §3)
	size     uint16
}

// Bits of the header's second word, RFC 1035 §4.1.1 and RFC 4035 §3.
const (
	flagQR = 1 << 15
	flagAA = 1 << 10
	flagTC = 1 << 9
	flagRD = 1 << 8
)

const (
	optSize  = 11  // an OPT record without options
	plainUDP = 512 // RFC 1035 §4.2.1: the longest answer without EDNS
)

// parse reads a message and says how to go on: answer false means that it
// must not be answered at all, a code other than success that the answer is
// just that code.
func (q *query) parse(msg []byte) (answer bool, rcode int) {
	if len(msg) < headerSize {
		return false, 0
	}
	q.id = binary.BigEndian.Uint16(msg)
	q.flags = binary.BigEndian.Uint16(msg[2:])
	q.typ, q.class, q.question, q.edns, q.version, q.do, q.size = 0, 0, 0, false, 0, false, 0
	q.name.size, q.name.labels = 0, 0
	if q.flags&flagQR != 0 {
		return false, 0
	}
	if opcode := q.flags >> 11 & 15; opcode != dns.OpcodeQuery {
		return true, dns.RcodeNotImplemented
	}
	if binary.BigEndian.Uint16(msg[4:]) != 1 || !q.readQuestion(msg) {
		return true, dns.RcodeFormatError
	}
	records := int(binary.BigEndian.Uint16(msg[6:])) + int(binary.BigEndian.Uint16(msg[8:])) + int(binary.BigEndian.Uint16(msg[10:]))
	if !q.readRecords(msg, records) {
		q.edns = false
		return true, dns.RcodeFormatError
	}
	if q.edns && q.version != 0 {
		return true, dns.RcodeBadVers
	}
	return true, dns.RcodeSuccess
}

// readQuestion reads name, type and class, lowering the name on the way. A
// compression pointer has nothing to point to here and is refused.
func (q *query) readQuestion(msg []byte) bool {
	at := headerSize
	for {
		if at >= len(msg) {
			return false
		}
		n := int(msg[at])
		if n == 0 {
			break
		}
		if n > maxLabel || at+1+n >= len(msg) || at+1+n-headerSize >= maxName {
			return false
		}
		at += 1 + n
	}
	at++
	if at+4 > len(msg) {
		return false
	}
	q.name.size = copy(q.wire[:], msg[headerSize:at])
	lowerName(q.wire[:q.name.size])
	q.seal()
	q.typ = binary.BigEndian.Uint16(msg[at:])
	q.class = binary.BigEndian.Uint16(msg[at+2:])
	q.question = at + 4
	return true
}

// readRecords walks all records after the question, to the message's last
// byte, and takes the one OPT among them. Other records are of no interest.
func (q *query) readRecords(msg []byte, records int) bool {
	at := q.question
	for range records {
		root := at < len(msg) && msg[at] == 0
		at = skipName(msg, at)
		if at < 0 || at+10 > len(msg) {
			return false
		}
		typ := binary.BigEndian.Uint16(msg[at:])
		end := at + 10 + int(binary.BigEndian.Uint16(msg[at+8:]))
		if end > len(msg) {
			return false
		}
		if typ == dns.TypeOPT {
			if q.edns || !root || !wellFormed(msg[at+10:end]) {
				return false
			}
			q.edns = true
			q.size = binary.BigEndian.Uint16(msg[at+2:])
			q.version = msg[at+5]
			q.do = msg[at+6]&0x80 != 0
		}
		at = end
	}
	return at == len(msg)
}

// skipName returns the offset after a name, compressed or not; -1 when there
// is none. It follows no pointer.
func skipName(msg []byte, at int) int {
	for at < len(msg) {
		n := int(msg[at])
		switch {
		case n == 0:
			return at + 1
		case n&0xC0 == 0xC0:
			return at + 2
		case n > maxLabel:
			return -1
		}
		at += 1 + n
	}
	return -1
}

// wellFormed checks that options fill an OPT record's data exactly. What they
// say is ignored (RFC 6891 §6.1.2).
func wellFormed(data []byte) bool {
	for len(data) > 0 {
		if len(data) < 4 {
			return false
		}
		n := 4 + int(binary.BigEndian.Uint16(data[2:]))
		if n > len(data) {
			return false
		}
		data = data[n:]
	}
	return true
}
