//go:build !linux || (!amd64 && !arm64)

package dns

import "net"

// batched is false where there is no recvmmsg: serveSingles does the work.
const batched = false

func (s *Server) serveBatches(conn *net.UDPConn, c *counters, d *desk) error {
	return s.serveSingles(conn, c, d)
}
