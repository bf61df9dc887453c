//go:build linux && (amd64 || arm64)

package dns

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const batched = true

const (
	batchSize   = 64 // datagrams per system call
	controlSize = 64 // bytes; one packet-info message is at most 40
)

// mmsghdr is struct mmsghdr of recvmmsg(2) on 64-bit Linux.
type mmsghdr struct {
	hdr unix.Msghdr
	n   uint32
	_   [4]byte
}

// batch is what one socket's loop works in. Everything the kernel is pointed
// to lies in it, and nothing is allocated after newBatch.
type batch struct {
	s    *Server
	c    *counters
	desk *desk
	info bool  // ask for and echo the address a query was sent to
	cold int   // queries of this batch that wait at the desk
	err  error // why the loop ended; nil for a drain

	reply   reply
	got     [batchSize]mmsghdr
	put     [batchSize]mmsghdr
	gotVecs [batchSize]unix.Iovec
	putVecs [batchSize]unix.Iovec
	peers   [batchSize]unix.RawSockaddrInet6 // of either family; the port is at the same place
	control [batchSize][controlSize]byte
	in      [batchSize][maxQuery]byte
	out     [batchSize][DefaultUDPSize]byte
}

func newBatch(s *Server, c *counters, d *desk, info bool) *batch {
	b := &batch{s: s, c: c, desk: d, info: info}
	for i := range batchSize {
		b.gotVecs[i] = unix.Iovec{Base: &b.in[i][0], Len: maxQuery}
		b.got[i].hdr = unix.Msghdr{Name: (*byte)(unsafe.Pointer(&b.peers[i])), Iov: &b.gotVecs[i], Iovlen: 1}
		if info {
			b.got[i].hdr.Control = &b.control[i][0]
		}
	}
	b.rearm(batchSize)
	return b
}

// serveBatches reads and answers up to 64 queries per pair of system calls.
// The whole loop runs inside one RawConn.Read: the runtime's poller is asked
// only when the socket is empty.
func (s *Server) serveBatches(conn *net.UDPConn, c *counters, d *desk) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	info := false
	if local, ok := conn.LocalAddr().(*net.UDPAddr); ok && local.IP.IsUnspecified() {
		info = true
		if err := askPacketInfo(raw); err != nil {
			return err
		}
	}
	b := newBatch(s, c, d, info)
	if err := raw.Read(b.run); err != nil {
		return err
	}
	return b.err
}

// askPacketInfo makes the kernel tell each query's destination, so that an
// answer can leave from it even where a host has many addresses (anycast).
func askPacketInfo(raw syscall.RawConn) error {
	var err error
	controlErr := raw.Control(func(fd uintptr) {
		var domain int
		if domain, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_DOMAIN); err != nil {
			return
		}
		if domain == unix.AF_INET6 {
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
			return
		}
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
	})
	if err = errors.Join(controlErr, err); err != nil {
		return fmt.Errorf("ask for packet info: %w", err)
	}
	return nil
}

// run serves until the socket is empty (false), or for good (true).
func (b *batch) run(fd uintptr) bool {
	for !b.s.draining.Load() {
		n, errno := transfer(unix.SYS_RECVMMSG, fd, &b.got[0], batchSize)
		switch {
		case errno == unix.EAGAIN:
			return false
		case errno == unix.EINTR || transient(errno):
			continue
		case errno != 0:
			b.err = errno
			return true
		}
		start := time.Now()
		answers := 0
		b.cold = 0
		for i := range n {
			answers += b.answer(i, answers)
		}
		b.send(fd, answers)
		b.rearm(n)
		b.c.observe(time.Since(start), n-b.cold)
	}
	return true
}

