// Package guard dials the outside and nothing else: it resolves a name once,
// judges every address that came back, and connects to exactly the address
// that was judged. There is no second resolution between the check and the
// connection, so an answer that changes in between (DNS rebinding) changes
// nothing. Addresses of the inside (loopback, private, link-local, metadata
// and the like, see inside.go) are refused unless the operator allows them;
// our own listeners are refused even then.
package guard

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"github.com/selvage-edge/selvage/fault"
)

// Resolver turns a name into addresses; *net.Resolver is one. network is
// always "ip".
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// Config says what a Guard may reach. Zero fields have the default that their
// comment names.
type Config struct {
	// Allow lists inside networks that may be reached all the same.
	// Default none. IPv4-mapped addresses are judged as the IPv4 address.
	Allow []netip.Prefix
	// Own names our own listeners: they are refused even where Allow has
	// them, or a request could come round for ever. Port 0 stands for every
	// port of that address; an unspecified address (0.0.0.0, ::) stands for
	// every address of this machine. Asked at each check; nil = none.
	Own func() []netip.AddrPort
	// Resolver finds addresses. Default net.DefaultResolver.
	Resolver Resolver
	// Connect opens one TCP connection. Default net.Dialer with keep-alive.
	Connect func(ctx context.Context, to netip.AddrPort) (net.Conn, error)
	// Interfaces lists this machine's addresses. Default net.InterfaceAddrs.
	Interfaces func() ([]net.Addr, error)

	ConnectTimeout time.Duration // resolving and connecting together; default 10 s
	FoundTTL       time.Duration // an answer is kept this long; default 30 s
	MissingTTL     time.Duration // a failure is kept this long; default 5 s
	MaxNames       int           // names kept; default 10,000
}

// Bounds on one Dial.
const (
	maxAddresses = 8               // tried for one name, in the resolver's order
	minPerTry    = 2 * time.Second // given to one address while others remain
	maxNameBytes = 253             // RFC 1035 §2.3.4, without the final dot
)

// Guard is a Config at work. Safe for concurrent use.
type Guard struct {
	config Config
	names  *names
}

// New returns a Guard with c's defaults filled in.
func New(c Config) *Guard {
	if c.Own == nil {
		c.Own = func() []netip.AddrPort { return nil }
	}
	if c.Resolver == nil {
		c.Resolver = net.DefaultResolver
	}
	if c.Connect == nil {
		dialer := &net.Dialer{KeepAlive: 30 * time.Second}
		c.Connect = func(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
			return dialer.DialContext(ctx, "tcp", to.String())
		}
	}
	if c.Interfaces == nil {
		c.Interfaces = net.InterfaceAddrs
	}
	c.ConnectTimeout = cmp.Or(c.ConnectTimeout, 10*time.Second)
	c.FoundTTL = cmp.Or(c.FoundTTL, 30*time.Second)
	c.MissingTTL = cmp.Or(c.MissingTTL, 5*time.Second)
	c.MaxNames = cmp.Or(c.MaxNames, 10_000)
	return &Guard{config: c, names: newNames(c)}
}

// Dial connects to host, a name or an address literal without brackets, at
// port. Of a name's addresses those that may not be reached are passed over;
// the others are tried in order, each with its share of ConnectTimeout.
//
// An error is a *fault.Error of side Origin: Forbidden when no address may be
// reached, Resolve when the name has none, Refused, ConnectTime or
// Unreachable when connecting failed (the first address's failure counts).
// Its Retry is true: nothing has been sent. When ctx is cancelled the side is
// Visitor and the kind Closed.
func (g *Guard) Dial(ctx context.Context, host string, port uint16) (net.Conn, error) {
	if port == 0 {
		return nil, failure(fault.Forbidden, errors.New("port 0 cannot be connected to"))
	}
	limited, cancel := context.WithTimeout(ctx, g.config.ConnectTimeout)
	defer cancel()
	targets, err := g.permitted(limited, host, port)
	if err != nil {
		return nil, blame(ctx, err)
	}
	var first error
	for i, to := range targets {
		nc, err := g.try(limited, to, len(targets)-i)
		if err == nil {
			return nc, nil
		}
		if first == nil {
			first = err
		}
		if limited.Err() != nil {
			break
		}
	}
	return nil, blame(ctx, connectFailure(first))
}

