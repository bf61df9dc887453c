package edge

import (
	"context"
	"net"
	"net/netip"
	"strconv"
	"time"
)

// ownAddresses are the doors of this edge and of the control plane, which no
// origin may be, even where the operator allows the network they are in. They
// are found once, at start.
func (e *Edge) ownAddresses(ctx context.Context) []netip.AddrPort {
	own := e.parentAddresses(ctx)
	for _, l := range []net.Listener{e.sockets.http, e.sockets.https, e.sockets.dnsTCP, e.sockets.metrics, e.sockets.peer} {
		if l != nil {
			own = append(own, addrPort(l.Addr()))
		}
	}
	for _, a := range e.cfg.Advertise {
		own = append(own, netip.AddrPortFrom(a, portOf(e.sockets.http)), netip.AddrPortFrom(a, portOf(e.sockets.https)))
	}
	return own
}

// resolveTime bounds finding the parents' addresses.
const resolveTime = 3 * time.Second

// parentAddresses closes the parents' feed ports; every port of a parent that
// is another machine, since its API listens there too.
func (e *Edge) parentAddresses(ctx context.Context) []netip.AddrPort {
	ctx, cancel := context.WithTimeout(ctx, resolveTime)
	defer cancel()
	var own []netip.AddrPort
	for _, parent := range e.cfg.Parents {
		host, portText, err := net.SplitHostPort(parent)
		if err != nil {
			continue // Check has refused it
		}
		port, err := strconv.ParseUint(portText, 10, 16)
		if err != nil {
			e.log.Warn("a parent's port is no number: origins at it are not refused", "parent", parent)
			continue
		}
		found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		if err != nil {
			e.log.Warn("a parent's address is unknown: origins at it are not refused", "parent", parent, "err", err)
			continue
		}
		for _, a := range found {
			if a = a.Unmap(); a.IsLoopback() {
				own = append(own, netip.AddrPortFrom(a, uint16(port)))
			} else {
				own = append(own, netip.AddrPortFrom(a, 0))
			}
		}
	}
	return own
}
