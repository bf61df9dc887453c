package edge

import (
	"errors"
	"time"

	"github.com/selvage-edge/selvage/edge/peer"
	"github.com/selvage-edge/selvage/edge/request"
	"github.com/selvage-edge/selvage/fault"
	"github.com/selvage-edge/selvage/internal/arena"
	"github.com/selvage-edge/selvage/wire/msg"
)

// openPeer builds the way from edge to edge, when it has a listener.
func (e *Edge) openPeer() (err error) {
	if e.sockets.peer == nil {
		return nil
	}
	e.peer, err = peer.NewServer(peer.ServerConfig{TLS: e.identity.ServerTLS(peer.ALPN), Serve: e.servePeer})
	return err
}

var errBehind = errors.New("this edge stands at an older sequence than the one that asks")

// servePeer answers a request that another edge passes on. That edge has
// judged the visitor already, so the rows above route are not run again.
func (e *Edge) servePeer(env peer.Envelope, in *msg.Request, out *msg.Response) {
	r := &Request{
		In: in, Out: out, Ctx: e.requests, Arena: &arena.Arena{}, Colo: e.cfg.Colo, Start: time.Now(),
		Ray: request.Ray(env.Ray), Client: env.Client, Geo: request.Geo{Country: env.Country}, Depth: env.Depth,
	}
	r.Body = request.NewBody(in.Body, in.Length)
	if err := e.passOn(env, r); err != nil {
		r.Fault = fault.As(err)
	}
	for i := range onResponse {
		onResponse[i].run(e, r)
	}
}

func (e *Edge) passOn(env peer.Envelope, r *Request) (err error) {
	if r.Host, err = canonicalHost(r.In.Authority, r.Arena); err != nil {
		return &fault.Error{Op: "peer", Side: fault.Visitor, Kind: fault.Malformed, Err: err}
	}
	z := e.zones.Find(r.Host)
	if z == nil || z.ID != env.Zone || z.Origin == nil || !z.Origin.Proxied(r.Host) {
		return &fault.Error{Op: "peer", Side: fault.Visitor, Kind: fault.NotFound, Err: errUnknownHost}
	}
	if env.Seq > e.feed.Status().Applied { // not the copy's cursor, which is ahead until entries are settled
		// What was purged there may still be stored here.
		return &fault.Error{Op: "peer", Side: fault.Edge, Kind: fault.Limit, Err: errBehind}
	}
	r.Zone, r.ZoneID, r.Seq = z, z.ID, z.Seq
	return e.Reenter(rowNamed("route"), r)
}
