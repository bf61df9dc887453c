package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

// tally is what visitors saw.
type tally struct {
	whole, part, failed, cut, other atomic.Int64
	purges, unpurged                atomic.Int64 // asked for; not confirmed

	mu     sync.Mutex
	wrong  []string // guarded by mu: the first few
	wrongs int      // guarded by mu
	// byStatus counts each protocol's answers of each CF-Cache-Status, as *atomic.Int64.
	byStatus sync.Map
}

func (t *tally) bad(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.wrongs++; len(t.wrong) < 20 {
		t.wrong = append(t.wrong, fmt.Sprintf(format, args...))
	}
}

// wrongSoFar is how many answers were wrong.
func (t *tally) wrongSoFar() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.wrongs
}

// kinds is how often each kind is asked for.
var kinds = []string{"page", "page", "page", "page", "page", "short", "short", "large", "chunks", "private", "fails"}

func pick() string {
	kind := kinds[rand.IntN(len(kinds))]
	name := int(rand.ExpFloat64() * 100) // some are asked for often
	if rand.IntN(4) > 0 {
		kind, name = "page", rand.IntN(50) // these most
	}
	size := []int{100, 1000, 5000, 40_000, 150_000}[name%5] + name
	if kind == "large" {
		name %= 12
		size = 1<<20 + name*100_000
	}
	return fmt.Sprintf("/%s/%d/%d", kind, name, size)
}

// visit asks until ctx ends: each visitor over HTTP/1.1, the same over TLS, HTTP/2
// or HTTP/3.
func visit(ctx context.Context, o options, d *dev, n int, t *tally) {
	pace := make(<-chan time.Time)
	if o.rate > 0 {
		tick := time.NewTicker(time.Duration(float64(o.clients) / o.rate * float64(time.Second)))
		defer tick.Stop()
		pace = tick.C
	}
	scheme := "https"
	if n%4 == 0 {
		scheme = "http"
	}
	for ctx.Err() == nil {
		tr, leave := transport(d, n)
		client := &http.Client{Timeout: 30 * time.Second, Transport: tr}
		for range 200 { // then with new connections
			if o.rate > 0 {
				select {
				case <-pace:
				case <-ctx.Done():
				}
			}
			if ctx.Err() != nil {
				break
			}
			ask(ctx, client, scheme, t)
		}
		leave()
	}
}

// transport is visitor n's way to its edge, and what closes its connections.
func transport(d *dev, n int) (http.RoundTripper, func()) {
	edge := d.Edges[n/4%len(d.Edges)]
	tc := &tls.Config{ServerName: host, InsecureSkipVerify: true} //nolint:gosec // G402: a certificate made for this run
	if n%4 == 3 {
		tr := &http3.Transport{TLSClientConfig: tc, Dial: func(ctx context.Context, _ string, tc *tls.Config, qc *quic.Config) (*quic.Conn, error) {
			return quic.DialAddrEarly(ctx, edge.HTTPS, tc, qc)
		}}
		return tr, func() { _ = tr.Close() } // nothing is under way
	}
	addr := edge.HTTPS
	if n%4 == 0 {
		addr = edge.HTTP
	}
	var p http.Protocols
	p.SetHTTP1(n%4 != 2)
	p.SetHTTP2(n%4 == 2)
	tr := &http.Transport{
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, addr)
		},
		TLSClientConfig: tc,
		Protocols:       &p,
	}
	return tr, tr.CloseIdleConnections
}

