package dns

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/miekg/dns"
)

const (
	// coldWorkers is how many queries of one socket wait for their zone at a
	// time, coldQueue how many wait for that; what comes then is answered
	// SERVFAIL, and the resolver asks another name server.
	coldWorkers = 32
	coldQueue   = 1024
	// coldTime is how long a query waits for its zone.
	coldTime = 2 * time.Second
)

// coldAnswer is the length of an answer for which a zone has to be looked for.
const coldAnswer = -1

// answerCold is answer by who may wait.
func (s *Server) answerCold(r *reply, msg, buf []byte, limit int, tcp bool) int {
	ctx, cancel := context.WithTimeout(s.coldContext, coldTime)
	defer cancel()
	r.looked = map[int]*Plan{}
	defer func() { r.looked = nil }()
	for {
		n := r.answer(&s.zones, msg, buf, limit, tcp)
		if n != coldAnswer {
			return n
		}
		name := textOf(r.suffix(r.cold))
		if name == "" {
			r.looked[r.cold] = nil
			continue
		}
		p, err := s.load(ctx, name)
		if err != nil {
			s.unanswered.Add(1)
			return r.fail()
		}
		r.looked[r.cold] = p
	}
}

// fail makes an answer of coldAnswer one that says that there is none now.
func (r *reply) fail() int {
	r.rcode, r.aa = dns.RcodeServerFailure, false
	r.finish()
	return r.n
}

// desk takes over the queries of one socket that have to wait, so that its loop
// never does.
type desk struct {
	s       *Server
	conn    *net.UDPConn
	jobs    chan job
	workers sync.WaitGroup
}

// job is a query that waits.
type job struct {
	msg     []byte
	from    netip.AddrPort
	control []byte // packet info to send the answer with
	at      time.Time
}

// openDesk returns nil where nothing is ever cold.
func (s *Server) openDesk(conn *net.UDPConn) *desk {
	if s.load == nil {
		return nil
	}
	d := &desk{s: s, conn: conn, jobs: make(chan job, coldQueue)}
	for range coldWorkers {
		d.workers.Go(d.work)
	}
	return d
}

func (d *desk) close() {
	if d == nil {
		return
	}
	close(d.jobs)
	d.workers.Wait()
}

// take hands a query over, false when too many wait.
func (d *desk) take(msg []byte, from netip.AddrPort, control []byte) bool {
	select {
	case d.jobs <- job{append([]byte(nil), msg...), from, append([]byte(nil), control...), time.Now()}:
		return true
	default:
		d.s.unanswered.Add(1)
		return false
	}
}

func (d *desk) work() {
	c := d.s.borrow()
	defer d.s.giveBack(c)
	var r reply
	out := make([]byte, DefaultUDPSize)
	for j := range d.jobs {
		n := d.s.answerCold(&r, j.msg, out, d.s.udpSize, false)
		c.count(&r, n, protoUDP)
		if n > 0 {
			if _, _, err := d.conn.WriteMsgUDPAddrPort(out[:n], j.control, j.from); err != nil {
				c.unsent.Add(1)
			}
		}
		c.observe(time.Since(j.at), 1)
	}
}