// permitted resolves host and returns the addresses that may be connected to.
func (g *Guard) permitted(ctx context.Context, host string, port uint16) ([]netip.AddrPort, error) {
	addrs, err := g.Resolve(ctx, host)
	if err != nil {
		return nil, err
	}
	var refused error
	targets := make([]netip.AddrPort, 0, min(len(addrs), maxAddresses))
	for _, a := range addrs {
		to := netip.AddrPortFrom(a.Unmap(), port)
		if err := g.Check(to); err != nil {
			refused = err
			continue
		}
		if len(targets) < maxAddresses {
			targets = append(targets, to)
		}
	}
	if len(targets) == 0 {
		return nil, refused
	}
	return targets, nil
}

// Resolve returns the addresses of host: itself when it is a literal. What it
// returns is not yet checked. The error is a *fault.Error of kind Resolve.
func (g *Guard) Resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a}, nil
	}
	if host == "" || len(host) > maxNameBytes+1 {
		return nil, failure(fault.Resolve, fmt.Errorf("a name has 1 to %d bytes, this has %d", maxNameBytes, len(host)))
	}
	addrs, err := g.names.find(ctx, host)
	if err != nil {
		return nil, failure(fault.Resolve, err)
	}
	return addrs, nil
}

// Check refuses an address of the inside that is not allowed, or that is our
// own, at this port or at every one. The error is a *fault.Error of kind
// Forbidden.
func (g *Guard) Check(to netip.AddrPort) error {
	a := to.Addr().Unmap()
	if g.own(netip.AddrPortFrom(a, to.Port())) {
		return failure(fault.Forbidden, fmt.Errorf("%s is an address of this edge", to))
	}
	if g.allowed(a) {
		return nil
	}
	if why := inside(a); why != "" {
		return failure(fault.Forbidden, fmt.Errorf("%s is not an outside address: %s", a, why))
	}
	return nil
}

func (g *Guard) allowed(a netip.Addr) bool {
	for _, p := range g.config.Allow {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// own reports whether a connection to this address and port would arrive at
// one of our listeners, directly or through a translated address.
func (g *Guard) own(to netip.AddrPort) bool {
	for _, o := range g.config.Own() {
		if o.Port() != 0 && o.Port() != to.Port() {
			continue
		}
		a := to.Addr()
		if a == o.Addr().Unmap() || o.Addr().IsUnspecified() && g.local(a) {
			return true
		}
		if e, ok := embedded(a); ok && e == o.Addr().Unmap() {
			return true
		}
		if a.IsUnspecified() && o.Addr().IsLoopback() {
			return true // connecting to 0.0.0.0 arrives at loopback
		}
	}
	return false
}

// local reports whether an address is this machine's. When that cannot be
// found out it answers yes: refusing is the safe mistake.
func (g *Guard) local(a netip.Addr) bool {
	if a.IsLoopback() || a.IsUnspecified() {
		return true
	}
	list, err := g.config.Interfaces()
	if err != nil {
		return true
	}
	for _, n := range list {
		ipNet, ok := n.(*net.IPNet)
		if !ok {
			continue
		}
		if mine, ok := netip.AddrFromSlice(ipNet.IP); ok && mine.Unmap() == a.WithZone("") {
			return true
		}
	}
	return false
}

// try connects to one address within its share of the time that is left.
func (g *Guard) try(ctx context.Context, to netip.AddrPort, remaining int) (net.Conn, error) {
	deadline, ok := ctx.Deadline()
	if ok && remaining > 1 {
		left := time.Until(deadline)
		share := max(left/time.Duration(remaining), min(minPerTry, left))
		limited, cancel := context.WithTimeout(ctx, share)
		defer cancel()
		ctx = limited
	}
	return g.config.Connect(ctx, to)
}

func failure(kind fault.Kind, err error) *fault.Error {
	return &fault.Error{Op: "guard.dial", Side: fault.Origin, Kind: kind, Retry: true, Err: err}
}

// blame turns a failure into the visitor's when it was the caller who left.
func blame(caller context.Context, err error) error {
	if errors.Is(caller.Err(), context.Canceled) {
		return &fault.Error{Op: "guard.dial", Side: fault.Visitor, Kind: fault.Closed, Err: context.Canceled}
	}
	return err
}

func connectFailure(err error) *fault.Error {
	var timeout net.Error
	switch {
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ECONNRESET):
		return failure(fault.Refused, err)
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.EADDRNOTAVAIL):
		return failure(fault.Unreachable, err)
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return failure(fault.ConnectTime, err)
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return &fault.Error{Op: "guard.dial", Side: fault.Edge, Kind: fault.Limit, Retry: true, Err: err}
	}
	return failure(fault.Other, err)
}
