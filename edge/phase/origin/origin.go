// Package origin decides which server answers for a zone and sends requests
// there: rows "route" and "origin". It promises that a connection is kept and
// used again where both sides allow it, that a request is sent twice only
// where that is safe, that one origin cannot take more connections than its
// share, and that every failure says whose it is and of which kind.
//
// How an origin is spoken to follows from the zone's ssl setting, whatever the
// visitor's scheme: off and flexible use http on port 80, full uses https on
// port 443 with any certificate, strict wants one that is valid for the name
// in the Host field (or the rule's SNI). A rule may set another port.
//
// HTTP/2 is spoken to https where it is offered, and to http, which cannot be
// asked, to those that the zone says: calls of gRPC, unless it says otherwise. A
// call of gRPC that would have to go over HTTP/1.1 is not sent.
//
// A request that came round is refused: its CDN-Loop (RFC 8586) names this
// zone already, or too many Selvages. Chains of different zones are allowed.
package origin

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/selvage-edge/selvage/edge/request"
	"github.com/selvage-edge/selvage/fault"
	"github.com/selvage-edge/selvage/wire/h1"
	"github.com/selvage-edge/selvage/wire/h2/client"
	"github.com/selvage-edge/selvage/wire/msg"
)

// Config is what an Engine is told once. Zero fields have the default that
// their comment names.
type Config struct {
	// Dial connects to a name or an address literal; guard.Guard's. Needed
	// by Run.
	Dial func(ctx context.Context, host string, port uint16) (net.Conn, error)
	// NewClient speaks HTTP/1.1 on a connection; interim is to be told of 1xx
	// answers. Default wire/h1 with its default limits.
	NewClient func(nc net.Conn, interim func(status int, fields *msg.Fields)) Client
	// RootCAs are trusted for ssl strict besides the system's. Default none.
	RootCAs []*x509.Certificate

	MaxConns    int // open connections per zone and origin; default 256
	MaxIdle     int // of which kept while idle; default 64
	MaxSessions int // of which speak HTTP/2; default 4
	MaxStreams  int // requests at a time on one of those; default 100

	MaxQueue  int           // requests waiting for one of them; default 1024
	QueueTime time.Duration // the longest such wait; default 10 s
	HoldTime  time.Duration // a visitor who takes nothing for so long gives way to them; default 2 s
	IdleTime  time.Duration // an unused connection is closed after; default 60 s
	TLSTime   time.Duration // for a TLS handshake; default 10 s
	AvoidTime time.Duration // an origin that could not be connected to comes last for; default 5 s
}

// Client is one connection that HTTP requests are sent on, one at a time.
type Client interface {
	// Do sends req with body (nil = none) and fills res when the answer's
	// head has arrived. What res holds is valid until the next Do. When ctx
	// ends, the connection is cut. body is not read after a failed Do or
	// after res.Close; it is closed when the origin does not want the rest.
	Do(ctx context.Context, req *msg.Request, body io.Reader, res *msg.Response) error
	// Reusable tells, after res.Close, whether another request may follow; Alive
	// the same of a connection that was idle since.
	Reusable() bool
	Alive() bool
	Close() error
}

// Engine holds connections and counters. Safe for concurrent use.
type Engine struct {
	config  Config
	metrics *metrics
	roots   *x509.CertPool // nil = the system's
	memory  *client.Memory // of HTTP/2 connections
	turn    atomic.Uint32  // rotates origins
	hints   hints

	mu     sync.RWMutex
	pools  map[key]*pool // guarded by mu
	closed bool          // guarded by mu

	stop chan struct{}
	work sync.WaitGroup
}

