package edge

import (
	"crypto/tls"
	"time"

	"github.com/selvage-edge/selvage/edge/request"
	"github.com/selvage-edge/selvage/telemetry"
	"github.com/selvage-edge/selvage/wire/msg"
)

// logRequest leaves one record in this connection's ring.
func (e *Edge) logRequest(s *session) {
	if e.access == nil {
		return
	}
	r, rec := &s.r, &s.record
	*rec = telemetry.Record{
		Time: r.Start, Duration: s.took, Ray: uint64(r.Ray), Seq: r.Seq, Bytes: s.sent, Status: uint16(r.Out.Status),
		ASN: r.Geo.ASN, Country: r.Geo.Country, Age: r.Cache.Age, Client: r.Client, Phases: &r.Marks,
		OriginAddr: r.Tried.Addr, OriginStatus: uint16(r.Tried.Status), OriginReused: r.Tried.Reused,
		OriginConnect: r.Tried.Connect, OriginWait: r.Tried.Wait,
		CacheStatus: r.Cache.Status.String(), Tier: r.Cache.Tier.String(),
		Scheme: r.In.Scheme.String(), Proto: r.In.Proto.String(), TLS: tlsVersion(r.Conn),
		Host: r.Host, Method: r.In.MethodText, Path: r.In.Path, Query: r.In.Query,
		UserAgent: r.In.Fields.Get(msg.UserAgent), Referer: r.In.Fields.Get(msg.Referer),
	}
	if z, ok := r.Zone.(*Zone); ok {
		rec.Zone = z.Name
	}
	switch {
	case r.Fault != nil:
		rec.Fault = r.Fault.Side.String() + ": " + r.Fault.Error()
	case s.sendErr != nil:
		rec.Fault = "visitor: " + s.sendErr.Error()
	}
	e.access.Append(s.shard, rec)
}

// logRefused leaves a record of a request that the protocol refused.
func (e *Edge) logRefused(s *session, status int, reason error) {
	if e.access == nil {
		return
	}
	s.record = telemetry.Record{
		Time: time.Now(), Ray: uint64(s.nextRay()), Status: uint16(status), Client: s.r.Conn.Remote.Addr().Unmap(),
		Country: s.geo.Country, ASN: s.geo.ASN, CacheStatus: request.CacheNone.String(), Tier: request.TierEdge.String(),
		TLS: tlsVersion(s.r.Conn),
	}
	if reason != nil {
		s.record.Fault = "visitor: " + reason.Error()
	}
	e.access.Append(s.shard, &s.record)
}

// countRequest adds to this connection's counters.
func (e *Edge) countRequest(s *session) {
	r := &s.r
	e.counters.done(s.shard, r.Out.Status, r.Cache.Status, r.Cache.Tier, s.sent, s.took)
	for i := range onRequest {
		if ns := r.Marks[i]; ns != 0 {
			e.counters.row(s.shard, i, ns)
		}
	}
}

func tlsVersion(c *msg.Conn) string {
	if c.TLS == nil {
		return ""
	}
	if c.TLS.Version == tls.VersionTLS13 {
		return "1.3"
	}
	return "1.2"
}
