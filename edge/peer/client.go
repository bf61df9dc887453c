package peer

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/selvage-edge/selvage/fault"
	"github.com/selvage-edge/selvage/wire/h1"
	"github.com/selvage-edge/selvage/wire/msg"
)

// ClientConfig is what a Client is told once. Zero fields have the default
// that their comment names.
type ClientConfig struct {
	// TLS holds the node's certificate and judges who answers. Needed.
	TLS *tls.Config
	// Identify reads a node's id from its certificate. Needed.
	Identify func(tls.ConnectionState) (string, error)
	// Dial opens a connection to host:port. Default net.Dialer.
	Dial func(ctx context.Context, addr string) (net.Conn, error)

	MaxConns    int           // per peer; default 64, beyond is a fault of kind Limit
	IdleTime    time.Duration // an unused connection is not used again after; default 60 s
	ConnectTime time.Duration // TCP and TLS; default 5 s
}

// Target is a node that is called.
type Target struct {
	ID    string
	Addrs []string // host:port, tried in order
}

// Client sends requests to peers over kept connections. Safe for concurrent
// use.
type Client struct {
	config ClientConfig
	memory *h1.Memory

	mu     sync.Mutex
	peers  map[string]*conns // by node; guarded by mu
	closed bool              // guarded by mu
}

// conns are the connections to one peer, guarded by Client.mu.
type conns struct {
	open int
	idle []*conn // newest last
}

// conn is a connection.
type conn struct {
	h1      *h1.Client
	interim func(int, *msg.Fields) error // takes 1xx answers; owned by who uses it
	since   time.Time                    // idle since
}

var (
	errBusy   = errors.New("every connection to the peer is in use")
	errClosed = errors.New("the client is closed")
	errNoAddr = errors.New("the peer has no address")
	errOther  = errors.New("another node answers at the peer's address")
	errAnswer = errors.New("the peer did not answer as it should")
)

// headTime is how long a peer may take to answer: an origin may take that
// long. Whether the peer lives is found out by probes meanwhile.
const headTime = 130 * time.Second

// NewClient returns a Client; Close ends it.
func NewClient(c ClientConfig) (*Client, error) {
	if c.TLS == nil || c.TLS.GetClientCertificate == nil && len(c.TLS.Certificates) == 0 || c.Identify == nil {
		return nil, errors.New("peer: a TLS configuration with the node's certificate is needed, and who reads peers' certificates")
	}
	if c.Dial == nil {
		dialer := &net.Dialer{}
		c.Dial = func(ctx context.Context, addr string) (net.Conn, error) { return dialer.DialContext(ctx, "tcp", addr) }
	}
	if c.MaxConns <= 0 {
		c.MaxConns = 64
	}
	if c.IdleTime <= 0 {
		c.IdleTime = 60 * time.Second
	}
	if c.ConnectTime <= 0 {
		c.ConnectTime = 5 * time.Second
	}
	return &Client{config: c, memory: h1.NewMemory(maxHead), peers: make(map[string]*conns)}, nil
}

// Do sends env and req to a peer; body is nil when req.Length is 0. res is
// filled as by h1.Client.Do; its Close gives the connection back. 1xx answers
// go to req.Interim, if there is one. The error is a *fault.Error of side Edge,
// or Visitor when ctx ended or body failed.
func (c *Client) Do(ctx context.Context, to Target, env *Envelope, req *msg.Request, body io.Reader, res *msg.Response) error {
	for {
		cn, reused, err := c.take(ctx, to)
		if err != nil {
			return err
		}
		err = c.send(ctx, cn, env, req, body, res)
		if err == nil {
			release := res.Release
			res.Release = func() {
				if release != nil {
					release()
				}
				c.give(to.ID, cn, cn.h1.Reusable())
			}
			return nil
		}
		c.give(to.ID, cn, false)
		// A kept connection may have ended just now; without a body nothing
		// is lost by asking again.
		if f := fault.As(err); !reused || !f.Retry || body != nil || !req.Method.Idempotent() {
			return ours(f)
		}
	}
}

// Probe asks a peer whether the way is open.
func (c *Client) Probe(ctx context.Context, to Target) error {
	res := new(msg.Response)
	if err := c.Do(ctx, to, nil, internal(msg.GET, ProbePath, 0), nil, res); err != nil {
		return err
	}
	defer res.Close()
	if res.Status != 204 {
		return &fault.Error{Op: "peer.probe", Kind: fault.Malformed, Err: errAnswer}
	}
	return nil
}

// Report tells a peer something and returns its answer, each at most MaxReport
// bytes.
func (c *Client) Report(ctx context.Context, to Target, report []byte) ([]byte, error) {
	res := new(msg.Response)
	if err := c.Do(ctx, to, nil, internal(msg.POST, reportPath, int64(len(report))), bytes.NewReader(report), res); err != nil {
		return nil, err
	}
	defer res.Close()
	if res.Status != 200 || res.Body == nil || res.Length > MaxReport {
		return nil, &fault.Error{Op: "peer.report", Kind: fault.Malformed, Err: errAnswer}
	}
	answer, err := io.ReadAll(io.LimitReader(res.Body, MaxReport))
	if err != nil {
		return nil, &fault.Error{Op: "peer.report", Kind: fault.Closed, Err: err}
	}
	return answer, nil
}

// internal is a request of the edges among themselves.
func internal(m msg.Method, path string, length int64) *msg.Request {
	return &msg.Request{
		MethodText: []byte(m.String()), Method: m, Scheme: msg.HTTPS, Proto: msg.HTTP11, Length: length,
		Authority: []byte("peer"), Target: []byte(path), Path: []byte(path),
	}
}

