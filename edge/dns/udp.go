package dns

import (
	"errors"
	"net"
	"net/netip"
	"syscall"
	"time"
)

// maxQuery is the longest query read over UDP and TCP. A question is at most 271
// bytes; the rest is room for options.
const maxQuery = 4096

const (
	protoUDP = iota
	protoTCP
)

// serveSingles is the portable loop: one system call per datagram.
func (s *Server) serveSingles(conn *net.UDPConn, c *counters, d *desk) error {
	var r reply
	in, out := make([]byte, maxQuery), make([]byte, DefaultUDPSize)
	for !s.draining.Load() {
		n, from, err := conn.ReadFromUDPAddrPort(in)
		if err != nil {
			if transient(err) {
				continue
			}
			return err
		}
		start := time.Now()
		n, cold := s.answerUDP(&r, c, in[:n], out, from, d)
		if cold {
			continue
		}
		if n > 0 {
			if _, err := conn.WriteToUDPAddrPort(out[:n], from); err != nil {
				c.unsent.Add(1)
			}
		}
		c.observe(time.Since(start), 1)
	}
	return nil
}

// transient tells an ICMP message about an earlier answer, which shows as an
// error of the next read, from a failure of the socket.
func transient(err error) bool {
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.EHOSTUNREACH) || errors.Is(err, syscall.ENETUNREACH)
}

// answerUDP returns the length of the answer; cold says that the desk answers.
func (s *Server) answerUDP(r *reply, c *counters, in, out []byte, from netip.AddrPort, d *desk) (n int, cold bool) {
	if from.Port() == 0 { // no client has it; an answer could only reflect
		c.ignored[protoUDP].Add(1)
		return 0, false
	}
	n = r.answer(&s.zones, in, out, s.udpSize, false)
	if n == coldAnswer {
		if d.take(in, from, nil) {
			return 0, true
		}
		n = r.fail()
	}
	c.count(r, n, protoUDP)
	return n, false
}
