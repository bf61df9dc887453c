// Package request is the one value that walks the pipeline, and the verdict a
// row gives. It carries what rows find out about a request in typed fields, so
// that a row reads what rows above it wrote and nothing travels by name.
package request

import (
	"context"
	"net/netip"
	"time"

	"github.com/selvage-edge/selvage/fault"
	"github.com/selvage-edge/selvage/internal/arena"
	"github.com/selvage-edge/selvage/wire/msg"
	"github.com/selvage-edge/selvage/zone"
)

// Verdict is what a row decides.
type Verdict uint8

const (
	Next    Verdict = iota // go on with the row below
	Respond                // the answer is in r.Out
	Hijack                 // the answer is r.Out with a Tunnel: Upgrade, CONNECT
	Drop                   // end the connection without an answer
	Wait                   // only where NoWait is set: the row would wait; it has done nothing and is to be run again
)

// Request is owned by one goroutine at a time. Everything it points to that
// is not its own (In, Out, the zone's plans) is valid until Done; Detach makes
// a copy that lives on its own.
type Request struct {
	In   *msg.Request
	Out  *msg.Response
	Conn *msg.Conn
	// Ctx ends when the connection is cut or the server gives up draining.
	// It is the one stored context of the house: the request is its scope.
	Ctx   context.Context
	Arena *arena.Arena

	Ray    Ray
	Start  time.Time // with monotonic clock, when the head had been read
	Client netip.Addr
	Geo    Geo
	Host   []byte // lower-case, without port and final dot; set before the first row
	// Path is In.Path as rules see it, normalised; nil = In.Path as it is.
	Path   []byte
	ZoneID string
	// Zone is the compiled zone that serves this request to its end (a
	// *snapshot.Zone, which this package cannot name); nil = no zone.
	Zone any
	// Marks holds the nanoseconds spent in each row, by row number.
	Marks [MaxRows]uint32
	Colo  string
	Seq   uint64     // of the zone snapshot this request is served by
	Off   zone.Kills // what is switched off, the same for the request's whole way
	Depth uint8      // re-entries so far, at most MaxDepth
	// NoWait says that who runs the rows must not wait: a row that would,
	// answers Wait and is run again, without NoWait, by somebody who may.
	NoWait bool

	Body  Body // the request's body: Peek, then Read
	Route Route
	Cache CacheNote
	// Device is mobile, tablet or desktop where answers are kept for each: the
	// origin is told. nil = it makes no difference.
	Device []byte
	// CachePolicy is what the cachesettings row decided, in a type of the
	// cache's own; nil = it did not run.
	CachePolicy any
	Tried       OriginNote
	// CacheKey is the text of the key under which the cache will store the
	// answer; who else may hold it is found by it. nil = it is not for the cache.
	CacheKey []byte
	// ReserveKey is the key under which a reserve may have the answer, of a request
	// whose answer is not for the cache: it is too large, say. nil = CacheKey.
	ReserveKey []byte
	// Held is the age of a stored answer, exactly: the cache's own, or that of
	// another edge's as it tells; 0 = the fields alone tell it. Left is how long
	// it is fresh from then on.
	Held, Left time.Duration
	// Role is the tier that another edge asks this one as; RoleNone where a
	// visitor asks. An answer to an edge has the origin's fields, unchanged.
	Role Role
	// Fault is why no proper answer could be had; the answer is made from it
	// in edge/respond.go.
	Fault *fault.Error

	uriText, fullText []byte // of expressions, once asked for
}

// Role is what an edge is asked as by another, in the order of the way: who is
// asked as one passes the request on to a later one only, so no way is a loop.
type Role uint8

const (
	RoleNone   Role = iota // a visitor's request
	RoleOwner              // the server of the asker's data center that has this object
	RoleRegion             // the hub of the asker's region
	RoleUpper              // the upper tier
)

// MaxDepth bounds re-entry of one request.
const MaxDepth = 16

