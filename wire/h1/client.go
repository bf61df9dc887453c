package h1

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"

	"github.com/selvage-edge/selvage/fault"
	"github.com/selvage-edge/selvage/internal/clock"
	"github.com/selvage-edge/selvage/wire/head"
	"github.com/selvage-edge/selvage/wire/msg"
)

var (
	errNotReady  = errors.New("h1: connection is in use or cannot be used again")
	errStale     = errors.New("h1: connection ended while it was idle")
	errReqHead   = errors.New("h1: request that must not be written")
	errReqBody   = errors.New("h1: request with a length but no body")
	errShortBody = errors.New("h1: request body ended before its length")
	errStopped   = errors.New("h1: the answer came before the body was sent")
)

// Client sends requests on one connection to an origin, one at a time. Its
// methods are called by one goroutine at a time, but for Close, which ends a
// call that waits.
type Client struct {
	nc     net.Conn
	l      ClientLimits
	bounds bounds
	pools  *pools
	dl     clock.Deadlines
	rd     reader

	closed atomic.Bool
	peek   peek
	looked bool      // Alive has just looked
	used   bool      // a request was sent on it
	keep   bool      // another may follow; false from the start of Do
	ex     *exchange // in progress
}

// NewClient makes a client of an established connection, which it owns.
func NewClient(nc net.Conn, l ClientLimits) *Client {
	l = l.withDefaults()
	if l.Memory == nil {
		l.Memory = NewMemory(l.Head)
	}
	c := &Client{nc: nc, l: l, pools: l.Memory.pools, keep: true}
	c.bounds = bounds{line: l.Line, head: l.Head, fields: l.Fields}
	c.dl.Conn, c.dl.Clock = nc, l.Memory.clock
	c.rd = reader{nc: nc, dl: &c.dl, pools: c.pools}
	return c
}

// Do sends req and fills res with the head of the answer; res has been reset.
//
// Written are MethodText, Target, Authority as Host, and req.Fields in order
// as they are, without Host, Expect and what is the connection's: Connection,
// Keep-Alive, Proxy-Connection, Transfer-Encoding, Content-Length. These
// follow from Length and Upgrade; req.Trailer follows a chunked body.
//
// body gives what Length says; nil when it is 0. It is read by another
// goroutine, which has ended when Do returns an error or the answer's Body is
// closed. If its Read can wait it should be an io.Closer: it is closed when
// an answer comes that makes the rest of it pointless.
//
// res.Fields comes without the connection's own fields (framing, Upgrade,
// Keep-Alive, Connection and what that names); Content-Length stays for HEAD
// and 304, elsewhere see res.Length. res.Body is nil when there is no body;
// else it must be closed. The bytes of res are valid until the next Do or
// Close of the client. res.Trailer is filled when Body has returned io.EOF.
// After a 101, res.Tunnel is the connection.
//
// The error is a *fault.Error, except that a failure of body.Read that is one
// itself comes back as it is. Retry is true when the connection was a reused
// one and ended without one byte of an answer: it was most likely closed as
// idle before the request came. Whether to trust that with a method that is
// not idempotent, and whether body can be read again, is the caller's. Time-outs may come early by a
// quarter of their length, or a second. When ctx ends the connection is cut.
func (c *Client) Do(ctx context.Context, req *msg.Request, body io.Reader, res *msg.Response) error {
	if c.ex != nil || !c.keep || c.closed.Load() {
		return &fault.Error{Op: "h1.do", Side: fault.Edge, Kind: fault.Closed, Retry: true, Err: errNotReady}
	}
	if body == nil && req.Length != 0 {
		return &fault.Error{Op: "h1.do", Side: fault.Edge, Err: errReqBody}
	}
	c.rd.release()
	ex := &exchange{
		c: c, ctx: ctx, req: req, src: body, reused: c.used,
		headTime: cmp.Or(req.Patience, c.l.HeadTimeout), bodyTime: cmp.Or(req.Patience, c.l.BodyTimeout),
	}
	looked := c.looked
	if c.looked = false; c.used && !looked && c.stale() {
		return ex.fail(errStale)
	}
	out := c.pools.out.Get().(*block)
	defer c.pools.out.Put(out)
	head, err := appendRequest(out.b[:0], req)
	if err != nil {
		return &fault.Error{Op: "h1.do", Side: fault.Edge, Kind: fault.Malformed, Err: err}
	}
	c.ex, c.used, c.keep = ex, true, false
	ex.stopCtx = context.AfterFunc(ctx, c.dl.Cut)
	if _, err := c.write(head); err != nil {
		return ex.fail(err)
	}
	ex.startSending()
	if err := ex.readHead(res); err != nil {
		res.Reset()
		return ex.fail(err)
	}
	return nil
}

