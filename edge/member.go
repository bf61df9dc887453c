package edge

import (
	"net"
	"net/netip"

	"github.com/selvage-edge/selvage/feed"
)

// announcement is what the parent, and through it every other edge, is told of
// this one.
func (e *Edge) announcement() *feed.Announcement {
	a := &feed.Announcement{Peer: e.cfg.PeerAdvertise, Region: e.cfg.Region, Hub: e.cfg.Hub}
	if len(a.Peer) > 0 || e.sockets.peer == nil {
		return a
	}
	if at := e.ownPeerAddr(); at.IsValid() {
		a.Peer = []string{at.String()}
	} else {
		e.log.Warn("no other edge is told where this one is reached: its own address is unknown; give --peer-advertise")
	}
	return a
}

// ownPeerAddr is the address of the peer listener. Where that listens on all
// addresses, it is the one by which this machine speaks to its parent.
func (e *Edge) ownPeerAddr() netip.AddrPort {
	at := addrPort(e.sockets.peer.Addr())
	if !at.IsValid() || !at.Addr().IsUnspecified() {
		return at
	}
	for _, parent := range e.cfg.Parents {
		c, err := net.Dial("udp", parent) //nolint:noctx // sends nothing: the kernel chooses an address
		if err != nil {
			continue
		}
		local, ok := c.LocalAddr().(*net.UDPAddr)
		_ = c.Close() // nothing was sent on it
		if ok {
			return netip.AddrPortFrom(local.AddrPort().Addr().Unmap(), at.Port())
		}
	}
	return netip.AddrPort{}
}
