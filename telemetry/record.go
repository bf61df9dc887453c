// Package telemetry is the road up: what servers tell about the work they did,
// bounded, and never waited for by a request. Its first road is the access
// log: a request leaves its line in a ring of its processor's own, and a writer
// takes the lines to the file, many at a time.
package telemetry

import (
	"net/netip"
	"time"
)

// MaxPhases is how many pipeline rows a record can time.
const MaxPhases = 32

// Record is one request as the access log shows it. Byte slices are borrowed
// for the length of the Append call.
type Record struct {
	// Visitor may be shared by records that are appended one after the other.
	Visitor *Visitor

	Time     time.Time
	Duration time.Duration
	Ray      uint64
	Seq      uint64 // of the zone snapshot
	Bytes    int64  // of the answer's body, sent
	Status   uint16
	Age      uint32

	OriginAddr    netip.AddrPort
	OriginStatus  uint16
	OriginReused  bool
	OriginConnect time.Duration
	OriginWait    time.Duration

	// Phases holds the nanoseconds spent in each row, by row number; 0 = not run.
	Phases *[MaxPhases]uint32

	CacheStatus, Tier string // words of ours
	// Texts, each cut at its limit.
	Fault                        string
	Method, Path, Query, Referer []byte
}

// Visitor is what most requests of a connection have in common. Its part of
// their lines is rendered again only where something in it has changed.
type Visitor struct {
	Client  netip.Addr
	Country [2]byte
	ASN     uint32

	Scheme, Proto, TLS string // words of ours
	// Texts, each cut at its limit.
	Zone            string
	Host, UserAgent []byte

	was  *Visitor // what text was rendered of, with bytes of its own
	text []byte
}

// Limits in bytes on the texts of a record.
const (
	maxHost   = 255
	maxMethod = 32
	maxPath   = 2048
	maxQuery  = 1024
	maxAgent  = 512
	maxFault  = 512
	// maxLine bounds a line: each byte of a text takes six at most, and names,
	// words, numbers and addresses less than 4 KiB.
	maxLine = 6*(2*maxHost+maxMethod+maxPath+maxQuery+2*maxAgent+maxFault) + 4<<10
)

// same reports that a visitor's part of a line would be the same for both.
func (v *Visitor) same(w *Visitor) bool {
	return v.Client == w.Client && v.Country == w.Country && v.ASN == w.ASN &&
		v.Zone == w.Zone && v.Scheme == w.Scheme && v.Proto == w.Proto && v.TLS == w.TLS &&
		string(v.Host) == string(w.Host) && string(v.UserAgent) == string(w.UserAgent)
}

// keep remembers what text is rendered of.
func (v *Visitor) keep() {
	if v.was == nil {
		v.was = new(Visitor)
	}
	w := v.was
	host, agent := append(w.Host[:0], v.Host...), append(w.UserAgent[:0], v.UserAgent...)
	*w = *v
	w.Host, w.UserAgent, w.was, w.text = host, agent, nil, nil
}
