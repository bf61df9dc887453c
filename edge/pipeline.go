package edge

import (
	"slices"
	"time"

	"github.com/selvage-edge/selvage/edge/phase/cache"
	"github.com/selvage-edge/selvage/edge/request"
	"github.com/selvage-edge/selvage/edge/snapshot"
	"github.com/selvage-edge/selvage/internal/must"
	"github.com/selvage-edge/selvage/zone"
)

// The words of the tables below.
type (
	Request = request.Request
	Verdict = request.Verdict
	Zone    = snapshot.Zone
)

// What a request, a handshake or a query meets, in order:
//
// Names.       onQuery (edge/dns):      parse, find the zone, answer.
// Connections. onHello (edge/tlsterm):  find the zone by SNI, certificate, resume.
// Requests.    onRequest below, until a row answers; then onResponse; onDone always.
//
// Rows run downward. A row sees what rows above wrote and must not care what is
// below. A row stands here when its engine exists; the decided order of the rows
// to come is in ARCHITECTURE.md. A zone for which a row's Plan is nil skips it.
var onRequest = []row{
	// name       API phase                target               broken  waits  off  on      run
	{"normalize", "http_request_sanitize", 1 * time.Microsecond, closed, never, 0, always, func(e *Edge, z *Zone, r *Request) (Verdict, error) { return e.normalize.Run(z.Normalize, r) }},
	{"settings", "", 1 * time.Microsecond, closed, never, 0, func(z *Zone) bool { return z.Settings != nil }, func(e *Edge, z *Zone, r *Request) (Verdict, error) { return e.settings.Run(z.Settings, r) }},
	{"route", "http_request_origin", 1 * time.Microsecond, closed, never, 1 << zone.KillOriginRules, func(z *Zone) bool { return z.Origin != nil }, func(e *Edge, z *Zone, r *Request) (Verdict, error) { return e.origin.Route(z.Origin, r) }},
	{"cachesettings", cache.RulesPhase, 1 * time.Microsecond, closed, never, 1<<zone.KillCacheRules | 1<<zone.KillCache, func(z *Zone) bool { return z.Cache.HasRules() }, func(e *Edge, z *Zone, r *Request) (Verdict, error) { return e.cache.Settings(z.Cache, r) }},
	{"cache", "", 2 * time.Microsecond, open, miss, 1 << zone.KillCache, func(z *Zone) bool { return z.Cache != nil }, func(e *Edge, z *Zone, r *Request) (Verdict, error) { return e.cache.Run(z.Cache, r) }},
	{"origin", "", 0, closed, yes, 0, always, func(e *Edge, z *Zone, r *Request) (Verdict, error) { return e.origin.Run(z.Origin, r) }},
}

// onResponse runs on every answer, the edge's own included.
var onResponse = []answerRow{
	{"errors", "http_custom_errors", (*Edge).errorPage},
	{"headers", "http_response_headers_transform", (*Edge).identify},
	{"encode", "http_response_compression", (*Edge).encode},
}

// onDone runs when the answer has left, or could not.
var onDone = []doneRow{
	{"log", (*Edge).logRequest},
	{"count", (*Edge).countRequest},
}

// row is one step of the request's way.
type row struct {
	name   string
	phase  string        // the Ruleset Engine's name of the phase, "" where it has none
	target time.Duration // for benchmarks; 0 = it waits for others
	broken onBroken
	waits  waits
	off    zone.Kills // switches that each take the row out
	on     func(*Zone) bool
	run    func(*Edge, *Zone, *Request) (Verdict, error)
}

type answerRow struct {
	name  string
	phase string
	run   func(*Edge, *Request)
}

type doneRow struct {
	name string
	run  func(*Edge, *session)
}

// onBroken says what an error returned by a row means for the request.
type onBroken uint8

const (
	closed onBroken = iota // the request ends with the error
	open                   // the request goes on without the row
)

// waits says when a row may wait for somebody else.
type waits uint8

const (
	never waits = iota
	miss        // on a cache miss
	yes
)

func always(*Zone) bool { return true }

// rowNamed returns the index in onRequest; the name is a constant of ours.
func rowNamed(name string) int {
	i := slices.IndexFunc(onRequest, func(r row) bool { return r.name == name })
	must.That(i >= 0, "no row is called "+name)
	return i
}

// rowNames lists the rows as the access log's phases_ns names them.
func rowNames() []string {
	names := make([]string, len(onRequest))
	for i := range onRequest {
		names[i] = onRequest[i].name
	}
	return names
}