// MaxRows is how many rows the pipeline may have.
const MaxRows = 32

// Geo is what an address tells. The zero value means unknown.
type Geo struct {
	Country [2]byte // ISO 3166-1 alpha-2, zero when unknown
	ASN     uint32  // 0 when unknown
}

// Route says which origin answers; empty fields mean what the DNS record and
// the scheme say. Written by the route row, read by origin.
type Route struct {
	Host string // name or address literal to connect to; "" = the record's content
	Port uint16 // 0 = by scheme
	// HostHeader replaces the visitor's host in the Host field sent to the
	// origin; SNI is the TLS server name, "" = the name in the Host field.
	HostHeader string
	SNI        string
	// ReadTimeout is how long the origin may take between two reads; 0 = as the
	// engine is configured.
	ReadTimeout time.Duration
}

// CacheStatus is the value of CF-Cache-Status.
type CacheStatus uint8

const (
	CacheNone        CacheStatus = iota // no cache had a say: edge's own answer
	CacheHit                            // served from cache, fresh
	CacheMiss                           // fetched, storable
	CacheExpired                        // was stored, stale, fetched anew
	CacheRevalidated                    // was stale, origin said 304
	CacheStale                          // stale, served because the origin fails
	CacheBypass                         // request or answer said not to store
	CacheDynamic                        // not eligible: method, or nothing allows storing
	CacheUpdating                       // stale, served while another request refreshes it
)

var cacheStatusText = [...]string{"NONE", "HIT", "MISS", "EXPIRED", "REVALIDATED", "STALE", "BYPASS", "DYNAMIC", "UPDATING"}

func (c CacheStatus) String() string { return cacheStatusText[c] }

// Tier is who answered.
type Tier uint8

const (
	TierEdge Tier = iota // the edge itself: redirect, error page
	TierRAM
	TierSSD
	TierRegion
	TierUpper
	TierReserve
	TierOrigin
)

var tierText = [...]string{"edge", "ram", "ssd", "region", "upper", "reserve", "origin"}

func (t Tier) String() string { return tierText[t] }

// CacheNote is what the cache row found.
type CacheNote struct {
	Status CacheStatus
	Tier   Tier
	Age    uint32 // seconds, of a stored answer
}

// OriginNote is what the origin row did.
type OriginNote struct {
	Addr    netip.AddrPort
	Status  int           // 0 = no answer
	Reused  bool          // on a kept connection
	Connect time.Duration // DNS, TCP and TLS
	Wait    time.Duration // from request sent to head received
}

// Reset makes the value ready for the next request on its connection. In,
// Out, Conn, Ctx, Colo and Arena stay; the arena is emptied.
func (r *Request) Reset() {
	r.Arena.Reset()
	*r = Request{In: r.In, Out: r.Out, Conn: r.Conn, Ctx: r.Ctx, Arena: r.Arena, Colo: r.Colo}
}

// Detach copies what a fill, a log or a background task needs to outlive r:
// a Request of its own, with its own arena, In and an empty Out, under ctx.
// The body does not come along: only requests without one are detached.
func (r *Request) Detach(ctx context.Context) *Request {
	a := new(arena.Arena)
	in := &msg.Request{
		MethodText: a.Copy(r.In.MethodText), Method: r.In.Method, Scheme: r.In.Scheme,
		Authority: a.Copy(r.In.Authority), Target: a.Copy(r.In.Target), Path: a.Copy(r.In.Path),
		Proto: r.In.Proto, Early: r.In.Early,
	}
	if r.In.Query != nil {
		in.Query = append([]byte{}, r.In.Query...)
	}
	r.In.Fields.CopyTo(&in.Fields, a.Copy)
	d := *r
	d.In, d.Out, d.Ctx, d.Arena = in, new(msg.Response), ctx, a
	d.Host, d.Path = a.Copy(r.Host), a.Copy(r.Path)
	d.uriText, d.fullText = nil, nil
	d.Body = Body{}
	return &d
}