// purge purges something every few seconds, for what it does to memory and to
// those who are being answered.
func purge(ctx context.Context, d *dev, t *tally) {
	tick := time.NewTicker(3 * time.Second)
	defer tick.Stop()
	zone := ""
	for k := 0; ; k++ {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		var err error
		if zone == "" {
			zone, err = zoneOf(ctx, d)
		} else {
			what := []string{
				`{"files":["http://` + host + pick() + `"]}`, `{"tags":["` + pick() + `"]}`,
				`{"prefixes":["` + host + `/large/1"]}`, `{"prefixes":["` + host + `/page/2"]}`,
			}[k%4]
			if k%20 == 19 {
				what = []string{`{"tags":["page"]}`, `{"hosts":["` + host + `"]}`, `{"purge_everything":true}`}[k/20%3]
			}
			err = call(ctx, d, http.MethodPost, "/zones/"+zone+"/purge_cache", what, nil)
		}
		if ctx.Err() == nil && err != nil {
			fmt.Println("not purged:", err)
			t.unpurged.Add(1)
		}
		t.purges.Add(1)
	}
}

func zoneOf(ctx context.Context, d *dev) (string, error) {
	var zones []struct{ ID string }
	if err := call(ctx, d, http.MethodGet, "/zones?name="+host, "", &zones); err != nil {
		return "", err
	}
	if len(zones) != 1 {
		return "", fmt.Errorf("%d zones %s", len(zones), host)
	}
	return zones[0].ID, nil
}

// call makes one API call.
func call(ctx context.Context, d *dev, method, path, body string, into any) error {
	req, err := http.NewRequestWithContext(ctx, method, d.API+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+d.Token)
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	var envelope struct {
		Success        bool
		Errors, Result json.RawMessage
	}
	if err := json.NewDecoder(res.Body).Decode(&envelope); err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	if !envelope.Success {
		return fmt.Errorf("%s %s %s: %d %s", method, path, body, res.StatusCode, envelope.Errors)
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(envelope.Result, into)
}

// ask makes one request and judges the answer.
func ask(ctx context.Context, client *http.Client, scheme string, t *tally) {
	path := pick()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+host+path, nil)
	if err != nil {
		t.bad("%s: %v", path, err)
		return
	}
	from, to := 0, 0
	if size := sizeOf(path); rand.IntN(8) == 0 {
		from = rand.IntN(size)
		to = from + 1 + rand.IntN(size-from)
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", from, to-1))
	}
	if rand.IntN(50) == 0 { // one who leaves
		leaving, cancel := context.WithTimeout(ctx, time.Duration(rand.IntN(20))*time.Millisecond)
		defer cancel()
		req = req.WithContext(leaving)
	}
	res, err := client.Do(req)
	if err != nil {
		t.cut.Add(1)
		return
	}
	defer res.Body.Close()
	count, _ := t.byStatus.LoadOrStore(res.Proto+" "+res.Header.Get("CF-Cache-Status"), new(atomic.Int64))
	count.(*atomic.Int64).Add(1)
	got, err := io.ReadAll(res.Body)
	if err != nil {
		t.cut.Add(1) // seen to be incomplete
		return
	}
	judge(t, path, from, to, res, got)
}

func judge(t *tally, path string, from, to int, res *http.Response, got []byte) {
	want := body(path)
	switch {
	case res.StatusCode == http.StatusOK && bytes.Equal(got, want):
		t.whole.Add(1)
	case res.StatusCode == http.StatusPartialContent && bytes.Equal(got, want[from:to]) &&
		res.Header.Get("Content-Range") == fmt.Sprintf("bytes %d-%d/%d", from, to-1, len(want)):
		t.part.Add(1)
	case res.StatusCode >= 500:
		t.failed.Add(1)
	case res.StatusCode == http.StatusOK, res.StatusCode == http.StatusPartialContent:
		t.bad("%s: %d with %d bytes (%q, %s, %s, range %d-%d): not the page", path, res.StatusCode, len(got),
			res.Header.Get("Content-Range"), res.Header.Get("CF-Cache-Status"), res.Header.Get("Content-Encoding"), from, to)
	case strings.HasPrefix(path, "/fails"):
		t.failed.Add(1)
	default:
		t.other.Add(1)
		t.bad("%s: status %d", path, res.StatusCode)
	}
}
