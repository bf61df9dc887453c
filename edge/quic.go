package edge

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync/atomic"

	"github.com/quic-go/quic-go"

	"github.com/selvage-edge/selvage/edge/tlsterm"
	"github.com/selvage-edge/selvage/wire/msg"
	"github.com/selvage-edge/selvage/zone"
)

const (
	// retryFrom is how many handshakes may be under way before a visitor has
	// to show, by a Retry, that its address is its own (RFC 9000 §8.1.2).
	retryFrom = 256
	// maxHandshakes is how many may be under way at all.
	maxHandshakes = 8192
	// altSvcAge is for how long visitors remember that HTTP/3 is to be had.
	altSvcAge = 86400
)

// quicDoor is the way in by QUIC: one UDP socket, on the port of https.
type quicDoor struct {
	edge       *Edge
	transport  *quic.Transport
	listener   *quic.EarlyListener
	handshakes atomic.Int64
}

// openQUIC prepares the socket. Nothing is answered before listen.
func (e *Edge) openQUIC() error {
	ids, err := newConnectionIDs(e.identity.NodeID)
	if err != nil {
		return err
	}
	reset, err := e.identity.Secret("quic stateless reset")
	if err != nil {
		return err
	}
	token, err := e.identity.Secret("quic address token")
	if err != nil {
		return err
	}
	d := &quicDoor{edge: e}
	d.transport = &quic.Transport{
		Conn: e.sockets.quic, ConnectionIDGenerator: ids,
		StatelessResetKey: (*quic.StatelessResetKey)(&reset), TokenGeneratorKey: (*quic.TokenGeneratorKey)(&token),
		VerifySourceAddress: func(net.Addr) bool { return d.handshakes.Load() >= retryFrom },
		ConnContext:         d.admit,
	}
	e.quic = d
	port := cmp.Or(e.cfg.AltPort, e.sockets.quic.LocalAddr().(*net.UDPAddr).Port)
	e.altSvc = fmt.Appendf(nil, `h3=":%d"; ma=%d`, port, altSvcAge)
	return nil
}

// listen opens the door.
func (d *quicDoor) listen() (err error) {
	config := d.edge.h3.Config()
	config.Allow0RTT = true // which tickets allow it, tlsterm decides
	config.HandshakeIdleTimeout = tlsterm.HandshakeTimeout / 2
	if d.listener, err = d.transport.ListenEarly(d.edge.tls.QUICConfig(), config); err != nil {
		return fmt.Errorf("https-udp: %w", err)
	}
	return nil
}

type quicAttemptKey struct{}

// quicAttempt is a handshake under way.
type quicAttempt struct {
	door *quicDoor
	over atomic.Bool
	done func(state *quic.ConnectionState, err error)
}

// settle is called with what came of the handshake; the first call counts.
func (a *quicAttempt) settle(state *quic.ConnectionState, err error) {
	if a.over.Swap(true) {
		return
	}
	a.door.handshakes.Add(-1)
	a.done(state, err)
}

var (
	errOff        = errors.New("HTTP/3 is switched off")
	errFull       = errors.New("as many connections as allowed")
	errHandshakes = errors.New("as many handshakes as allowed")
)

// admit counts a connection from its first packet to its end.
func (d *quicDoor) admit(ctx context.Context, _ *quic.ClientInfo) (context.Context, error) {
	e := d.edge
	if e.kills.Now().Has(zone.KillHTTP3) {
		return nil, errOff
	}
	if !e.room() {
		return nil, errFull
	}
	if d.handshakes.Add(1) > maxHandshakes {
		d.handshakes.Add(-1)
		e.turnAway()
		return nil, errHandshakes
	}
	inner, done := e.tls.Begin(ctx)
	a := &quicAttempt{door: d, done: func(state *quic.ConnectionState, err error) {
		if state != nil {
			done(state.TLS, nil)
		} else {
			done(quicNoState, err)
		}
	}}
	context.AfterFunc(ctx, func() {
		e.connections.Add(-1)
		a.settle(nil, context.Cause(ctx))
	})
	return context.WithValue(inner, quicAttemptKey{}, a), nil
}

var quicNoState = quic.ConnectionState{}.TLS

// accept takes visitors until the door is shut.
func (d *quicDoor) accept(ctx context.Context) error {
	for {
		qc, err := d.listener.Accept(ctx)
		if err != nil {
			return nil // shut, or ctx has ended, which shuts it
		}
		d.edge.visitors.Go(func() { d.serve(qc) })
	}
}

// serve waits for the handshake, unless requests came with it.
func (d *quicDoor) serve(qc *quic.Conn) {
	a, ok := qc.Context().Value(quicAttemptKey{}).(*quicAttempt)
	state := qc.ConnectionState()
	complete := func() {
		select {
		case <-qc.HandshakeComplete():
			if ok {
				full := qc.ConnectionState()
				a.settle(&full, nil)
			}
		case <-qc.Context().Done():
		}
	}
	if state.Used0RTT {
		d.edge.visitors.Go(complete)
	} else {
		complete()
		if qc.Context().Err() != nil {
			return
		}
		state = qc.ConnectionState()
	}
	d.edge.h3.ServeConn(qc, &msg.Conn{Remote: addrPort(qc.RemoteAddr()), Local: addrPort(qc.LocalAddr()), TLS: &state.TLS})
}

// shut takes no more connections; those that are there go on.
func (d *quicDoor) shut() error {
	if d.listener == nil {
		return nil
	}
	return d.listener.Close()
}

// close ends what is left.
func (d *quicDoor) close() error {
	if d.listener == nil {
		return nil
	}
	return d.transport.Close()
}

// connectionIDs makes connection ids that say which node they belong to, so
// that a packet that strays to another server of a data center can be sent on
// (the plaintext form of draft-ietf-quic-load-balancers): an octet without
// meaning, three of the node's id, eight by chance.
type connectionIDs struct{ node [3]byte }

const connectionIDLen = 1 + 3 + 8

func newConnectionIDs(nodeID string) (*connectionIDs, error) {
	c := &connectionIDs{}
	raw, err := hex.DecodeString(nodeID)
	if err != nil || len(raw) < len(c.node) {
		return nil, fmt.Errorf("node id %s is not hex", strconv.Quote(nodeID))
	}
	copy(c.node[:], raw)
	return c, nil
}

// GenerateConnectionID implements quic.ConnectionIDGenerator.
func (c *connectionIDs) GenerateConnectionID() (quic.ConnectionID, error) {
	var b [connectionIDLen]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	b[0] &= 0x1f           // rotation 0 of the routing's configuration
	copy(b[1:], c.node[:])
	return quic.ConnectionIDFromBytes(b[:]), nil
}

// ConnectionIDLen implements quic.ConnectionIDGenerator.
func (c *connectionIDs) ConnectionIDLen() int { return connectionIDLen }
