package peer

import (
	"bytes"
	"cmp"
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
	"github.com/selvage-edge/selvage/wire/h2/client"
	"github.com/selvage-edge/selvage/wire/msg"
)

// ClientConfig is what a Client is told once. Zero fields have the default
// that their comment names.
type ClientConfig struct {
	// Ctx is the parent of what goes on behind requests: its end cuts it. Needed.
	Ctx context.Context
	// TLS holds the node's certificate and judges who answers. Needed.
	TLS *tls.Config
	// Identify reads a node's id from its certificate. Needed.
	Identify func(tls.ConnectionState) (string, error)
	// Dial opens a connection to host:port. Default net.Dialer.
	Dial func(ctx context.Context, addr string) (net.Conn, error)

	MaxConns    int           // per peer; default 4
	Streams     int           // requests at a time on each; default 100, beyond is a fault of kind Limit
	ConnectTime time.Duration // TCP and TLS; default 5 s
}

// Target is a node that is called.
type Target struct {
	ID    string
	Addrs []string // host:port, tried in order
}

// Client sends requests to peers, many at a time on each of a few kept
// connections. Safe for concurrent use.
type Client struct {
	config ClientConfig
	memory *client.Memory
	work   sync.WaitGroup // dials

	mu     sync.Mutex
	peers  map[string]*conns // by node; guarded by mu
	closed bool              // guarded by mu
}

// conns are the connections to one peer, guarded by Client.mu.
type conns struct {
	open    []*conn
	dialing *dialing // nil = none
}

// conn is a connection.
type conn struct {
	h2   *client.Conn
	busy int // requests whose answers are not closed; guarded by Client.mu
}

// dialing is a connection to be. What it ends with is set before done closes.
type dialing struct {
	done chan struct{}
	err  error
}

var (
	errBusy   = errors.New("every connection to the peer is in use")
	errClosed = errors.New("the client is closed")
	errNoAddr = errors.New("the peer has no address")
	errOther  = errors.New("another node answers at the peer's address")
	errAnswer = errors.New("the peer did not answer as it should")
)

const (
	// headTime is how long a peer may take to answer, and to go on: an origin
	// may take that long. Whether the peer lives is found out by probes meanwhile.
	headTime = 130 * time.Second
	// crowded is how many requests a connection has when another is opened.
	crowded = 32
	// attempts bounds how often a request is sent that nobody has processed.
	attempts = 3
)

// NewClient returns a Client; Close ends it.
func NewClient(c ClientConfig) (*Client, error) {
	if c.TLS == nil || c.TLS.GetClientCertificate == nil && len(c.TLS.Certificates) == 0 || c.Identify == nil || c.Ctx == nil {
		return nil, errors.New("peer: a TLS configuration with the node's certificate is needed, who reads peers' certificates, and a context")
	}
	if c.Dial == nil {
		dialer := &net.Dialer{}
		c.Dial = func(ctx context.Context, addr string) (net.Conn, error) { return dialer.DialContext(ctx, "tcp", addr) }
	}
	c.MaxConns = cmp.Or(max(c.MaxConns, 0), 4)
	c.Streams = cmp.Or(max(c.Streams, 0), 100)
	c.ConnectTime = cmp.Or(max(c.ConnectTime, 0), 5*time.Second)
	return &Client{config: c, memory: client.NewMemory(), peers: make(map[string]*conns)}, nil
}

