// Package telemetry is the road up: what servers tell about the work they did,
// bounded, and never waited for by a request. Its first road is the access
// log: a request leaves one binary record in a ring of its processor's own; a
// writer renders the records as JSON lines off the request's path.
package telemetry

import (
	"encoding/binary"
	"math"
	"net/netip"
	"time"
)

// MaxPhases is how many pipeline rows a record can time.
const MaxPhases = 32

// Record is one request as the access log shows it. Byte slices are borrowed
// for the length of the Append call.
type Record struct {
	Time     time.Time
	Duration time.Duration
	Ray      uint64
	Seq      uint64 // of the zone snapshot
	Bytes    int64  // of the answer's body, sent
	Status   uint16
	ASN      uint32
	Age      uint32
	Country  [2]byte
	Client   netip.Addr

	OriginAddr    netip.AddrPort
	OriginStatus  uint16
	OriginReused  bool
	OriginConnect time.Duration
	OriginWait    time.Duration

	// Phases holds the nanoseconds spent in each row, by row number; 0 = not run.
	Phases *[MaxPhases]uint32

	// Texts, each cut at its limit.
	Zone, CacheStatus, Tier, Scheme, Proto, TLS, Fault string
	Host, Method, Path, Query, UserAgent, Referer      []byte
}

// Limits in bytes on the texts of a record.
const (
	maxHost   = 255
	maxMethod = 32
	maxPath   = 2048
	maxQuery  = 1024
	maxAgent  = 512
	maxFault  = 512
	// maxRecord bounds an encoded record.
	maxRecord = 16 << 10
)

// appendTo encodes the record: fixed part, phases, then texts with lengths.
func (r *Record) appendTo(p []byte) []byte {
	p = binary.LittleEndian.AppendUint64(p, uint64(r.Time.UnixNano()))
	p = binary.LittleEndian.AppendUint64(p, uint64(r.Duration))
	p = binary.LittleEndian.AppendUint64(p, r.Ray)
	p = binary.LittleEndian.AppendUint64(p, r.Seq)
	p = binary.LittleEndian.AppendUint64(p, uint64(r.Bytes))
	p = binary.LittleEndian.AppendUint64(p, uint64(r.OriginConnect))
	p = binary.LittleEndian.AppendUint64(p, uint64(r.OriginWait))
	p = binary.LittleEndian.AppendUint32(p, r.ASN)
	p = binary.LittleEndian.AppendUint32(p, r.Age)
	p = binary.LittleEndian.AppendUint16(p, r.Status)
	p = binary.LittleEndian.AppendUint16(p, r.OriginStatus)
	p = binary.LittleEndian.AppendUint16(p, r.OriginAddr.Port())
	p = append(p, r.Country[0], r.Country[1], boolByte(r.OriginReused))
	p = appendAddr(p, r.Client)
	p = appendAddr(p, r.OriginAddr.Addr())
	p = r.appendPhases(p)
	p = appendText(p, r.Zone, maxHost)
	p = appendText(p, r.CacheStatus, maxMethod)
	p = appendText(p, r.Tier, maxMethod)
	p = appendText(p, r.Scheme, maxMethod)
	p = appendText(p, r.Proto, maxMethod)
	p = appendText(p, r.TLS, maxMethod)
	p = appendText(p, r.Fault, maxFault)
	p = appendText(p, r.Host, maxHost)
	p = appendText(p, r.Method, maxMethod)
	p = appendText(p, r.Path, maxPath)
	p = appendText(p, r.Query, maxQuery)
	p = appendText(p, r.UserAgent, maxAgent)
	return appendText(p, r.Referer, maxAgent)
}

func (r *Record) appendPhases(p []byte) []byte {
	if r.Phases == nil {
		return append(p, 0)
	}
	at := len(p)
	p = append(p, 0)
	for i, ns := range r.Phases {
		if ns != 0 {
			p = append(p, byte(i))
			p = binary.LittleEndian.AppendUint32(p, ns)
			p[at]++
		}
	}
	return p
}

func appendText[T ~string | ~[]byte](p []byte, text T, limit int) []byte {
	text = text[:min(len(text), limit, math.MaxUint16)]
	p = binary.LittleEndian.AppendUint16(p, uint16(len(text)))
	return append(p, text...)
}

func appendAddr(p []byte, a netip.Addr) []byte {
	if !a.IsValid() {
		return append(p, 0)
	}
	if a.Is4() {
		b := a.As4()
		return append(append(p, 4), b[:]...)
	}
	b := a.As16()
	return append(append(p, 16), b[:]...)
}

func boolByte(b bool) byte {
	if b {
		return 1
	}
	return 0
}

// reader walks an encoded record; it trusts its input, which never left the
// process.
type reader struct{ p []byte }

func (d *reader) u16() uint16 {
	v := binary.LittleEndian.Uint16(d.p)
	d.p = d.p[2:]
	return v
}

func (d *reader) u32() uint32 {
	v := binary.LittleEndian.Uint32(d.p)
	d.p = d.p[4:]
	return v
}

func (d *reader) u64() uint64 {
	v := binary.LittleEndian.Uint64(d.p)
	d.p = d.p[8:]
	return v
}

func (d *reader) byte() byte {
	v := d.p[0]
	d.p = d.p[1:]
	return v
}

func (d *reader) text() []byte {
	n := int(d.u16())
	v := d.p[:n]
	d.p = d.p[n:]
	return v
}

func (d *reader) addr() netip.Addr {
	switch d.byte() {
	case 4:
		a := netip.AddrFrom4([4]byte(d.p))
		d.p = d.p[4:]
		return a
	case 16:
		a := netip.AddrFrom16([16]byte(d.p))
		d.p = d.p[16:]
		return a
	}
	return netip.Addr{}
}
