// Package tlsterm ends TLS for visitors: it chooses a zone's certificate by
// the name that the client asks for, holds to the zone's minimum version, and
// resumes sessions.
//
// Promises: TLS 1.2 and 1.3 only, without renegotiation. A client that asks for
// a name that nobody here has a certificate for, or for none, is refused with
// the alert unrecognized_name (RFC 6066 §3) before any zone is involved. A
// session is resumed only for the zone and the name that it was made for, and
// under that zone's present minimum version.
package tlsterm

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/selvage-edge/selvage/fault"
)

// HandshakeTimeout bounds a handshake from its first byte to its last. (The
// size of a handshake message is bounded by crypto/tls: 64 KiB.)
const HandshakeTimeout = 10 * time.Second

// warnEvery keeps an expired certificate from filling the log.
const warnEvery = time.Hour

// Engine does handshakes. It lives longer than any Plan: tickets issued under
// one plan of a zone are good under the next. It is a prometheus.Collector.
type Engine struct {
	find    func(ctx context.Context, serverName string) (*Plan, error)
	await   func(ctx context.Context, zoneID string, lack []Lack)
	log     *slog.Logger
	now     func() time.Time
	timeout time.Duration
	// base holds the ticket keys, which it makes anew each day and keeps for
	// seven; never copied.
	base    *tls.Config
	quic    *tls.Config // base for QUIC; tickets are base's
	refusal *tls.Config
	warned  atomic.Int64 // when an expired certificate was last reported, Unix seconds
	metrics metrics
}

// New returns an engine that asks find for the plan of the zone that serves a
// name; serverName is in lower case and never empty. It may wait; its error
// refuses the handshake with the alert internal_error. await, which may be nil, is
// asked to fetch the keys of certificates that a handshake needs; it waits for
// them, within bounds, and find then returns a plan with those that came.
func New(find func(ctx context.Context, serverName string) (*Plan, error), await func(ctx context.Context, zoneID string, lack []Lack), log *slog.Logger) *Engine {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	e := &Engine{find: find, await: await, log: log, now: time.Now, timeout: HandshakeTimeout, metrics: newMetrics()}
	e.base = &tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: e.configFor}
	e.quic = &tls.Config{MinVersion: tls.VersionTLS13, NextProtos: quicProtocols, GetConfigForClient: e.quicConfigFor}
	// Without any certificate crypto/tls answers unrecognized_name, the one
	// alert that says what is wrong; an error of ours would go out as
	// internal_error.
	e.refusal = &tls.Config{MinVersion: tls.VersionTLS12, SessionTicketsDisabled: true}
	return e
}

// Handshake makes a TLS connection of nc, within HandshakeTimeout and ctx. The
// error is a *fault.Error; nc is then closed.
func (e *Engine) Handshake(ctx context.Context, nc net.Conn) (*tls.Conn, error) {
	a := &attempt{}
	start := e.now()
	conn := tls.Server(nc, e.base)
	// A context that can end makes crypto/tls start a goroutine for it; a
	// deadline does the same for less.
	err := nc.SetDeadline(start.Add(e.timeout))
	stop := context.AfterFunc(ctx, func() {
		_ = nc.SetDeadline(time.Unix(1, 0)) // fails on a closed connection only
	})
	if err == nil {
		err = conn.HandshakeContext(context.WithValue(context.WithoutCancel(ctx), attemptKey{}, a))
	}
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err == nil {
		err = nc.SetDeadline(time.Time{})
	}
	if err == nil {
		e.metrics.done(conn.ConnectionState(), e.now().Sub(start))
		return conn, nil
	}
	// The handshake's own error says it all; closing adds nothing.
	_ = nc.Close()
	reason, kind := classify(err, a)
	e.metrics.failures.WithLabelValues(reason).Inc()
	return nil, &fault.Error{Op: "tls.handshake", Side: fault.Visitor, Kind: kind, Err: err}
}

