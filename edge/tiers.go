package edge

import (
	"errors"

	"github.com/selvage-edge/selvage/edge/peer"
	"github.com/selvage-edge/selvage/edge/request"
	"github.com/selvage-edge/selvage/edge/tier"
	"github.com/selvage-edge/selvage/fault"
	"github.com/selvage-edge/selvage/wire/msg"
	"github.com/selvage-edge/selvage/zone"
)

// fetch is the cache's way down: who else may hold the object is asked before
// the origin. What is not for the cache goes to the origin at once.
func (e *Edge) fetch(r *Request) error {
	if e.tiers == nil || r.CacheKey == nil || r.Off.Has(zone.KillTiers) {
		return e.askOrigin(r)
	}
	d := descent{edge: e, r: r}
	d.way = e.tiers.Way(d.room[:0], r.ZoneID, &r.Zone.(*Zone).Topology, tier.Hash(r.CacheKey), r.Role)
	if len(d.way) == 0 {
		return e.askOrigin(r)
	}
	return d.down()
}

var originRow = rowNamed("origin")

// maxSteps is the longest way: two servers of the own data center, a hub, two
// of the upper tier.
const maxSteps = 5

// descent is one request on its way through the tiers.
type descent struct {
	edge *Edge
	r    *Request
	way  []tier.Step // those not asked yet
	room [maxSteps]tier.Step
}

// down asks one after the other until there is an answer, at last the origin.
func (d *descent) down() error {
	for len(d.way) > 0 {
		err := d.ask(d.r)
		if err == nil {
			tier.Watch(d.r.Out, d)
			return nil
		}
		if final(d.r, err) {
			return err
		}
	}
	return d.edge.askOrigin(d.r)
}

// final reports whether a failure is the request's end: the visitor has left,
// or another edge has asked the origin in vain. Asking again would bring every
// edge's requests to an origin that is in trouble.
func final(r *Request, err error) bool {
	return r.Ctx.Err() != nil || fault.As(err).Side == fault.Origin
}

// ask asks the next one of the way for r, whose answer is in r.Out then.
func (d *descent) ask(r *Request) error {
	e, step := d.edge, d.way[0]
	d.way = d.way[1:]
	if r.Depth >= request.MaxDepth {
		return &fault.Error{Op: "tier", Side: fault.Edge, Kind: fault.Loop, Err: errDeep}
	}
	env := peer.Envelope{
		Zone: r.ZoneID, Seq: e.stand.newest(), Depth: r.Depth + 1, Ray: uint64(r.Ray), Client: r.Client, Country: r.Geo.Country,
		Role: uint8(step.Role), Scheme: r.In.Scheme,
	}
	r.Held, r.Left = 0, 0
	ctx, done := step.Peer.Asking(r.Ctx)
	err := e.peers.Do(ctx, target(&step.Peer.Node), &env, r.In, nil, r.Out)
	var from request.Tier
	if err == nil {
		from, err = readNote(r)
		if f := fault.As(err); err != nil && f.Side == fault.Edge && (f.Kind == fault.Limit || f.Kind == fault.Draining) {
			e.tiers.Lags(step.Peer)
		}
	} else if !fault.Is(err, fault.Limit) && r.Ctx.Err() == nil {
		e.tiers.Failed(step.Peer)
	}
	if err != nil {
		r.Out.Close()
		r.Out.Reset()
		done()
		e.asks.failed(step.Role, fault.As(err))
		return err
	}
	e.asks.answered(step.Role)
	r.Cache.Tier = told(step.Role, from)
	release := r.Out.Release
	r.Out.Release = func() {
		if release != nil {
			release()
		}
		done()
	}
	return nil
}

var errDeep = errors.New("passed on too often")

// told is the tier that answered, as the asker sees it: what another tier has
// in its memory or on its disk is that tier's, what a server of the own data
// center has is ours.
func told(asked request.Role, from request.Tier) request.Tier {
	if from != request.TierRAM && from != request.TierSSD {
		return from
	}
	switch asked {
	case request.RoleRegion:
		return request.TierRegion
	case request.RoleUpper:
		return request.TierUpper
	}
	return from
}

// More implements tier.Rest: it asks the next one, at last the origin, for what
// is missing of the answer.
func (d *descent) More(ask func(*msg.Fields)) (out *msg.Response, more bool) {
	if d.r.Ctx.Err() != nil {
		return nil, false
	}
	r := d.r.Detach(d.r.Ctx)
	r.In.Fields.DelFunc(func(l *msg.Field) bool {
		switch l.ID {
		case msg.Range, msg.IfRange, msg.IfMatch, msg.IfNoneMatch, msg.IfModifiedSince, msg.IfUnmodifiedSince:
			return true
		}
		return false
	})
	ask(&r.In.Fields)
	r.CacheKey, r.Fault, r.In.Interim = nil, nil, nil
	origin := len(d.way) == 0
	var err error
	if origin {
		err = d.edge.Reenter(originRow, r)
	} else {
		err = d.ask(r)
	}
	if err != nil {
		r.Out.Close()
		return nil, !origin && !final(r, err)
	}
	return r.Out, !origin
}

// Resumed implements tier.Rest.
func (d *descent) Resumed() { d.edge.asks.resumed() }