// New returns an Engine; Close ends it.
func New(c Config) *Engine {
	if c.NewClient == nil {
		c.NewClient = clients()
	}
	c.MaxConns = cmp.Or(max(c.MaxConns, 0), 256)
	c.MaxIdle = cmp.Or(max(c.MaxIdle, 0), 64)
	c.MaxSessions = cmp.Or(max(c.MaxSessions, 0), 4)
	c.MaxStreams = cmp.Or(max(c.MaxStreams, 0), 100)
	c.MaxQueue = cmp.Or(max(c.MaxQueue, 0), 1024)
	c.QueueTime = cmp.Or(max(c.QueueTime, 0), 10*time.Second)
	c.HoldTime = cmp.Or(max(c.HoldTime, 0), 2*time.Second)
	c.IdleTime = cmp.Or(max(c.IdleTime, 0), 60*time.Second)
	c.TLSTime = cmp.Or(max(c.TLSTime, 0), 10*time.Second)
	c.AvoidTime = cmp.Or(max(c.AvoidTime, 0), 5*time.Second)
	e := &Engine{config: c, roots: trusted(c.RootCAs), memory: client.NewMemory(), pools: make(map[key]*pool), stop: make(chan struct{})}
	e.hints.seed = maphash.MakeSeed()
	e.metrics = newMetrics(e)
	e.work.Go(e.sweep)
	return e
}

// Close ends idle connections at once and those in use as they come back.
func (e *Engine) Close() {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return
	}
	e.closed = true
	e.mu.Unlock()
	close(e.stop)
	for _, p := range e.list() {
		p.shut()
	}
	e.work.Wait()
}

// Route is the row "route": it refuses loops and writes r.Route from the
// zone's rules. p may be nil.
func (e *Engine) Route(p *Plan, r *request.Request) (request.Verdict, error) {
	if loops(&r.In.Fields, r.ZoneID) {
		e.metrics.failed(fault.Loop)
		return request.Respond, failure("origin.route", fault.Loop, errLoop)
	}
	if p != nil && p.rules != nil {
		p.rules.apply(r, &r.Route)
	}
	return request.Next, nil
}

// clients returns what speaks HTTP/1.1 by wire/h1, on shared buffers.
func clients() func(net.Conn, func(int, *msg.Fields)) Client {
	memory := h1.NewMemory(0)
	return func(nc net.Conn, interim func(int, *msg.Fields)) Client {
		return h1.NewClient(nc, h1.ClientLimits{Memory: memory, OnInterim: interim})
	}
}

// Why a request does not reach an origin.
var (
	errLoop      = errors.New("the request came through this zone before")
	errNoOrigin  = errors.New("no proxied record has this name")
	errNoTunnel  = errors.New("101 without a tunnel")
	errConnect   = errors.New("CONNECT is not passed on")
	errQueueFull = errors.New("every connection to the origin is in use and the queue is full")
	errQueueTime = errors.New("no connection to the origin became free in time")
	errClosed    = errors.New("the edge is going away")
	errGRPC      = errors.New("gRPC needs HTTP/2, which the origin does not offer or the zone's settings forbid")
	errPrior     = errors.New("the origin of http did not answer in HTTP/2")
)

// Attempts at one request: maxReplays on connections that had gone stale, and
// maxTargets origins that could not be connected to.
const (
	maxReplays = 2
	maxTargets = 3
)

// Run is the row "origin": it sends the request and fills r.Out, whose body
// streams until r.Out.Close. An answer of 101 is a Hijack with r.Out.Tunnel.
// r.Tried says what was done. The error is a *fault.Error.
func (e *Engine) Run(p *Plan, r *request.Request) (request.Verdict, error) {
	verdict, err := e.run(p, r)
	if err != nil {
		f := fault.As(err)
		e.metrics.failed(f.Kind)
		return request.Respond, f
	}
	return verdict, nil
}

