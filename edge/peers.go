package edge

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/selvage-edge/selvage/edge/peer"
	"github.com/selvage-edge/selvage/edge/request"
	"github.com/selvage-edge/selvage/edge/tier"
	"github.com/selvage-edge/selvage/fault"
	"github.com/selvage-edge/selvage/feed"
	"github.com/selvage-edge/selvage/internal/arena"
	"github.com/selvage-edge/selvage/wire/msg"
)

// peering is how peers are reached; zero fields have the defaults of peer and
// tier. Tests have no network, and spare the machine.
type peering struct {
	dial          func(context.Context, string) (net.Conn, error)
	connectTime   time.Duration
	handshakeTime time.Duration
	probeEvery    time.Duration
}

// openPeers builds both ends of the way from edge to edge: the table of who is
// there, the client, and the server where there is a listener.
func (e *Edge) openPeers(how peering) (err error) {
	ask := peer.ClientConfig{Ctx: e.requests, TLS: e.identity.ClientTLS(peer.ALPN), Identify: nodeOf, Dial: how.dial, ConnectTime: how.connectTime}
	if e.peers, err = peer.NewClient(ask); err != nil {
		return err
	}
	ask.MaxConns = 1 // probes wait for nobody
	if e.probes, err = peer.NewClient(ask); err != nil {
		return err
	}
	e.tiers = tier.NewTable(tier.Config{
		Self:  tier.Node{ID: e.identity.NodeID, Colo: e.cfg.Colo, Region: e.cfg.Region, Hub: e.cfg.Hub},
		Probe: func(ctx context.Context, n *tier.Node) error { return e.probes.Probe(ctx, target(n)) },
		Consult: func(ctx context.Context, n *tier.Node, report []byte) ([]byte, error) {
			return e.peers.Report(ctx, target(n), report)
		},
		Measure: e.distance, Log: e.log, Interval: how.probeEvery,
	})
	if e.sockets.peer == nil {
		return nil
	}
	e.peer, err = peer.NewServer(peer.ServerConfig{
		TLS: e.identity.ServerTLS(peer.ALPN), Identify: nodeOf, Known: e.tiers.Knows, Serve: e.servePeer, Hear: e.tiers.Hear, Ctx: e.requests,
		HandshakeTime: how.handshakeTime,
	})
	return err
}

// distance is how far a zone's origin is from here.
func (e *Edge) distance(ctx context.Context, zoneID string) (time.Duration, error) {
	z, err := e.zones.LoadID(ctx, zoneID)
	if err != nil {
		return 0, err
	}
	if z == nil {
		return 0, &fault.Error{Op: "tier.distance", Kind: fault.NotFound, Err: errUnknownHost}
	}
	return e.origin.Distance(ctx, z.Origin, z.Name)
}

func nodeOf(cs tls.ConnectionState) (string, error) {
	p, err := feed.PeerOf(cs)
	return p.Node, err
}

func target(n *tier.Node) peer.Target { return peer.Target{ID: n.ID, Addrs: n.Addrs} }

var errBehind = errors.New("this edge stands at an older sequence than the one that asks")

// behindTime is how long an edge that asks waits for one that has not heard of
// the newest entries yet. A purge reaches all within a few milliseconds.
const behindTime = time.Second

// patience is how long this edge may be waited for: not at all while nothing
// new reaches it.
func (e *Edge) patience() time.Duration {
	if e.feed != nil && !e.feed.Status().Connected {
		return 0
	}
	return behindTime
}

// servePeer answers a request that another edge passes on. That edge has
// judged the visitor already, so the rows above route are not run again.
func (e *Edge) servePeer(ctx context.Context, env peer.Envelope, in *msg.Request, out *msg.Response) {
	r := &Request{
		In: in, Out: out, Ctx: ctx, Arena: &arena.Arena{}, Colo: e.cfg.Colo, Start: time.Now(), Role: request.Role(env.Role),
		Ray: request.Ray(env.Ray), Client: env.Client, Geo: request.Geo{Country: env.Country}, Depth: env.Depth,
	}
	r.Body = request.NewBody(in.Body, in.Length)
	if err := e.passOn(env, r); err != nil {
		r.Fault = fault.As(err)
	}
	noteFor(r)
}

func (e *Edge) passOn(env peer.Envelope, r *Request) (err error) {
	if r.Host, err = canonicalHost(r.In.Authority, r.Arena); err != nil {
		return &fault.Error{Op: "peer", Side: fault.Visitor, Kind: fault.Malformed, Err: err}
	}
	if !e.stand.wait(r.Ctx, env.Seq, e.patience()) {
		// What was purged there may still be stored here.
		return &fault.Error{Op: "peer", Side: fault.Edge, Kind: fault.Limit, Err: errBehind}
	}
	z, _, err := e.zoneOf(r.Ctx, r.Host, true)
	if err != nil {
		return err
	}
	if z == nil || z.ID != env.Zone || z.Origin == nil || !z.Origin.Proxied(r.Host) {
		return &fault.Error{Op: "peer", Side: fault.Visitor, Kind: fault.NotFound, Err: errUnknownHost}
	}
	r.Zone, r.ZoneID, r.Seq = z, z.ID, z.Seq
	if err := e.allow(r, z); err != nil {
		return err
	}
	if _, err := e.normalize.Run(z.Normalize, r); err != nil { // the path that keys and rules go by
		return err
	}
	return e.Reenter(rowNamed("route"), r)
}

