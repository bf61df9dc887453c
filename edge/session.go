package edge

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"net/netip"
	"strings"
	"time"

	"github.com/selvage-edge/selvage/edge/request"
	"github.com/selvage-edge/selvage/fault"
	"github.com/selvage-edge/selvage/internal/arena"
	"github.com/selvage-edge/selvage/telemetry"
	"github.com/selvage-edge/selvage/wire/msg"
	"github.com/selvage-edge/selvage/zone"
)

// session answers the requests of one visitor's connection. All it needs is
// allocated when the connection opens and used again for each request.
type session struct {
	edge    *Edge
	r       Request
	arena   arena.Arena
	geo     request.Geo
	shard   uint32 // of counters and log rings
	rays    uint64 // state of the ray sequence
	sni     string // id of the zone of the TLS server name, "" over plain TCP and before the first request
	record  telemetry.Record
	visitor telemetry.Visitor // of record
	cancel  context.CancelFunc
	at      int // row that waits for Serve after a Step that was not done; 0 = none, or beginAgain
	// What onDone rows read.
	sent    int64
	sendErr error
	took    time.Duration
}

// Open implements msg.Handler.
func (e *Edge) Open(c *msg.Conn) msg.Session {
	s := &session{edge: e, shard: e.nextShard.Add(1), rays: raySeed()}
	ctx, cancel := context.WithCancel(e.requests)
	s.cancel = cancel
	s.r.Conn, s.r.Ctx, s.r.Arena, s.r.Colo = c, ctx, &s.arena, e.cfg.Colo
	s.geo.Country, s.geo.ASN = e.geo.Find(c.Remote.Addr())
	s.record.Visitor = &s.visitor
	s.visitor.Client, s.visitor.TLS = c.Remote.Addr().Unmap(), tlsVersion(c)
	s.visitor.Country, s.visitor.ASN = s.geo.Country, s.geo.ASN
	return s
}

// Close implements msg.Session.
func (s *session) Close() { s.cancel() }

// Left implements msg.Leaver: what waits on behalf of the visitor ends.
func (s *session) Left() { s.cancel() }

// Serve implements msg.Session: it walks the pipeline, from where Step stopped.
func (s *session) Serve(in *msg.Request, out *msg.Response) {
	r := &s.r
	from := s.at
	s.at = 0
	if from <= 0 && !s.begin(in, out, true) {
		s.answer()
		return
	}
	r.NoWait = false
	s.edge.walk(r, max(from, 0))
	s.answer()
}

// Step implements msg.Stepper.
func (s *session) Step(in *msg.Request, out *msg.Response) (done bool) {
	began := s.begin(in, out, false)
	if s.at == beginAgain {
		return false
	}
	if began {
		s.r.NoWait = true
		if s.at = s.edge.walk(&s.r, 0); s.at > 0 {
			return false
		}
	}
	s.answer()
	return true
}

// beginAgain is session.at where the request's zone is not in memory.
const beginAgain = -1

// begin makes the session ready for a request and finds its zone. It is false
// where the request is refused, or where it would wait and must not.
func (s *session) begin(in *msg.Request, out *msg.Response, wait bool) bool {
	r := &s.r
	r.In, r.Out = in, out
	r.Reset()
	r.Ray = s.nextRay()
	r.Client = s.visitor.Client
	r.Geo = s.geo
	r.Body = request.NewBody(in.Body, in.Length)
	err := s.edge.admit(s, r, wait)
	if errors.Is(err, errCold) {
		s.at = beginAgain
		return false
	}
	r.Start = s.edge.clock.TimeAt(s.edge.clock.Now())
	if err != nil {
		r.Fault = fault.As(err)
		return false
	}
	return true
}

