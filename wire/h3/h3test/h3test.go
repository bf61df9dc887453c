// Package h3test helps to test what speaks QUIC. It promises that what it holds
// back never arrives.
package h3test

import (
	"net"
	"sync/atomic"

	"github.com/quic-go/quic-go/quicvarint"
)

// EarlyConn loses a client's Handshake packets while Hold is set, so that
// nothing but its early data can reach the server: what a replay looks like.
type EarlyConn struct {
	net.PacketConn
	Hold atomic.Bool
}

// WriteTo implements net.PacketConn.
func (c *EarlyConn) WriteTo(p []byte, addr net.Addr) (int, error) {
	if c.Hold.Load() && hasHandshake(p) {
		return len(p), nil
	}
	return c.PacketConn.WriteTo(p, addr)
}

// hasHandshake looks for a Handshake packet among those of a datagram of a
// client's (RFC 9000 §17.2).
func hasHandshake(p []byte) bool {
	for len(p) > 6 && p[0]&0x80 != 0 {
		kind := p[0] >> 4 & 3
		if kind == 2 {
			return true
		}
		at := 5
		at += 1 + int(p[at])
		at += 1 + int(p[at])
		if kind == 0 {
			token, n, err := quicvarint.Parse(p[at:])
			if err != nil {
				return false
			}
			at += n + int(token)
		}
		length, n, err := quicvarint.Parse(p[at:])
		if err != nil || at+n+int(length) > len(p) {
			return false
		}
		p = p[at+n+int(length):]
	}
	return false
}
