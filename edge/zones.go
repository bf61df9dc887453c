package edge

import (
	"context"
	"errors"
	"path/filepath"

	"github.com/selvage-edge/selvage/edge/dns"
	"github.com/selvage-edge/selvage/edge/shelf"
	"github.com/selvage-edge/selvage/edge/tlsterm"
	"github.com/selvage-edge/selvage/feed"
	"github.com/selvage-edge/selvage/rings"
	"github.com/selvage-edge/selvage/zone"
)

// dnsPart is the share of the memory for compiled zones that DNS has: one in so
// many bytes.
const dnsPart = 4

// openZones makes the shelf of zones, the DNS server that answers from it, and
// what keeps both up to date. It needs the copy and the identity.
func (e *Edge) openZones() error {
	view := rings.NewView(e.openReplica(), e.identity.Colo)
	e.applier = &applier{edge: e, copy: view, staged: view}
	forDNS := e.cfg.ZonesCacheBytes / dnsPart
	e.zones = shelf.New(shelf.Config{
		Copy: view, Older: e.older(), Lost: e.lost, Log: e.log.With("part", "zones"),
		Fill: e.openPairs(view), Shared: &zone.Shared{Advertise: e.cfg.Advertise, Colo: e.cfg.Colo},
		State: e.heldFile(), AtOnce: e.loadsAtOnce(), Bytes: e.cfg.ZonesCacheBytes - forDNS,
	})
	if e.replica != nil {
		e.zones.Lacks = e.replica.Lacks
	}
	e.dns = dns.New(dns.Config{Logger: e.log, Bytes: forDNS, Ctx: e.requests, Names: &e.zones.Names, Load: e.zones.Plan})
	e.zones.Plans = e.dns
	return e.zones.Open()
}

// fetchesAtOnce is how many zones a partial replica loads at once: most of the
// time it waits for another server.
const fetchesAtOnce = 64

func (e *Edge) loadsAtOnce() int {
	if e.replica != nil {
		return fetchesAtOnce
	}
	return 0
}

// older is what the copy was before. A partial one has one version of each row,
// of which no earlier state can be made.
func (e *Edge) older() shelf.Historian {
	if e.replica != nil {
		return nil
	}
	return e.copy
}

func (e *Edge) heldFile() string {
	if e.cfg.State == "" { // of a Kit
		return ""
	}
	return filepath.Join(e.cfg.State, "held.json")
}

// lost reports that this edge's copy was lost and a parent has another.
func (e *Edge) lost() bool {
	return e.feed != nil && e.copy.Cursor().Seq == 0 && e.feed.Status().Head > 0
}

// certificatesOf is tlsterm's: it may wait for the zone.
func (e *Edge) certificatesOf(ctx context.Context, serverName string) (*tlsterm.Plan, error) {
	z, cold := e.zones.Find([]byte(serverName))
	if cold {
		var err error
		if z, err = e.zones.Load(ctx, []byte(serverName)); err != nil {
			return nil, err
		}
	}
	if z == nil {
		return nil, nil
	}
	return z.TLS, nil
}

// zoneOf finds the zone of a host, nil when there is none. A zone that is not in
// memory is waited for where wait says so; else cold is true.
func (e *Edge) zoneOf(ctx context.Context, host []byte, wait bool) (z *Zone, cold bool, err error) {
	if z, cold = e.zones.Find(host); cold && wait {
		z, err = e.zones.Load(ctx, host)
		return z, false, err
	}
	return z, cold, nil
}

// verifyRate is how many bytes of the copy are read a second to see that all is
// there, once after each start.
const verifyRate = 32 << 20

// verifyCopy reads the whole copy. What it finds makes the subscriber replace it.
func (e *Edge) verifyCopy(ctx context.Context) {
	err := e.copy.Verify(ctx, verifyRate)
	if err != nil && ctx.Err() == nil && !errors.Is(err, feed.ErrCorrupt) { // that is logged by the copy
		e.log.Error("the copy could not be verified", "err", err)
	}
}
