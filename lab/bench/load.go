package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

const host = "bench.test"

// sizes are the objects that the origin has, beside /disk/N and /miss/ANY.
var sizes = map[string]int{"/1k": kib, "/32k": 32 * kib, "/128k": 128 * kib, "/1m": mib}

// warm asks until the answer comes from the cache, and checks its size.
func (f *field) warm(s *server, path string) error {
	if s.warm[path] {
		return nil
	}
	status := ""
	for range 50 {
		n, cache, err := f.ask(s, path)
		if err != nil {
			return fmt.Errorf("warm %s: %w", path, err)
		}
		if want := sizes[path]; n != want {
			return fmt.Errorf("%s has %d bytes, want %d", path, n, want)
		}
		if status = cache; status == "HIT" || !s.tells {
			s.warm[path] = true
			return nil
		}
	}
	return fmt.Errorf("%s is never a HIT, it stays %q", path, status)
}

func (f *field) ask(s *server, path string) (size int, cache string, err error) {
	req, err := http.NewRequestWithContext(f.ctx, http.MethodGet, "http://"+s.http+path, nil)
	if err != nil {
		return 0, "", err
	}
	req.Host = host
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, "", err
	}
	if res.StatusCode != http.StatusOK {
		return 0, "", fmt.Errorf("status %d: %.200s", res.StatusCode, body)
	}
	return len(body), res.Header.Get("CF-Cache-Status"), nil
}

// spent runs a load on CPU 1 and returns the server's CPU time per request in µs.
func (f *field) spent(s *server, count func([]byte) (int, error), args ...string) (float64, error) {
	before, err := cpuTime(s)
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(f.ctx, f.o.length()+60*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, "taskset", append([]string{"-c", "1"}, args...)...).CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("%s: %w: %s", args[0], err, out)
	}
	after, err := cpuTime(s)
	if err != nil {
		return 0, err
	}
	n, err := count(out)
	if err != nil {
		return 0, err
	}
	return float64((after - before).Microseconds()) / float64(n), nil
}

var (
	wrkTotal  = regexp.MustCompile(`(\d+) requests in`)
	wrkErrors = regexp.MustCompile(`Socket errors: .*|Non-2xx or 3xx responses: \d+`)
)

func wrkCount(out []byte) (int, error) {
	if bad := wrkErrors.Find(out); bad != nil {
		return 0, fmt.Errorf("wrk: %s", bad)
	}
	return counted(wrkTotal, out)
}

// counted returns the first group of a pattern, a number above zero.
func counted(pattern *regexp.Regexp, out []byte) (int, error) {
	m := pattern.FindSubmatch(out)
	if m == nil {
		return 0, fmt.Errorf("the load printed no count: %s", out)
	}
	n, err := strconv.Atoi(string(m[1]))
	if err == nil && n == 0 {
		err = fmt.Errorf("no request was answered: %s", out)
	}
	return n, err
}

// wrk loads one object over HTTP/1.1 and checks afterwards that it is a hit.
func wrk(path string) func(*field, *server) (float64, error) {
	return func(f *field, s *server) (float64, error) {
		if err := f.warm(s, path); err != nil {
			return 0, err
		}
		cost, err := f.spent(s, wrkCount, f.wrk(s, path)...)
		if err != nil {
			return 0, err
		}
		_, cache, err := f.ask(s, path)
		if err != nil {
			return 0, fmt.Errorf("after the load: %w", err)
		}
		if s.tells && cache != "HIT" {
			return 0, fmt.Errorf("after the load %s is %q, want HIT", path, cache)
		}
		return cost, nil
	}
}

func (f *field) wrk(s *server, path string, more ...string) []string {
	args := []string{"wrk", "--timeout", "10s", "-t1", "-c" + strconv.Itoa(f.o.conns), fmt.Sprintf("-d%ds", f.o.seconds), "-H", "Host: " + host}
	return append(append(args, more...), "http://"+s.http+path)
}

// script writes a program for wrk.
func (f *field) script(text string) (string, error) {
	file := filepath.Join(f.dir, "wrk.lua")
	return file, os.WriteFile(file, []byte(text), 0o600)
}

// wrkMiss asks for another object each time.
func wrkMiss(f *field, s *server) (float64, error) {
	f.turns++
	file, err := f.script(fmt.Sprintf(`local n = 0
request = function()
	n = n + 1
	return wrk.format("GET", "/miss/%d/" .. n)
end
`, f.turns))
	if err != nil {
		return 0, err
	}
	return f.spent(s, wrkCount, f.wrk(s, "/", "-s", file)...)
}

// warmDisk has the whole disk set asked for until it is held.
func (f *field) warmDisk(s *server) error {
	if s.warm["disk"] {
		return nil
	}
	for pass := range 3 { // twice is stored everywhere, the third fills what was still on its way
		for i := range diskSet {
			path := "/disk/" + strconv.Itoa(i)
			if n, _, err := f.ask(s, path); err != nil || n != 100*kib {
				return fmt.Errorf("warm %s, pass %d: %d bytes, %w", path, pass, n, err)
			}
		}
	}
	s.warm["disk"] = true
	return nil
}

