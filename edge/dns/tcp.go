package dns

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/selvage-edge/selvage/internal/accept"
)

const (
	maxTCPAnswer = 1<<16 - 1
	flushAt      = 1 << 14 // bytes of answers gathered before they are written
)

// tcpBuffer holds the answers to one burst of queries on one connection. Idle
// connections have none.
type tcpBuffer struct {
	reply
	out [flushAt + 2 + maxTCPAnswer]byte
}

// acceptor is a listener that a drain wakes by closing it.
type acceptor struct{ net.Listener }

func (a acceptor) SetReadDeadline(time.Time) error { return a.Close() }

// ServeTCP answers queries on connections from l until it fails or the server
// drains, then closes it. Several queries may be under way on a connection;
// they are answered in order (RFC 7766 §6.2).
func (s *Server) ServeTCP(l net.Listener) error {
	sock := &acceptor{l}
	if !s.enter(sock) {
		return l.Close()
	}
	defer s.leave(sock)
	c := s.borrow()
	defer s.giveBack(c)
	for {
		conn, err := l.Accept()
		if s.draining.Load() {
			if err == nil {
				_ = conn.Close() // came too late to be served
			}
			return nil
		}
		if err != nil {
			if accept.Passes(err) {
				time.Sleep(accept.Pause)
				continue
			}
			return fmt.Errorf("dns serve tcp %s: %w", l.Addr(), err)
		}
		s.startConn(conn, c)
	}
}

func (s *Server) startConn(conn net.Conn, c *counters) {
	if s.openConns.Add(1) > int64(s.tcpConns) {
		s.openConns.Add(-1)
		s.refusedConns.Add(1)
		_ = conn.Close() // refused: nothing was promised on it
		return
	}
	if !s.enter(conn) {
		s.openConns.Add(-1)
		_ = conn.Close() // draining: nothing was promised on it
		return
	}
	go func() { // waited for by Drain, bounded by tcpConns
		defer s.leave(conn)
		defer s.openConns.Add(-1)
		s.serveConn(conn, c)
	}()
}

// serveConn ends with the connection: at its end, at a time-out, at a message
// that is too long, or when the server drains.
func (s *Server) serveConn(conn net.Conn, c *counters) {
	in := bufio.NewReaderSize(conn, 2+maxQuery)
	for {
		if conn.SetReadDeadline(time.Now().Add(s.idle)) != nil {
			return
		}
		// Drain sets its own deadline once; looking after setting ours means
		// that one of the two is seen.
		if s.draining.Load() {
			return
		}
		if _, err := peekMessage(in); err != nil {
			return
		}
		if s.answerBurst(conn, in, c) != nil {
			return
		}
	}
}

// errTooLong ends a connection whose client announces more than maxQuery.
var errTooLong = errors.New("query too long")

// peekMessage waits for a whole message and returns it, still unread, without
// its length.
func peekMessage(in *bufio.Reader) ([]byte, error) {
	head, err := in.Peek(2)
	if err != nil {
		return nil, err
	}
	size := int(binary.BigEndian.Uint16(head))
	if size > maxQuery {
		return nil, errTooLong
	}
	msg, err := in.Peek(2 + size)
	if err != nil {
		return nil, err
	}
	return msg[2:], nil
}

// answerBurst answers all messages that have been read whole, with as few
// writes as the buffer allows.
func (s *Server) answerBurst(conn io.Writer, in *bufio.Reader, c *counters) error {
	b := s.buffers.Get().(*tcpBuffer)
	defer s.buffers.Put(b)
	used := 0
	for whole(in) {
		start := time.Now()
		msg, err := peekMessage(in)
		if err != nil {
			return err
		}
		out := b.out[used+2 : used+2+maxTCPAnswer]
		n := b.answer(&s.zones, msg, out, maxTCPAnswer, true)
		if n == coldAnswer {
			n = s.answerCold(&b.reply, msg, out, maxTCPAnswer, true)
		}
		c.count(&b.reply, n, protoTCP)
		if n > 0 {
			binary.BigEndian.PutUint16(b.out[used:], uint16(n))
			used += 2 + n
		}
		if _, err := in.Discard(2 + len(msg)); err != nil {
			return err
		}
		c.observe(time.Since(start), 1)
		if used > flushAt {
			if err := s.write(conn, b.out[:used]); err != nil {
				return err
			}
			used = 0
		}
	}
	if used == 0 {
		return nil
	}
	return s.write(conn, b.out[:used])
}

// write gives the client the idle time-out to take its answers.
func (s *Server) write(conn io.Writer, p []byte) error {
	if d, ok := conn.(interface{ SetWriteDeadline(time.Time) error }); ok {
		if err := d.SetWriteDeadline(time.Now().Add(s.idle)); err != nil {
			return err
		}
	}
	_, err := conn.Write(p)
	return err
}

// whole reports whether a message stands in the buffer to its end.
func whole(in *bufio.Reader) bool {
	if in.Buffered() < 2 {
		return false
	}
	head, err := in.Peek(2)
	return err == nil && in.Buffered() >= 2+int(binary.BigEndian.Uint16(head))
}