// Close ends idle connections at once and those in use as they come back.
func (c *Client) Close() {
	c.mu.Lock()
	c.closed = true
	var idle []*conn
	for _, p := range c.peers {
		idle = append(idle, p.idle...)
		p.open -= len(p.idle)
		p.idle = nil
	}
	c.mu.Unlock()
	for _, cn := range idle {
		_ = cn.h1.Close()
	}
}

// send adds the envelope to a copy of the field list, so that req stays as it
// was for another try.
func (c *Client) send(ctx context.Context, cn *conn, env *Envelope, req *msg.Request, body io.Reader, res *msg.Response) error {
	out := *req
	out.Fields = msg.Fields{}
	for i := range req.Fields.Len() {
		l := req.Fields.At(i)
		if l.ID != msg.Unknown || !msg.EqualFold(l.Name, fieldName) {
			out.Fields.AddField(*l)
		}
	}
	if env != nil {
		value, err := seal(env)
		if err != nil {
			return &fault.Error{Op: "peer.seal", Kind: fault.Malformed, Err: err}
		}
		out.Fields.Add([]byte(fieldName), []byte(value))
	}
	cn.interim = req.Interim
	defer func() { cn.interim = nil }()
	return cn.h1.Do(ctx, &out, body, res)
}

// take returns a kept connection that is not too old, or a new one.
func (c *Client) take(ctx context.Context, to Target) (cn *conn, reused bool, err error) {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil, false, &fault.Error{Op: "peer.dial", Kind: fault.Draining, Err: errClosed}
	}
	p := c.peers[to.ID]
	if p == nil {
		p = &conns{}
		c.peers[to.ID] = p
	}
	expired := p.expire(time.Now().Add(-c.config.IdleTime))
	n := len(p.idle)
	switch {
	case n > 0:
		cn, p.idle = p.idle[n-1], p.idle[:n-1]
	case p.open < c.config.MaxConns:
		p.open++
	default:
		err = &fault.Error{Op: "peer.dial", Kind: fault.Limit, Err: errBusy}
	}
	c.mu.Unlock()
	for _, old := range expired {
		_ = old.h1.Close()
	}
	if cn != nil || err != nil {
		return cn, cn != nil, err
	}
	cn, err = c.dial(ctx, to)
	if err != nil {
		c.give(to.ID, nil, false)
		return nil, false, err
	}
	return cn, false, nil
}

// expire takes out the connections that were idle before a moment.
func (p *conns) expire(before time.Time) []*conn {
	n := 0
	for n < len(p.idle) && p.idle[n].since.Before(before) {
		n++
	}
	old := slices.Clone(p.idle[:n])
	p.idle = slices.Delete(p.idle, 0, n)
	p.open -= n
	return old
}

// give takes back a connection, or with nil the right to one.
func (c *Client) give(node string, cn *conn, usable bool) {
	c.mu.Lock()
	p := c.peers[node]
	if usable && !c.closed {
		cn.since = time.Now()
		p.idle = append(p.idle, cn)
		c.mu.Unlock()
		return
	}
	if p.open--; p.open == 0 {
		delete(c.peers, node)
	}
	c.mu.Unlock()
	if cn != nil {
		_ = cn.h1.Close()
	}
}

// dial connects to the first of a peer's addresses at which that very node
// answers.
func (c *Client) dial(ctx context.Context, to Target) (*conn, error) {
	limited, cancel := context.WithTimeout(ctx, c.config.ConnectTime)
	defer cancel()
	err := dialFault(ctx, fault.Unreachable, errNoAddr)
	for _, addr := range to.Addrs {
		var cn *conn
		if cn, err = c.dialAt(ctx, limited, to.ID, addr); err == nil || limited.Err() != nil {
			return cn, err
		}
	}
	return nil, err
}

func (c *Client) dialAt(ctx, limited context.Context, id, addr string) (*conn, error) {
	nc, err := c.config.Dial(limited, addr)
	if err != nil {
		return nil, dialFault(ctx, fault.Unreachable, err)
	}
	config := c.config.TLS.Clone()
	config.MinVersion = tls.VersionTLS13
	config.NextProtos = []string{ALPN}
	tc := tls.Client(nc, config)
	err = tc.HandshakeContext(limited)
	if err == nil {
		var answers string
		if answers, err = c.config.Identify(tc.ConnectionState()); err == nil && answers != id {
			err = fmt.Errorf("%w: %s, not %s", errOther, answers, id)
		}
	}
	if err != nil {
		_ = nc.Close()
		return nil, dialFault(ctx, fault.Handshake, err)
	}
	cn := &conn{}
	cn.h1 = h1.NewClient(tc, h1.ClientLimits{Memory: c.memory, Head: maxHead, HeadTimeout: headTime, OnInterim: cn.pass})
	return cn, nil
}

// pass hands a 1xx answer on. That the visitor does not take it is told by its
// own connection.
func (cn *conn) pass(status int, fields *msg.Fields) {
	if cn.interim != nil {
		_ = cn.interim(status, fields)
	}
}

func dialFault(ctx context.Context, kind fault.Kind, err error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return &fault.Error{Op: "peer.dial", Side: fault.Visitor, Kind: fault.Closed, Err: err}
	}
	return &fault.Error{Op: "peer.dial", Kind: kind, Retry: true, Err: err}
}

// ours turns h1's verdict, which takes the other side for an origin, into
// one about an edge.
func ours(f *fault.Error) error {
	if f.Side != fault.Origin {
		return f
	}
	return &fault.Error{Op: "peer.do", Side: fault.Edge, Kind: f.Kind, Retry: f.Retry, Err: f}
}