// Reusable reports whether another Do may follow: the latest answer was read
// whole and its Body closed, nothing came behind it, the request had been
// sent whole, and both sides allow it.
func (c *Client) Reusable() bool { return c.keep && c.ex == nil && !c.closed.Load() }

// Close ends the connection and whatever waits on it. It never fails.
func (c *Client) Close() error {
	if !c.closed.Swap(true) {
		c.dl.Cut()
		hardClose(c.nc)
	}
	return nil
}

func (c *Client) write(p []byte) (int, error) {
	if err := c.dl.ArmWrite(c.l.WriteTimeout); err != nil {
		return 0, err
	}
	return c.nc.Write(p)
}

// appendRequest appends the request's head.
func appendRequest(p []byte, req *msg.Request) ([]byte, error) {
	if len(req.MethodText) == 0 || !head.Token.All(req.MethodText) || req.Method == msg.CONNECT ||
		len(req.Target) == 0 || !head.Target.All(req.Target) || !head.Authority(req.Authority) {
		return nil, errReqHead
	}
	p = append(append(p, req.MethodText...), ' ')
	p = append(append(p, req.Target...), " HTTP/1.1\r\nHost: "...)
	p = append(append(p, req.Authority...), "\r\n"...)
	for i := range req.Fields.Len() {
		l := req.Fields.At(i)
		switch l.ID {
		case msg.Host, msg.Expect, msg.Connection, msg.KeepAlive, msg.ProxyConnection,
			msg.TransferEncoding, msg.ContentLength, msg.Upgrade, msg.HTTP2Settings:
			continue
		}
		if len(l.Name) == 0 || !head.Token.All(l.Name) || !head.Value.All(l.Value) || l.ID == msg.Unknown && head.Imitates(l.Name) {
			return nil, errReqHead
		}
		p = append(append(p, l.Name...), ": "...)
		p = append(append(p, l.Value...), "\r\n"...)
	}
	switch {
	case req.Length < 0:
		p = append(p, "Transfer-Encoding: chunked\r\n"...)
	case req.Length > 0 || req.Method == msg.POST || req.Method == msg.PUT || req.Method == msg.PATCH:
		p = append(appendInt(append(p, "Content-Length: "...), req.Length), "\r\n"...)
	}
	switch te := req.Fields.Has(msg.TE); {
	case len(req.Upgrade) > 0 && !head.Value.All(req.Upgrade):
		return nil, errReqHead
	case len(req.Upgrade) > 0:
		p = append(append(append(p, "Upgrade: "...), req.Upgrade...), "\r\nConnection: Upgrade"...)
		if te {
			p = append(p, ", TE"...)
		}
		p = append(p, "\r\n"...)
	case te:
		p = append(p, "Connection: TE\r\n"...)
	}
	return append(p, "\r\n"...), nil
}

// classify turns what failed into a fault of the origin's.
func classify(op string, err error, begun bool) *fault.Error {
	f := &fault.Error{Op: op, Side: fault.Origin, Kind: fault.Closed, Err: err}
	if _, ok := errors.AsType[*refusal](err); ok {
		f.Kind = fault.Malformed
		return f
	}
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		f.Kind = fault.Timeout
	case !begun && (errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)):
		f.Kind = fault.Refused
	}
	return f
}