// attempt carries out of crypto/tls why a hello was refused.
type attempt struct{ refused string }

type attemptKey struct{}

// configFor decides a handshake's terms by the name it asks for.
func (e *Engine) configFor(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	p, err := e.planFor(hello)
	if err != nil {
		return nil, err
	}
	if p == nil {
		return e.refusal, nil
	}
	return e.config(p), nil
}

// config returns the terms of a plan, made at its first handshake: a
// configuration that is new each time makes ticket keys each time.
func (e *Engine) config(p *Plan) *tls.Config {
	if c := p.config.Load(); c != nil {
		return c
	}
	p.config.CompareAndSwap(nil, e.terms(p))
	return p.config.Load()
}

// terms makes the configuration of a plan, for TCP.
func (e *Engine) terms(p *Plan) *tls.Config {
	return &tls.Config{
		MinVersion: p.minVersion,
		NextProtos: p.protocols,
		// Small records for the first 128 KiB would show the first bytes of an
		// answer sooner on a slow line, at a write for each 1,200 bytes.
		DynamicRecordSizingDisabled: true,
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			host := strings.ToLower(hello.ServerName)
			c := p.choose(host, hello, e.now())
			e.warnExpired(c, host)
			return &c.tls, nil
		},
		WrapSession: func(state tls.ConnectionState, session *tls.SessionState) ([]byte, error) {
			session.Extra = append(session.Extra, binding(p, strings.ToLower(state.ServerName)))
			return e.base.EncryptTicket(state, session)
		},
		UnwrapSession: func(identity []byte, state tls.ConnectionState) (*tls.SessionState, error) {
			session, err := e.base.DecryptTicket(identity, state)
			if err != nil || session == nil || !boundTo(session, binding(p, strings.ToLower(state.ServerName))) {
				return nil, err // a full handshake follows
			}
			return session, nil
		},
	}
}

// binding is what a ticket carries beside its secret: the zone and the name it
// was issued for.
func binding(p *Plan, host string) []byte {
	return []byte("selvage1\x00" + p.zoneID + "\x00" + host)
}

func boundTo(session *tls.SessionState, want []byte) bool {
	return slices.ContainsFunc(session.Extra, func(extra []byte) bool { return string(extra) == string(want) })
}

// warnExpired tells the operator, now and then, that visitors are being shown
// an expired certificate: better than none, and theirs to replace.
func (e *Engine) warnExpired(c *certificate, host string) {
	now := e.now()
	if now.Before(c.expires) {
		return
	}
	last := e.warned.Load()
	if now.Unix()-last >= int64(warnEvery/time.Second) && e.warned.CompareAndSwap(last, now.Unix()) {
		e.log.Warn("serving an expired certificate", "certificate", c.id, "host", host, "expired", c.expires)
	}
}

// Reasons of failed handshakes, as the metric names them.
const (
	reasonNoName      = "no_server_name"
	reasonUnknownName = "unknown_server_name"
	reasonNoZone      = "zone_not_loaded"
	reasonNoKey       = "no_key"
	reasonTimeout     = "timeout"
	reasonClosed      = "closed"
	reasonAlert       = "client_alert"
	reasonNotTLS      = "not_tls"
	reasonVersion     = "version"
	reasonProtocol    = "protocol"
)

func classify(err error, a *attempt) (reason string, kind fault.Kind) {
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		return reasonTimeout, fault.Timeout // context.DeadlineExceeded is one too
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return reasonNotTLS, fault.Malformed
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "remote error" {
		return reasonAlert, fault.Handshake
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.ErrClosedPipe) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, context.Canceled) {
		return reasonClosed, fault.Closed
	}
	if strings.Contains(err.Error(), "unsupported versions") { // crypto/tls has no type for it
		return reasonVersion, fault.Handshake
	}
	if a.refused != "" {
		return a.refused, fault.NotFound
	}
	return reasonProtocol, fault.Handshake
}