// What one edge tells another beside an answer. No answer of an origin keeps
// fields of these names, and none reaches a visitor.
var (
	fieldTier  = []byte("Selvage-Tier")  // who had it, as in the access log
	fieldFault = []byte("Selvage-Fault") // side, kind, text; there is no answer then
	fieldAge   = []byte("Selvage-Age")   // of a stored answer, and how long it is fresh yet, in microseconds
)

const (
	maxFaultText = 200                   // bytes of a fault's text
	maxAge       = (1 << 31) * 1_000_000 // microseconds of an age (RFC 9111 §1.2.2)
)

// noteFor puts beside an answer what the asking edge is to know, and takes out
// what it says by itself.
func noteFor(r *Request) {
	out := r.Out
	if r.Fault != nil {
		out.Close()
		out.Reset()
		out.Status = statusOf(r.Fault)
	}
	out.Fields.DelFunc(func(l *msg.Field) bool { return ownWord(l) || l.ID == msg.CFCacheStatus })
	if r.Fault != nil {
		out.Fields.Add(fieldFault, faultText(r))
	}
	out.Fields.Add(fieldTier, []byte(r.Cache.Tier.String()))
	if us := r.Held.Microseconds(); us > 0 {
		text := append(strconv.AppendInt(r.Arena.Alloc(2*20 + 1)[:0], us, 10), ' ')
		out.Fields.Add(fieldAge, strconv.AppendInt(text, r.Left.Microseconds(), 10))
	}
}

func faultText(r *Request) []byte {
	f := r.Fault
	text := append(r.Arena.Alloc(2 + maxFaultText)[:0], '0'+byte(f.Side), '@'+byte(f.Kind))
	for _, c := range []byte(f.Error()) {
		if len(text) == 2+maxFaultText {
			break
		}
		if c < ' ' || c > '~' {
			c = '?'
		}
		text = append(text, c)
	}
	return text
}

// ownWord reports a field that edges speak to each other by.
func ownWord(l *msg.Field) bool {
	return l.ID == msg.Unknown && len(l.Name) > len("Selvage-") &&
		(bytes.EqualFold(l.Name, fieldTier) || bytes.EqualFold(l.Name, fieldFault) || bytes.EqualFold(l.Name, fieldAge))
}

// readAge reads fieldAge; zero where it says nothing.
func readAge(text []byte) (held, left time.Duration) {
	first, second, _ := bytes.Cut(text, []byte{' '})
	h, err1 := strconv.ParseInt(string(first), 10, 64)
	l, err2 := strconv.ParseInt(string(second), 10, 64)
	if err1 != nil || err2 != nil || h <= 0 {
		return 0, 0
	}
	us := func(n int64) time.Duration { return time.Duration(max(-maxAge, min(n, maxAge))) * time.Microsecond }
	return us(h), us(l)
}

var errNoNote = errors.New("the peer's answer does not say who gave it")

// readNote takes out of a peer's answer what noteFor has put there. The error
// is the peer's own fault, or that it is no answer of this kind.
func readNote(r *Request) (from request.Tier, err error) {
	out := r.Out
	var tierText, faultText, ageText []byte
	for i := range out.Fields.Len() { // the last one is the peer's
		switch l := out.Fields.At(i); {
		case !ownWord(l):
		case bytes.EqualFold(l.Name, fieldTier):
			tierText = l.Value
		case bytes.EqualFold(l.Name, fieldAge):
			ageText = l.Value
		default:
			faultText = l.Value
		}
	}
	if tierText == nil {
		return 0, &fault.Error{Op: "peer.answer", Kind: fault.Malformed, Err: errNoNote}
	}
	if len(faultText) >= 2 {
		return 0, &fault.Error{
			Op: "peer.answer", Side: fault.Side(min(faultText[0]-'0', byte(fault.Control))), Kind: fault.Kind(faultText[1] - '@'),
			Err: errors.New(string(faultText[2:])),
		}
	}
	r.Held, r.Left = readAge(ageText)
	from = request.TierEdge
	for t := request.TierEdge; t <= request.TierOrigin; t++ {
		if t.String() == string(bytes.TrimSpace(tierText)) {
			from = t
		}
	}
	out.Fields.DelFunc(func(l *msg.Field) bool {
		return ownWord(l) || slices.Contains([]msg.ID{msg.CFCacheStatus, msg.CFRay, msg.Server}, l.ID)
	})
	return from, nil
}