func (e *Engine) run(p *Plan, r *request.Request) (request.Verdict, error) {
	if r.In.Method == msg.CONNECT {
		return request.Respond, &fault.Error{Op: "origin.run", Side: fault.Visitor, Kind: fault.Malformed, Err: errConnect}
	}
	one, fresh := false, false
	var room [maxTargets]*pool
	targets, err := e.targets(p, r, one, room[:0])
	if err != nil {
		return request.Respond, err
	}
	e.hint(p, r)
	for replays := 0; ; replays++ {
		c, err := e.connect(r, targets, fresh)
		if err != nil {
			return request.Respond, err
		}
		if c.session == nil && r.In.CallsGRPC() {
			c.pool.release(c, true)
			return request.Respond, failure("origin.grpc", fault.Version, errGRPC)
		}
		err = e.exchange(r, c)
		if err == nil {
			e.learn(p, r)
			return e.accept(r, c)
		}
		r.Out.Close()
		r.Out.Reset()
		again, pl := replays < maxReplays && repeatable(r, c, err), c.pool
		pl.release(c, false)
		if !again {
			return request.Respond, err
		}
		e.metrics.retries.Inc()
		fresh = true
		if errors.Is(err, client.ErrHTTP11) && !one {
			if one = true; !errors.Is(err, client.ErrNoConnect) {
				pl.oneUntil.Store(time.Now().Add(oneTime).UnixNano())
			}
			if targets, err = e.targets(p, r, one, room[:0]); err != nil {
				return request.Respond, err
			}
		}
	}
}

// oneTime is how long an origin that asked for HTTP/1.1 is spared HTTP/2.
const oneTime = 10 * time.Minute

// repeatable reports whether a request that failed may be sent again, its body
// being at hand still: any that the origin is known not to have processed; and
// one whose method may be repeated (RFC 9110 §9.2.2), on a kept connection that
// ended before any of the answer came.
func repeatable(r *request.Request, c *conn, err error) bool {
	f := fault.As(err)
	if !f.Retry || f.Side != fault.Origin {
		return false
	}
	if !errors.Is(err, client.ErrUnprocessed) && (!c.reused || !r.In.Method.Idempotent()) {
		return false
	}
	return !r.Body.Present() || !c.body.started || r.Body.Rewind()
}

// targets lists the origins to try in pools, the preferred one first; one says
// that HTTP/1.1 is to be spoken.
func (e *Engine) targets(p *Plan, r *request.Request, one bool, pools []*pool) ([]*pool, error) {
	var names [1]string
	list := names[:]
	if p == nil {
		return nil, failure("origin.run", fault.NotFound, errNoOrigin)
	}
	if list[0] = r.Route.Host; list[0] == "" {
		found := p.find(r.Host)
		if found == nil {
			return nil, failure("origin.run", fault.NotFound, errNoOrigin)
		}
		list = found.targets
	}
	k := key{zone: r.ZoneID, port: r.Route.Port, mode: p.mode}
	if k.port == 0 {
		k.port = p.mode.port()
	}
	if p.mode != plain {
		k.sni = serverName(r)
	}
	from := 0
	if len(list) > 1 {
		from = int(e.turn.Add(1)) % len(list)
	}
	now := time.Now()
	var avoided []*pool
	for i := range list {
		k.host = list[(from+i)%len(list)]
		pl, err := e.find(r, k, !one && p.overTwo(r))
		if err != nil {
			return nil, err
		}
		if pl.avoided(now) {
			avoided = append(avoided, pl)
		} else if pools = append(pools, pl); len(pools) == maxTargets {
			return pools, nil
		}
	}
	pools = append(pools, avoided...)
	return pools[:min(len(pools), maxTargets)], nil
}

// find finds the pool for k, by the newest protocol that may be spoken. A
// request with Upgrade needs HTTP/1.1, but for WebSocket where the origin is
// known to take it over HTTP/2.
func (e *Engine) find(r *request.Request, k key, two bool) (*pool, error) {
	k.two = two
	if two && r.In.Upgrade != nil {
		k.two = msg.EqualFold(r.In.Upgrade, websocket) && e.connects(r.Ctx, k)
	}
	pl, err := e.pool(k)
	if err != nil || !k.two || pl.oneUntil.Load() < time.Now().UnixNano() {
		return pl, err
	}
	k.two = false
	return e.pool(k)
}

