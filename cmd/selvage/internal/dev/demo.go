package dev

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/selvage-edge/selvage/client"
	"github.com/selvage-edge/selvage/cmd/selvage/internal/onboard"
)

const demoLimit = 5 * time.Second

// onboard sets up the demo zone by the public API.
func (n *network) onboard(ctx context.Context, api *client.Client) (uint64, error) {
	o, err := onboard.ParseOrigin("http://" + n.origin.addr("http"))
	if err != nil {
		return 0, err
	}
	return onboard.Ensure(ctx, api, demoZone, o)
}

// acknowledged waits until every edge of this machine has what was changed.
func (n *network) acknowledged(ctx context.Context, api *client.Client, seq uint64) error {
	if seq == 0 {
		return nil
	}
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		ch, err := api.Change(ctx, seq)
		if err != nil {
			return fmt.Errorf("ask which edges have the demo zone: %w", err)
		}
		have := len(ch.Acked)
		if have >= len(n.edges) {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("demo zone has reached %d of %d edges: %w", have, len(n.edges), context.Cause(ctx))
		}
	}
}

// tryDemo asks each edge for the demo's first page, over https and http: the
// lines on the screen must work when they are printed.
func (n *network) tryDemo(ctx context.Context) error {
	f, err := n.controlFile()
	if err != nil {
		return err
	}
	ca, err := os.ReadFile(f.SiteCA)
	if err != nil {
		return fmt.Errorf("site CA: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		return fmt.Errorf("site CA: no certificate in %s", f.SiteCA)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, demoLimit, fmt.Errorf("not after %s", demoLimit))
	defer cancel()
	for _, e := range n.edges {
		for _, scheme := range []string{"https", "http"} {
			if err := tryUntil(ctx, scheme, reachable(e.addr(scheme)), roots); err != nil {
				// It runs, so the user can look for himself; stopping would hide it.
				n.c.Log.Warn("demo site does not answer", "edge", e.colo, "scheme", scheme, "error", err)
			}
		}
	}
	return nil
}

func tryUntil(ctx context.Context, scheme, addr string, roots *x509.CertPool) error {
	t := &http.Transport{
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, network, addr)
		},
		TLSClientConfig:   &tls.Config{RootCAs: roots},
		DisableKeepAlives: true,
	}
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodHead, scheme+"://"+demoZone+"/", nil)
		if err != nil {
			return err
		}
		res, err := t.RoundTrip(req)
		if err == nil {
			_ = res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return nil
			}
			err = fmt.Errorf("status %d", res.StatusCode)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		}
	}
}
