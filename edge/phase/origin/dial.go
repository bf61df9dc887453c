package origin

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"strings"

	"github.com/selvage-edge/selvage/edge/request"
	"github.com/selvage-edge/selvage/fault"
)

// serverName is the name that the origin's certificate is asked for: the
// rule's, else the one in the Host field, as the API has it.
func serverName(r *request.Request) string {
	if r.Route.SNI != "" {
		return r.Route.SNI
	}
	if h := r.Route.HostHeader; h != "" {
		if host, _, err := net.SplitHostPort(h); err == nil {
			h = host
		}
		return strings.Trim(h, "[]")
	}
	return string(r.Host)
}

// tlsConfig returns how connections of a pool are encrypted, nil for plain.
// Sessions are kept per pool, so tickets never travel between tenants.
func (e *Engine) tlsConfig(k key) *tls.Config {
	if k.mode == plain {
		return nil
	}
	return &tls.Config{
		ServerName: k.sni,
		MinVersion: tls.VersionTLS12,
		NextProtos: offers(k),
		RootCAs:    e.roots,
		// ssl full encrypts without asking who answers: that is what the
		// setting means (docs/reference/defaults.md).
		InsecureSkipVerify: k.mode == anyCert,
		ClientSessionCache: tls.NewLRUClientSessionCache(4),
	}
}

func offers(k key) []string {
	if k.two {
		return []string{"h2", "http/1.1"}
	}
	return []string{"http/1.1"}
}

// trusted returns the system's roots and those of the operator; nil means the
// system's alone.
func trusted(extra []*x509.Certificate) *x509.CertPool {
	if len(extra) == 0 {
		return nil
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool() // no system roots: the operator's alone
	}
	for _, c := range extra {
		pool.AddCert(c)
	}
	return pool
}

// handshake encrypts nc and tells the protocol that was agreed on; it closes nc
// when it fails.
func (e *Engine) handshake(ctx context.Context, nc net.Conn, config *tls.Config) (_ net.Conn, protocol string, _ error) {
	limited, cancel := context.WithTimeout(ctx, e.config.TLSTime)
	defer cancel()
	tc := tls.Client(nc, config)
	err := tc.HandshakeContext(limited)
	if err == nil {
		return tc, tc.ConnectionState().NegotiatedProtocol, nil
	}
	_ = nc.Close()
	if errors.Is(ctx.Err(), context.Canceled) {
		return nil, "", &fault.Error{Op: "origin.handshake", Side: fault.Visitor, Kind: fault.Closed, Err: err}
	}
	kind := fault.Handshake
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		kind = fault.Certificate
	}
	return nil, "", failure("origin.handshake", kind, err)
}

// dialFailure makes what Dial returned a fault.
func dialFailure(ctx context.Context, err error) error {
	if f, ok := errors.AsType[*fault.Error](err); ok {
		return f
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		return &fault.Error{Op: "origin.dial", Side: fault.Visitor, Kind: fault.Closed, Err: err}
	}
	return failure("origin.dial", fault.Refused, err)
}