// connect takes a connection to the first origin that lets itself be
// connected to. Nothing has been sent, so any method may try the next.
func (e *Engine) connect(r *request.Request, targets []*pool, fresh bool) (*conn, error) {
	start := time.Now()
	var first error
	for i, p := range targets {
		if i > 0 {
			e.metrics.retries.Inc()
		}
		c, err := e.take(r.Ctx, p, fresh)
		if err == nil {
			r.Tried = request.OriginNote{Addr: c.addr, Reused: c.reused}
			if !c.reused {
				r.Tried.Connect = time.Since(start)
			}
			return c, nil
		}
		if first == nil {
			first = err
		}
		if f := fault.As(err); f.Side != fault.Origin || f.Kind == fault.Limit {
			return nil, err
		}
		p.avoid(time.Now().Add(e.config.AvoidTime))
	}
	return nil, first
}

// exchange sends the request on c and waits for the answer's head.
func (e *Engine) exchange(r *request.Request, c *conn) error {
	e.compose(r, &c.req)
	c.req.Interim = c.early
	if c.session != nil {
		c.req.Scheme, c.req.Proto = msg.HTTP, msg.HTTP2 // of this connection: servers compare
		if c.pool.tls != nil {
			c.req.Scheme = msg.HTTPS
		}
	}
	shake := shakeHands(r, c)
	c.visitor, c.body = r.In.Interim, sender{body: &r.Body, in: r.In, out: &c.req}
	start := time.Now()
	var err error
	if r.Body.Present() {
		err = c.client.Do(r.Ctx, &c.req, &c.body, r.Out)
	} else {
		err = c.client.Do(r.Ctx, &c.req, nil, r.Out)
	}
	if err == nil && r.Out.Status == 101 && r.Out.Tunnel == nil {
		err = failure("origin.exchange", fault.Malformed, errNoTunnel)
	}
	if err == nil && r.In.Upgrade != nil {
		err = shake.check(r)
	}
	c.visitor = nil
	if err != nil {
		if err = e.blame(r, err); c.unanswered(fault.As(err)) {
			err = failure("origin.exchange", fault.Version, fmt.Errorf("%w: %w", errPrior, err))
		}
		return err
	}
	r.Tried.Wait = time.Since(start)
	r.Tried.Status = r.Out.Status
	e.metrics.wait.Observe(r.Tried.Wait.Seconds())
	return nil
}

// accept makes the answer ours: hop-by-hop fields leave it and its
// trailers, and its Close gives the connection back.
func (e *Engine) accept(r *request.Request, c *conn) (request.Verdict, error) {
	cleanAnswer(&r.Out.Fields, r.In.Method == msg.HEAD || r.Out.Status == 304, r.Out.Tunnel != nil)
	c.cutter, _ = r.Out.Body.(interface{ Cut() })
	c.release = r.Out.Release
	r.Out.Release = c.finished
	if r.Out.Tunnel != nil {
		return request.Hijack, nil
	}
	if r.Out.Body != nil {
		r.Out.Body = &passed{ReadCloser: r.Out.Body, trailer: r.Out.Trailer, hold: &c.hold}
		c.pool.streams(c)
	}
	return request.Respond, nil
}

// blame names the side that made an exchange fail.
func (e *Engine) blame(r *request.Request, err error) error {
	if f, ok := errors.AsType[*fault.Error](err); ok && f.Side == fault.Visitor {
		return f
	}
	if r.Ctx.Err() != nil {
		return &fault.Error{Op: "origin.exchange", Side: fault.Visitor, Kind: fault.Closed, Err: err}
	}
	if f, ok := errors.AsType[*fault.Error](err); ok {
		return f
	}
	return failure("origin.exchange", kindOf(err), err)
}

// unanswered reports that an exchange failed because the origin was spoken to in
// HTTP/2 without being asked, and did not take it: what came was none, or the end.
func (c *conn) unanswered(f *fault.Error) bool {
	return c.session != nil && c.pool.tls == nil && !c.session.client.Greeted() && f.Side == fault.Origin &&
		(f.Kind == fault.Malformed || f.Kind == fault.Closed || f.Kind == fault.Refused)
}

func failure(op string, kind fault.Kind, err error) *fault.Error {
	return &fault.Error{Op: op, Side: fault.Origin, Kind: kind, Err: err}
}

func kindOf(err error) fault.Kind {
	if t, ok := errors.AsType[net.Error](err); ok && t.Timeout() {
		return fault.Timeout
	}
	return fault.Closed
}