// answer runs the rows of answers over what the request's rows left.
func (s *session) answer() {
	r := &s.r
	if r.Out.Status == 0 && r.Out.EndConn {
		return // dropped: the connection ends without a byte
	}
	for i := range onResponse {
		onResponse[i].run(s.edge, r)
	}
	if r.Ctx.Err() != nil {
		r.Out.EndConn = true // the visitor has left, or the edge does
	}
}

// Done implements msg.Session.
func (s *session) Done(_ *msg.Request, _ *msg.Response, sent int64, err error) {
	s.sent, s.sendErr = sent, err
	s.took = time.Since(s.r.Start)
	for i := range onDone {
		onDone[i].run(s.edge, s)
	}
	s.r.In, s.r.Out, s.r.Zone = nil, nil, nil
}

// Refused implements msg.Session: the protocol answered by itself.
func (s *session) Refused(status int, reason error) {
	s.edge.logRefused(s, status, reason)
	s.edge.counters.refused(s.shard, status)
}

// nextRay steps a splitmix64 sequence: unique within the process as far as
// 64 random bits go, and not to be guessed from another connection's.
func (s *session) nextRay() request.Ray {
	s.rays += 0x9e3779b97f4a7c15
	z := s.rays
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb
	return request.Ray(z ^ (z >> 31))
}

func raySeed() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return binary.LittleEndian.Uint64(b[:])
}

// Why a request finds no zone.
var (
	errCold        = errors.New("the zone is not in memory")
	errNoHost      = errors.New("the request names no host")
	errAddressHost = errors.New("the request names an address instead of a host")
	errUnknownHost = errors.New("no zone here serves this host")
	errUnproxied   = errors.New("this name is not proxied: its DNS record points to the origin itself")
	errZoneOff     = errors.New("this zone is switched off")
	errTooEarly    = errors.New("only GET, HEAD and OPTIONS are taken in early data")
	errMisdirected = errors.New("the host belongs to another zone than the TLS server name")
)

// admit finds the zone that serves the request and holds it to the end.
func (e *Edge) admit(s *session, r *Request, wait bool) error {
	host, err := canonicalHost(r.In.Authority, r.Arena)
	if err != nil {
		return &fault.Error{Op: "admit", Side: fault.Visitor, Kind: fault.Malformed, Err: err}
	}
	r.Host = host
	z, cold, err := e.zoneOf(r.Ctx, host, wait)
	if cold {
		return errCold
	}
	if err != nil {
		return err
	}
	if z == nil {
		if isAddress(host) {
			return &fault.Error{Op: "admit", Side: fault.Visitor, Kind: fault.Forbidden, Err: errAddressHost}
		}
		return &fault.Error{Op: "admit", Side: fault.Visitor, Kind: fault.NotFound, Err: errUnknownHost}
	}
	r.Zone, r.ZoneID, r.Seq = z, z.ID, z.Seq
	if err := e.allow(r, z); err != nil {
		return err
	}
	if r.Conn.TLS != nil {
		if err := e.directed(s, r, z, wait); err != nil {
			return err
		}
	}
	if m := r.In.Method; r.In.Early && (r.Off.Has(zone.KillEarlyData) || m != msg.GET && m != msg.HEAD && m != msg.OPTIONS) {
		return &fault.Error{Op: "admit", Side: fault.Visitor, Kind: fault.TooEarly, Err: errTooEarly}
	}
	if z.Origin == nil || !z.Origin.Proxied(host) {
		return &fault.Error{Op: "admit", Side: fault.Visitor, Kind: fault.NotFound, Err: errUnproxied}
	}
	return nil
}

// directed compares the zone with that of the TLS server name, which is found with
// the connection's first request.
func (e *Edge) directed(s *session, r *Request, z *Zone, wait bool) error {
	if s.sni == "" && r.Conn.TLS.ServerName != "" {
		own, cold, err := e.zoneOf(r.Ctx, []byte(strings.ToLower(r.Conn.TLS.ServerName)), wait)
		if cold {
			return errCold
		}
		if err != nil {
			return err
		}
		if own != nil {
			s.sni = own.ID
		}
	}
	if s.sni != "" && s.sni != z.ID {
		return &fault.Error{Op: "admit", Side: fault.Visitor, Kind: fault.NotFound, Err: errMisdirected}
	}
	return nil
}