// wrkDisk asks for objects of a set that memory cannot hold, evenly at random.
func wrkDisk(f *field, s *server) (float64, error) {
	if err := f.warmDisk(s); err != nil {
		return 0, err
	}
	hits := 0
	const samples = 200
	for range samples {
		_, cache, err := f.ask(s, "/disk/"+strconv.Itoa(rand.IntN(diskSet)))
		if err != nil {
			return 0, err
		}
		if cache == "HIT" {
			hits++
		}
	}
	if hits < samples*98/100 {
		return 0, fmt.Errorf("only %d of %d objects of the disk set are hits", hits, samples)
	}
	file, err := f.script(fmt.Sprintf(`math.randomseed(7)
request = function()
	return wrk.format("GET", "/disk/" .. math.random(0, %d))
end
`, diskSet-1))
	if err != nil {
		return 0, err
	}
	return f.spent(s, wrkCount, f.wrk(s, "/", "-s", file)...)
}

var (
	h2loadTotal  = regexp.MustCompile(`(\d+) succeeded, 0 failed, 0 errored, 0 timeout`)
	h2loadStatus = regexp.MustCompile(`status codes: (\d+) 2xx, 0 3xx, 0 4xx, 0 5xx`)
)

func h2loadCount(out []byte) (int, error) {
	if _, err := counted(h2loadStatus, out); err != nil {
		return 0, err
	}
	return counted(h2loadTotal, out)
}

// h2load loads one object over HTTP/2 and TLS 1.3, ten streams a connection.
func h2load(path string) func(*field, *server) (float64, error) {
	return func(f *field, s *server) (float64, error) {
		if err := f.warm(s, path); err != nil {
			return 0, err
		}
		return f.spent(s, h2loadCount, "h2load", "--connect-to="+s.https, "-t1", "-c"+strconv.Itoa(f.o.conns), "-m10",
			fmt.Sprintf("-D%d", f.o.seconds), "https://"+host+path)
	}
}

// handshakes makes handshakes, full or resumed as the loader says, each with one
// request.
func handshakes(loader string) func(*field, *server) (float64, error) {
	return func(f *field, s *server) (float64, error) {
		if err := f.warm(s, "/1k"); err != nil {
			return 0, err
		}
		return f.spent(s, wrkCount, os.Args[0], "-loader", loader, "-target", s.https, "-seconds", strconv.Itoa(f.o.seconds))
	}
}

// runLoader is this program as its own load generator.
func runLoader(ctx context.Context, o options) error {
	switch o.loader {
	case "handshake", "resumed":
		return shakeHands(ctx, o)
	case "h3":
		return loadH3(ctx, o)
	case "quic-go":
		return serveQUICGo(ctx, o)
	case "idle-h1", "idle-h2":
		return stayIdle(ctx, o)
	}
	return fmt.Errorf("-loader: %q is not known", o.loader)
}

// shakeHands prints how many connections were made, asked once and ended. Where
// no ticket is kept, each handshake is a full one; else all but the first eight
// must be resumed.
func shakeHands(ctx context.Context, o options) error {
	until := time.Now().Add(o.length())
	counts := make(chan int)
	failed := make(chan error, 8)
	for range cap(failed) {
		go func() { // ends in time and is waited for below
			n, config := 0, clientTLS("http/1.1")
			if o.loader == "resumed" {
				config.ClientSessionCache = tls.NewLRUClientSessionCache(1)
			}
			for time.Now().Before(until) {
				resumed, err := shake(ctx, config, o.target)
				if err == nil && n > 0 && resumed != (o.loader == "resumed") {
					err = fmt.Errorf("handshake resumed: %t", resumed)
				}
				if err != nil {
					failed <- err
					break
				}
				n++
			}
			counts <- n
		}()
	}
	total := 0
	for range cap(failed) {
		total += <-counts
	}
	select {
	case err := <-failed:
		return err
	default:
	}
	fmt.Printf("%d requests in %s\n", total, o.length())
	return nil
}

// clientTLS trusts anybody: it is the servers' work that is measured.
func clientTLS(protocol string) *tls.Config {
	return &tls.Config{
		ServerName: host, MinVersion: tls.VersionTLS13, CurvePreferences: []tls.CurveID{tls.X25519}, NextProtos: []string{protocol},
		InsecureSkipVerify: true, //nolint:gosec // G402: certificates made for this run
	}
}

func shake(ctx context.Context, config *tls.Config, addr string) (resumed bool, err error) {
	nc, err := (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return false, err
	}
	defer nc.Close()
	resumed = nc.(*tls.Conn).ConnectionState().DidResume
	if err := nc.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return false, err
	}
	if _, err := io.WriteString(nc, "GET /1k HTTP/1.1\r\nHost: "+host+"\r\nConnection: close\r\n\r\n"); err != nil {
		return false, err
	}
	answer, err := io.ReadAll(nc)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, net.ErrClosed) {
		return false, err
	}
	if !bytes.HasPrefix(answer, []byte("HTTP/1.1 200")) || len(answer) < kib {
		return false, fmt.Errorf("unexpected answer: %s", strings.ToValidUTF8(string(answer[:min(len(answer), 200)]), "?"))
	}
	return resumed, nil
}