// Do sends env and req to a peer; body is nil when req.Length is 0. res is
// filled as by client.Conn.Do and has to be closed. 1xx answers go to
// req.Interim, if there is one. The error is a *fault.Error of side Edge, or
// Visitor when ctx ended or body failed.
func (c *Client) Do(ctx context.Context, to Target, env *Envelope, req *msg.Request, body io.Reader, res *msg.Response) error {
	out, err := pack(env, req)
	if err != nil {
		return err
	}
	for n := 1; ; n++ {
		cn, err := c.take(ctx, to)
		if err != nil {
			return err
		}
		if err = cn.h2.Do(ctx, out, body, res); err == nil {
			release := res.Release
			res.Release = func() {
				if release != nil {
					release()
				}
				c.give(to.ID, cn)
			}
			return nil
		}
		c.give(to.ID, cn)
		// A kept connection may have ended just now; without a body nothing
		// is lost by asking again.
		if f := fault.As(err); n == attempts || !f.Retry || body != nil || ctx.Err() != nil {
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
		MethodText: []byte(m.String()), Method: m, Scheme: msg.HTTPS, Proto: msg.HTTP2, Length: length,
		Authority: []byte("peer"), Target: []byte(path), Path: []byte(path),
	}
}

// Close ends all connections and what is under way on them, and waits.
func (c *Client) Close() {
	c.mu.Lock()
	c.closed = true
	var open []*conn
	for _, p := range c.peers {
		open = append(open, p.open...)
		p.open = nil
	}
	c.mu.Unlock()
	for _, cn := range open {
		_ = cn.h2.Close() // never fails
	}
	c.work.Wait()
}

// pack adds the envelope to a copy of the request, so that req stays as it was
// for another peer.
func pack(env *Envelope, req *msg.Request) (*msg.Request, error) {
	out := *req
	out.Fields, out.Scheme, out.Proto = msg.Fields{}, msg.HTTPS, msg.HTTP2
	for i := range req.Fields.Len() {
		l := req.Fields.At(i)
		if l.ID != msg.Unknown || !msg.EqualFold(l.Name, fieldName) {
			out.Fields.AddField(*l)
		}
	}
	if env != nil {
		value, err := seal(env)
		if err != nil {
			return nil, &fault.Error{Op: "peer.seal", Kind: fault.Malformed, Err: err}
		}
		out.Fields.Add([]byte(fieldName), []byte(value))
	}
	return &out, nil
}

// take returns a connection with room, and opens one where there is none or
// all are crowded.
func (c *Client) take(ctx context.Context, to Target) (*conn, error) {
	for {
		c.mu.Lock()
		if c.closed {
			c.mu.Unlock()
			return nil, &fault.Error{Op: "peer.dial", Kind: fault.Draining, Err: errClosed}
		}
		p := c.peers[to.ID]
		if p == nil {
			p = &conns{}
			c.peers[to.ID] = p
		}
		best, dead := p.choose()
		if (best == nil || best.busy >= crowded) && p.dialing == nil && len(p.open) < c.config.MaxConns {
			d := &dialing{done: make(chan struct{})}
			p.dialing = d
			c.work.Go(func() { c.open(to, p, d) })
		}
		d := p.dialing
		if best != nil {
			best.busy++
		}
		c.mu.Unlock()
		for _, cn := range dead {
			_ = cn.h2.Close() // never fails
		}
		switch {
		case best != nil:
			return best, nil
		case d == nil:
			return nil, &fault.Error{Op: "peer.dial", Kind: fault.Limit, Err: errBusy}
		}
		select {
		case <-d.done:
		case <-ctx.Done():
			return nil, &fault.Error{Op: "peer.dial", Side: fault.Visitor, Kind: fault.Closed, Err: context.Cause(ctx)}
		}
		if d.err != nil {
			return nil, d.err
		}
	}
}

// choose finds the connection with the most room, and takes out those that have
// ended. Called under Client.mu.
func (p *conns) choose() (best *conn, dead []*conn) {
	p.open = slices.DeleteFunc(p.open, func(cn *conn) bool {
		room := cn.h2.Capacity()
		if room == 0 && cn.busy == 0 {
			dead = append(dead, cn)
			return true
		}
		if cn.busy < room && (best == nil || cn.busy < best.busy) {
			best = cn
		}
		return false
	})
	return best, dead
}

// give takes back the room that take gave.
func (c *Client) give(node string, cn *conn) {
	c.mu.Lock()
	cn.busy--
	over := cn.busy == 0 && cn.h2.Capacity() == 0
	if p := c.peers[node]; over && p != nil {
		p.open = slices.DeleteFunc(p.open, func(o *conn) bool { return o == cn })
		if len(p.open) == 0 && p.dialing == nil {
			delete(c.peers, node)
		}
	}
	c.mu.Unlock()
	if over {
		_ = cn.h2.Close() // never fails
	}
}

// open dials for all who wait for a connection to a peer.
func (c *Client) open(to Target, p *conns, d *dialing) {
	cn, err := c.dial(to)
	c.mu.Lock()
	p.dialing = nil
	closed := c.closed
	switch {
	case err != nil:
		d.err = err
	case closed:
		d.err = &fault.Error{Op: "peer.dial", Kind: fault.Draining, Err: errClosed}
	default:
		p.open = append(p.open, cn)
		c.peers[to.ID] = p
	}
	c.mu.Unlock()
	close(d.done)
	if cn != nil && closed {
		_ = cn.h2.Close() // never fails
	}
}

// dial connects to the first of a peer's addresses at which that very node
// answers.
func (c *Client) dial(to Target) (*conn, error) {
	ctx, cancel := context.WithTimeout(c.config.Ctx, c.config.ConnectTime)
	defer cancel()
	err := dialFault(fault.Unreachable, errNoAddr)
	for _, addr := range to.Addrs {
		var cn *conn
		if cn, err = c.dialAt(ctx, to.ID, addr); err == nil || ctx.Err() != nil {
			return cn, err
		}
	}
	return nil, err
}

func (c *Client) dialAt(ctx context.Context, id, addr string) (*conn, error) {
	nc, err := c.config.Dial(ctx, addr)
	if err != nil {
		return nil, dialFault(fault.Unreachable, err)
	}
	config := c.config.TLS.Clone()
	config.MinVersion = tls.VersionTLS13
	config.NextProtos = []string{ALPN}
	tc := tls.Client(nc, config)
	err = tc.HandshakeContext(ctx)
	if err == nil {
		var answers string
		if answers, err = c.config.Identify(tc.ConnectionState()); err == nil && answers != id {
			err = fmt.Errorf("%w: %s, not %s", errOther, answers, id)
		}
	}
	if err != nil {
		_ = nc.Close()
		return nil, dialFault(fault.Handshake, err)
	}
	return &conn{h2: client.New(tc, client.Limits{
		Streams: c.config.Streams, Head: maxHead, HeadTimeout: headTime, BodyTimeout: headTime, Memory: c.memory,
	})}, nil
}

func dialFault(kind fault.Kind, err error) error {
	return &fault.Error{Op: "peer.dial", Kind: kind, Retry: true, Err: err}
}

// ours turns the verdict of h2, which takes the other side for an origin, into
// one about an edge.
func ours(f *fault.Error) error {
	if f.Side != fault.Origin {
		return f
	}
	return &fault.Error{Op: "peer.do", Side: fault.Edge, Kind: f.Kind, Retry: f.Retry, Err: f}
}
