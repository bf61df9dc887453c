package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// tally is what visitors saw.
type tally struct {
	whole, part, failed, cut, other atomic.Int64
	mu                              sync.Mutex
	wrong                           []string // the first few
	wrongs                          int
	byTier                          sync.Map // CF-Cache-Status → *atomic.Int64
}

func (t *tally) bad(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.wrongs++; len(t.wrong) < 20 {
		t.wrong = append(t.wrong, fmt.Sprintf(format, args...))
	}
}

// paths is how often each kind is asked for.
var kinds = []string{"page", "page", "page", "page", "page", "short", "short", "large", "chunks", "private", "fails"}

func pick() string {
	kind := kinds[rand.IntN(len(kinds))]
	name := int(rand.ExpFloat64() * 300) // some are asked for often
	size := []int{100, 1000, 5000, 40_000, 150_000}[name%5] + name
	if kind == "large" {
		name %= 12
		size = 1<<20 + name*100_000
	}
	return fmt.Sprintf("/%s/%d/%d", kind, name, size)
}

// visit asks until ctx ends, over HTTP/1.1, TLS or HTTP/2.
func visit(ctx context.Context, d *dev, n int, t *tally) {
	for ctx.Err() == nil {
		client := &http.Client{Timeout: 30 * time.Second, Transport: transport(d, n)}
		scheme := "https"
		if n%3 == 0 {
			scheme = "http"
		}
		for range 200 { // then with new connections
			if ctx.Err() != nil {
				break
			}
			ask(ctx, client, scheme, t)
		}
		client.CloseIdleConnections()
	}
}

func transport(d *dev, n int) *http.Transport {
	edge := d.Edges[n%len(d.Edges)]
	addr := edge.HTTPS
	if n%3 == 0 {
		addr = edge.HTTP
	}
	var p http.Protocols
	p.SetHTTP1(n%3 != 2)
	p.SetHTTP2(n%3 == 2)
	return &http.Transport{
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, addr)
		},
		TLSClientConfig: &tls.Config{ServerName: host, InsecureSkipVerify: true}, //nolint:gosec // G402: a certificate made for this run
		Protocols:       &p,
	}
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
	count, _ := t.byTier.LoadOrStore(res.Header.Get("CF-Cache-Status"), new(atomic.Int64))
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
