package edge

import (
	"crypto/tls"
	"time"

	"github.com/selvage-edge/selvage/edge/request"
	"github.com/selvage-edge/selvage/fault"
	"github.com/selvage-edge/selvage/telemetry"
	"github.com/selvage-edge/selvage/wire/msg"
)

// logRequest leaves one record in this connection's ring.
func (e *Edge) logRequest(s *session) {
	if e.access == nil {
		return
	}
	r, rec, v := &s.r, &s.record, &s.visitor
	v.Scheme, v.Proto, v.Zone = r.In.Scheme.String(), r.In.Proto.String(), ""
	if z, ok := r.Zone.(*Zone); ok {
		v.Zone = z.Name
	}
	v.Host, v.UserAgent = r.Host, r.In.Fields.Get(msg.UserAgent)
	rec.Time, rec.Duration, rec.Ray, rec.Seq, rec.Bytes = r.Start, s.took, uint64(r.Ray), r.Seq, s.sent
	rec.Status, rec.Age, rec.Phases = uint16(r.Out.Status), r.Cache.Age, &r.Marks
	rec.OriginAddr, rec.OriginStatus, rec.OriginReused = r.Tried.Addr, uint16(r.Tried.Status), r.Tried.Reused
	rec.OriginConnect, rec.OriginWait = r.Tried.Connect, r.Tried.Wait
	rec.CacheStatus, rec.Tier, rec.Fault = r.Cache.Status.String(), r.Cache.Tier.String(), ""
	rec.Method, rec.Path, rec.Query, rec.Referer = r.In.MethodText, r.In.Path, r.In.Query, r.In.Fields.Get(msg.Referer)
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
	v := &s.visitor
	v.Scheme, v.Proto, v.Zone, v.Host, v.UserAgent = "", "", "", nil, nil
	s.record = telemetry.Record{
		Visitor: v, Time: time.Now(), Ray: uint64(s.nextRay()), Status: uint16(status),
		CacheStatus: request.CacheNone.String(), Tier: request.TierEdge.String(),
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
	e.counters.rows(s.shard, r.Marks[:len(onRequest)])
	if r.Fault != nil && r.Fault.Side == fault.Edge && r.Out.Status >= 500 {
		e.counters.shard(s.shard).own.Add(1)
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
