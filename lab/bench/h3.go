package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

// h3Streams is how many requests a connection has under way.
const h3Streams = 10

// h3load loads one object over HTTP/3 with quic-go's client, many streams a
// connection.
func h3load(path string) func(*field, *server) (float64, error) {
	return func(f *field, s *server) (float64, error) {
		if err := f.warm(s, path); err != nil {
			return 0, err
		}
		return f.spent(s, wrkCount, os.Args[0], "-loader", "h3", "-target", s.https+path,
			"-connections", strconv.Itoa(f.o.conns), "-seconds", strconv.Itoa(f.o.seconds))
	}
}

// loadH3 asks for the object of o.target (host:port/path) until the time is
// over and prints how often it came whole.
func loadH3(ctx context.Context, o options) error {
	addr, path, _ := strings.Cut(o.target, "/")
	path = "/" + path
	until := time.Now().Add(o.length())
	var total atomic.Int64
	var work sync.WaitGroup
	failed := make(chan error, o.conns*h3Streams)
	for range o.conns {
		tr := &http3.Transport{
			TLSClientConfig: clientTLS("h3"), DisableCompression: true,
			Dial: func(ctx context.Context, _ string, tc *tls.Config, qc *quic.Config) (*quic.Conn, error) {
				return quic.DialAddrEarly(ctx, addr, tc, qc)
			},
		}
		defer func() { _ = tr.Close() }() // the count is taken
		for range h3Streams {
			work.Go(func() {
				for time.Now().Before(until) {
					if err := askH3(ctx, tr, path); err != nil {
						failed <- err
						return
					}
					total.Add(1)
				}
			})
		}
	}
	work.Wait()
	select {
	case err := <-failed:
		return err
	default:
	}
	fmt.Printf("%d requests in %s\n", total.Load(), o.length())
	return nil
}

func askH3(ctx context.Context, tr http.RoundTripper, path string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+host+path, nil)
	if err != nil {
		return err
	}
	res, err := tr.RoundTrip(req)
	if err != nil {
		return err
	}
	n, err := io.Copy(io.Discard, res.Body)
	if err == nil && (res.StatusCode != http.StatusOK || n != int64(sizes[path])) {
		err = fmt.Errorf("%s: status %d, %d bytes", path, res.StatusCode, n)
	}
	return errors.Join(err, res.Body.Close())
}

// startQUICGo runs this program as an http3.Server.
func startQUICGo(f *field, name string) (*server, func(), error) {
	plain, secure, err := f.site()
	if err != nil {
		return nil, nil, err
	}
	own := filepath.Join(f.dir, name)
	if err := os.Mkdir(own, 0o755); err != nil {
		return nil, nil, err
	}
	pid := filepath.Join(own, "pid")
	stop, err := f.start(own, name, "taskset", "-c", "0", os.Args[0], "-loader", "quic-go", "-target", strings.Join([]string{plain, secure, f.cert, f.key, pid}, ","))
	if err != nil {
		return nil, nil, err
	}
	s := &server{name: name, http: plain, https: secure, warm: map[string]bool{}}
	s.pids = func() ([]int, error) {
		n, err := pidIn(pid)
		return []int{n}, err
	}
	return f.started(s, stop, own)
}

// serveQUICGo answers the objects of sizes from memory with quic-go's own
// server, and over plain HTTP for warm. o.target is two addresses and the files
// of certificate, key and process number.
func serveQUICGo(ctx context.Context, o options) error {
	t := strings.Split(o.target, ",")
	if len(t) != 5 {
		return fmt.Errorf("-target: two addresses and three files are needed, got %q", o.target)
	}
	objects := map[string][]byte{}
	for path, size := range sizes {
		objects[path] = text(size)
	}
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, ok := objects[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "text/plain")
		w.Header().Set("Cache-Control", "public, max-age=3600")
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		_, _ = w.Write(body) // the loader counts what came whole
	})
	pair, err := tls.LoadX509KeyPair(t[2], t[3])
	if err != nil {
		return err
	}
	plain, err := net.Listen("tcp", t[0])
	if err != nil {
		return err
	}
	addr, err := net.ResolveUDPAddr("udp", t[1])
	if err != nil {
		return err
	}
	udp, err := net.ListenUDP("udp", addr)
	if err != nil {
		return err
	}
	if err := os.WriteFile(t[4], []byte(strconv.Itoa(os.Getpid())), 0o600); err != nil {
		return err
	}
	h1 := &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}
	h3 := &http3.Server{Handler: handler, TLSConfig: &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS13}}
	ended := make(chan error, 2)
	go func() { ended <- h1.Serve(plain) }()
	go func() { ended <- h3.Serve(udp) }()
	select {
	case err = <-ended:
	case <-ctx.Done():
		err = nil
	}
	return errors.Join(err, h1.Close(), h3.Close(), udp.Close())
}
