package main

import (
	"context"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
)

// body is what every path has: a stream of bytes that its name begins.
func body(path string) []byte {
	h := fnv.New64a()
	_, _ = h.Write([]byte(path)) // never fails
	seed := h.Sum64()
	r := rand.New(rand.NewPCG(seed, seed))
	b := make([]byte, sizeOf(path))
	for i := range b {
		b[i] = byte('a' + r.Uint32()%16) // text, so that it is compressed
	}
	return b
}

// sizeOf reads the size at the end of a path: /kind/name/size.
func sizeOf(path string) int {
	n, err := strconv.Atoi(path[strings.LastIndexByte(path, '/')+1:])
	if err != nil {
		return 0
	}
	return min(max(n, 0), 8<<20)
}

// origin is the site, and the proxy with the faults in front of it.
type origin struct {
	server *http.Server
	proxy  *toxiproxy.Proxy
	faulty string // host:port of the proxy
}

func startOrigin(ctx context.Context) (*origin, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	o := &origin{server: &http.Server{Handler: http.HandlerFunc(answer), ReadHeaderTimeout: 10 * time.Second}}
	go func() { _ = o.server.Serve(l) }()    // ends with close, and says only that
	zerolog.SetGlobalLevel(zerolog.Disabled) // what toxics say of themselves
	api := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	o.proxy = toxiproxy.NewProxy(api, "origin", "127.0.0.1:0", l.Addr().String())
	if err := o.proxy.Start(); err != nil {
		return nil, err
	}
	o.faulty = o.proxy.Listen
	return o, nil
}

func (o *origin) close() {
	o.proxy.Stop()
	_ = o.server.Close() // at the end
}

// answer serves a path by its first part.
func answer(w http.ResponseWriter, r *http.Request) {
	kind, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	b := body(r.URL.Path)
	h := w.Header()
	h.Set("Content-Type", "text/plain")
	h.Set("ETag", fmt.Sprintf(`"%x"`, len(b)))
	switch kind {
	case "page":
		h.Set("Cache-Control", "max-age=20, stale-while-revalidate=20, stale-if-error=60")
		h.Set("Cache-Tag", "page, "+r.URL.Path)
	case "short":
		h.Set("Cache-Control", "max-age=1")
	case "large":
		h.Set("Cache-Control", "max-age=60")
	case "chunks":
		h.Set("Cache-Control", "max-age=5")
		for len(b) > 0 {
			n := min(len(b), 7000)
			if _, err := w.Write(b[:n]); err != nil {
				return
			}
			_ = http.NewResponseController(w).Flush() // the next write tells
			b = b[n:]
		}
		return
	case "private":
		h.Set("Cache-Control", "no-store")
	case "fails":
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	http.ServeContent(w, r, "", time.Time{}, strings.NewReader(string(b)))
}

// toxics are the faults, as toxiproxy's API takes them.
var toxics = []string{
	`{"name":"t","type":"latency","stream":"downstream","attributes":{"latency":80,"jitter":80}}`,
	`{"name":"t","type":"bandwidth","stream":"downstream","attributes":{"rate":200}}`,
	`{"name":"t","type":"reset_peer","stream":"downstream","toxicity":0.5,"attributes":{"timeout":20}}`,
	`{"name":"t","type":"timeout","stream":"downstream","toxicity":0.3,"attributes":{"timeout":300}}`,
	`{"name":"t","type":"slicer","stream":"downstream","attributes":{"average_size":200,"size_variation":150,"delay":50}}`,
	`{"name":"t","type":"limit_data","stream":"downstream","toxicity":0.5,"attributes":{"bytes":30000}}`,
	`{"name":"t","type":"slow_close","stream":"downstream","attributes":{"delay":500}}`,
	`{"name":"t","type":"slicer","stream":"upstream","attributes":{"average_size":10,"size_variation":5,"delay":50}}`,
}

// suffer changes the fault every few seconds, with times without one between.
func (o *origin) suffer(ctx context.Context) {
	for n := 0; ; n++ {
		o.heal()
		if n%3 != 0 {
			toxic := toxics[rand.IntN(len(toxics))]
			if _, err := o.proxy.Toxics.AddToxicJson(strings.NewReader(toxic)); err != nil {
				fmt.Println("toxic is not taken:", toxic, err)
			}
		}
		select {
		case <-time.After(4 * time.Second):
		case <-ctx.Done():
			return
		}
	}
}

func (o *origin) heal() { o.proxy.Toxics.ResetToxics(context.Background()) }