// answer answers the i-th query of the batch into the next free place, and
// returns how many places it took.
func (b *batch) answer(i, next int) int {
	from := &b.got[i]
	if b.peers[i].Port == 0 { // no client has it; an answer could only reflect
		b.c.ignored[protoUDP].Add(1)
		return 0
	}
	msg := b.in[i][:min(from.n, maxQuery)]
	n := b.reply.answer(&b.s.zones, msg, b.out[next][:], b.s.udpSize, false)
	if n == coldAnswer {
		if b.desk.take(msg, b.peer(i), b.source(i)) {
			b.cold++
			return 0
		}
		n = b.reply.fail()
	}
	b.c.count(&b.reply, n, protoUDP)
	if n == 0 {
		return 0
	}
	b.putVecs[next] = unix.Iovec{Base: &b.out[next][0], Len: uint64(n)}
	to := &b.put[next].hdr
	*to = unix.Msghdr{Name: from.hdr.Name, Namelen: from.hdr.Namelen, Iov: &b.putVecs[next], Iovlen: 1}
	if source := b.source(i); source != nil {
		to.Control, to.Controllen = from.hdr.Control, from.hdr.Controllen
	}
	return 1
}

// source is the packet info that makes an answer leave from where the i-th query
// was sent to, nil when there is none.
func (b *batch) source(i int) []byte {
	control := b.control[i][:min(b.got[i].hdr.Controllen, controlSize)]
	if !b.info || !forgetInterface(control) {
		return nil
	}
	return control
}

// peer is who sent the i-th query.
func (b *batch) peer(i int) netip.AddrPort {
	from := &b.peers[i]
	port := from.Port<<8 | from.Port>>8 // as it came from the wire
	if from.Family == unix.AF_INET {
		v4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(from))
		return netip.AddrPortFrom(netip.AddrFrom4(v4.Addr), port)
	}
	addr := netip.AddrFrom16(from.Addr)
	if from.Scope_id != 0 {
		addr = addr.WithZone(strconv.FormatUint(uint64(from.Scope_id), 10))
	}
	return netip.AddrPortFrom(addr, port)
}

// forgetInterface turns a received packet-info message into one to send with:
// the same local address, by whatever interface routing chooses. It reports
// whether there was one. A link-local address keeps its interface, which is
// part of it.
func forgetInterface(control []byte) bool {
	if len(control) < unix.SizeofCmsghdr {
		return false
	}
	// struct cmsghdr: an 8-byte length, then level and type of 4 bytes each.
	level, typ := binary.NativeEndian.Uint32(control[8:]), binary.NativeEndian.Uint32(control[12:])
	data := control[unix.SizeofCmsghdr:]
	switch {
	case level == unix.IPPROTO_IP && typ == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo:
		clear(data[:4])
		return true
	case level == unix.IPPROTO_IPV6 && typ == unix.IPV6_PKTINFO && len(data) >= unix.SizeofInet6Pktinfo:
		if data[0] != 0xfe || data[1]&0xc0 != 0x80 {
			clear(data[16:20])
		}
		return true
	}
	return false
}

// send sends the first n answers. One that the kernel refuses is dropped and
// counted, as the network might have dropped it; the others go on.
func (b *batch) send(fd uintptr, n int) {
	for done := 0; done < n; {
		sent, errno := transfer(unix.SYS_SENDMMSG, fd, &b.put[done], n-done)
		switch {
		case errno == unix.EINTR:
		case errno != 0:
			b.c.unsent.Add(1)
			done++
		default:
			done += sent
		}
	}
}

// rearm puts back what the kernel overwrote in the first n places.
func (b *batch) rearm(n int) {
	for i := range n {
		h := &b.got[i].hdr
		h.Namelen = unix.SizeofSockaddrInet6
		if b.info {
			h.Controllen = controlSize
		}
	}
}

// transfer calls recvmmsg or sendmmsg without waiting, for n messages from first on.
func transfer(call, fd uintptr, first *mmsghdr, n int) (int, unix.Errno) {
	done, _, errno := unix.Syscall6(call, fd, uintptr(unsafe.Pointer(first)), uintptr(n), unix.MSG_DONTWAIT, 0, 0)
	return int(done), errno
}