// allow notes what is switched off, for the request's whole way.
func (e *Edge) allow(r *Request, z *Zone) error {
	r.Off = e.kills.Now()
	if e.kills.Zone(r.Off, z.ID) {
		return &fault.Error{Op: "admit", Side: fault.Edge, Kind: fault.Off, Err: errZoneOff}
	}
	return nil
}

// canonicalHost returns the host of an authority in lower case, without port
// and final dot. It copies only when something has to change.
func canonicalHost(authority []byte, a *arena.Arena) ([]byte, error) {
	host := authority
	if len(host) > 0 && host[0] == '[' {
		for i, c := range host {
			if c == ']' {
				return host[:i+1], nil
			}
		}
		return nil, errNoHost
	}
	upper := false
	for i, c := range host {
		if c == ':' {
			host = host[:i]
			break
		}
		upper = upper || 'A' <= c && c <= 'Z'
	}
	if n := len(host); n > 0 && host[n-1] == '.' {
		host = host[:n-1]
	}
	if len(host) == 0 {
		return nil, errNoHost
	}
	if !upper {
		return host, nil
	}
	low := a.Alloc(len(host))
	for i, c := range host {
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		low[i] = c
	}
	return low, nil
}

func isAddress(host []byte) bool {
	if host[0] == '[' {
		return true
	}
	_, err := netip.ParseAddr(string(host))
	return err == nil
}

// walk runs the rows from number `from` on until one answers. Under NoWait it
// returns the number of the row that would wait, else 0.
func (e *Edge) walk(r *Request, from int) (waiting int) {
	z := r.Zone.(*Zone)
	verdict, at, err := e.run(z, r, from)
	switch {
	case err != nil:
		r.Fault = fault.As(err)
	case verdict == request.Wait:
		return at
	case verdict == request.Drop:
		r.Out.Status, r.Out.EndConn = 0, true
	}
	return 0
}

// run walks the rows from number `from` on and tells at which it ended. An
// error is the request's end.
func (e *Edge) run(z *Zone, r *Request, from int) (verdict Verdict, at int, err error) {
	var before time.Duration // the request has just begun
	if from > 0 {
		before = time.Since(r.Start)
	}
	for i := from; i < len(onRequest); i++ {
		row := &onRequest[i]
		if r.Off&row.off != 0 || !row.on(z) {
			continue
		}
		if r.NoWait && row.waits == yes {
			return request.Wait, i, nil
		}
		verdict, err := row.run(e, z, r)
		now := time.Since(r.Start)
		r.Marks[i] += uint32(min(now-before, time.Duration(1<<32-1)))
		before = now
		if err != nil && (row.broken == closed || fault.As(err).Kind != fault.Other) {
			return request.Respond, i, err
		}
		if err != nil {
			e.counters.broke(i)
			e.log.Error("a row is broken; requests go on without it", "row", row.name, "ray", r.Ray.String(), "err", err)
			continue
		}
		if verdict != request.Next {
			return verdict, i, nil
		}
	}
	return request.Respond, 0, &fault.Error{Op: "walk", Side: fault.Edge, Err: errors.New("no row answered")}
}

// Reenter runs the rows from the named one on, for a request that is already
// past those above: a cache fill, later a Worker's fetch. Depth is bounded.
func (e *Edge) Reenter(row int, r *Request) error {
	if r.Depth >= request.MaxDepth {
		return &fault.Error{Op: "reenter", Side: fault.Edge, Kind: fault.Loop, Err: errors.New("request re-entered the pipeline too often")}
	}
	r.Depth++
	r.NoWait = false
	_, _, err := e.run(r.Zone.(*Zone), r, row)
	return err
}
