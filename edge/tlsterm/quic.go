package tlsterm

import (
	"context"
	"crypto/tls"
	"errors"
	"strings"

	"github.com/quic-go/quic-go"
)

// quicProtocols is what a zone with HTTP/3 offers in ALPN; one without it
// offers what nobody asks for, and so refuses with no_application_protocol.
var (
	quicProtocols = []string{"h3"}
	quicNone      = []string{"selvage-none"}
)

// HTTP3 reports whether visitors may use HTTP/3 in this zone.
func (p *Plan) HTTP3() bool { return p != nil && p.http3 }

// QUICConfig is Config for QUIC: TLS 1.3 and HTTP/3. Tickets allow early data
// where the zone does at the time when they are used.
func (e *Engine) QUICConfig() *tls.Config { return e.quic }

// Begin notes the start of a handshake that runs under ctx and outside the
// engine, as QUIC's do; done is called once with what came of it.
func (e *Engine) Begin(ctx context.Context) (_ context.Context, done func(tls.ConnectionState, error)) {
	a, start := &attempt{}, e.now()
	return context.WithValue(ctx, attemptKey{}, a), func(state tls.ConnectionState, err error) {
		if err == nil {
			e.metrics.done(state, e.now().Sub(start))
			return
		}
		e.metrics.failures.WithLabelValues(classifyQUIC(err, a)).Inc()
	}
}

// classifyQUIC is classify for errors of quic-go, all of which say that they
// are a closed connection's.
func classifyQUIC(err error, a *attempt) string {
	failed, ok := errors.AsType[*quic.TransportError](err)
	switch {
	case a.refused != "":
		return a.refused
	case ok && failed.ErrorCode.IsCryptoError() && failed.Remote:
		return reasonAlert
	case ok && !failed.Remote:
		return reasonProtocol
	}
	reason, _ := classify(err, a)
	return reason
}

// quicConfigFor is configFor for QUIC.
func (e *Engine) quicConfigFor(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	p, err := e.planFor(hello)
	if err != nil {
		return nil, err
	}
	if p == nil {
		return e.refusal, nil
	}
	if c := p.quic.Load(); c != nil {
		return c, nil
	}
	c := e.terms(p)
	c.MinVersion, c.NextProtos = tls.VersionTLS13, quicNone
	if p.http3 {
		c.NextProtos = quicProtocols
	}
	unwrap := c.UnwrapSession
	c.UnwrapSession = func(identity []byte, state tls.ConnectionState) (*tls.SessionState, error) {
		session, err := unwrap(identity, state)
		if session != nil && !p.early {
			session.EarlyData = false // resumed, and what came early is to be sent again
		}
		return session, err
	}
	p.quic.CompareAndSwap(nil, c)
	return p.quic.Load(), nil
}

// planFor finds the plan that a hello is for, nil when it is to be refused. An
// error says that nobody knows.
func (e *Engine) planFor(hello *tls.ClientHelloInfo) (*Plan, error) {
	a, _ := hello.Context().Value(attemptKey{}).(*attempt)
	if a == nil {
		a = &attempt{} // Config is used without Handshake
	}
	if hello.ServerName == "" {
		a.refused = reasonNoName
		return nil, nil
	}
	host := strings.ToLower(hello.ServerName)
	p, err := e.find(hello.Context(), host)
	if err == nil && !p.Covers(host) {
		p, err = e.fetched(hello.Context(), a, p, host)
	}
	if err != nil {
		a.refused = reasonNoZone
		return nil, err
	}
	return p, nil
}

// fetched finds the plan again when keys came that a handshake lacks.
func (e *Engine) fetched(ctx context.Context, a *attempt, p *Plan, host string) (*Plan, error) {
	a.refused = reasonUnknownName
	lack := p.lacks(host)
	if len(lack) == 0 || e.await == nil {
		return nil, nil
	}
	e.await(ctx, p.zoneID, lack)
	p, err := e.find(ctx, host)
	if err != nil || p.Covers(host) {
		a.refused = ""
		return p, err
	}
	a.refused = reasonNoKey
	return nil, nil
}
