// Command zones measures one edge that has many zones on its disk: from its start
// to its first answer, its memory with 10,000 of them hot, and what a zone costs
// that nobody asked for before.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/miekg/dns"

	"github.com/selvage-edge/selvage/edge"
	"github.com/selvage-edge/selvage/edge/hot"
	"github.com/selvage-edge/selvage/feed"
	"github.com/selvage-edge/selvage/internal/figure"
	"github.com/selvage-edge/selvage/zone"
)

func main() {
	binary := flag.String("binary", "bin/selvage", "the program")
	counts := flag.String("zones", "1000,100000,1000000", "how many there are, one run each")
	asked := flag.Int("hot", 10_000, "how many are asked for")
	out := flag.String("out", "bench/out/zones.json", "where the figures go")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *binary, *counts, *asked, *out); err != nil {
		fmt.Fprintln(os.Stderr, "zones:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, binary, counts string, asked int, out string) error {
	var all []figure.Figure
	for text := range strings.SplitSeq(counts, ",") {
		count, err := strconv.Atoi(text)
		if err != nil || count < 1 {
			return fmt.Errorf("-zones: %q is no number of zones", text)
		}
		figures, err := measure(ctx, binary, count, min(asked, count))
		if err != nil {
			return fmt.Errorf("%d zones: %w", count, err)
		}
		all = append(all, figures...)
	}
	all = append(all, lookUps(asked))
	for _, f := range all {
		fmt.Println(f)
	}
	return errors.Join(figure.Write(out, all), figure.Missed(all))
}

// measure starts an edge with count zones on its disk and asks for some of them.
func measure(ctx context.Context, binary string, count, asked int) ([]figure.Figure, error) {
	dir, err := os.MkdirTemp("", "zones-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }() // of this run alone
	state, err := joined(ctx, binary, dir)
	if err != nil {
		return nil, fmt.Errorf("have an edge join: %w", err)
	}
	began := time.Now()
	if err := fill(ctx, state, count); err != nil {
		return nil, fmt.Errorf("fill its copy: %w", err)
	}
	fmt.Printf("%d zones written in %.1f s\n", count, time.Since(began).Seconds())
	began = time.Now()
	at, end, err := start(ctx, binary, state, "edge", "--colo", "FRA", "--parent", "127.0.0.1:1", "--http", "127.0.0.1:0", "--https", "127.0.0.1:0", "--dns", "127.0.0.1:0", "--metrics", "127.0.0.1:0", "--access-log", "off", "--state", state)
	if err != nil {
		return nil, err
	}
	defer end()
	took := time.Since(began).Seconds()
	l := &load{at: at, step: count / asked}
	if l.conn, err = (&dns.Client{}).Dial(at.DNS); err != nil {
		return nil, err
	}
	defer l.conn.Close()
	for _, pass := range []*pass{&l.cold, &l.hot} {
		for i := range asked {
			if err := l.ask(ctx, pass, i*l.step); err != nil {
				return nil, err
			}
		}
	}
	name := func(what string) string { return fmt.Sprintf("zones-%d-%s", count, what) }
	figures := []figure.Figure{
		figure.Most(name("start"), "s", []float64{took}, .5, 3),
		figure.Most(name("rss"), "MB", l.hot.rss, 1, 1500),
	}
	for _, f := range []struct {
		name   string
		values []float64
		bar    float64
	}{{"http-cold", l.cold.http, 5}, {"dns-cold", l.cold.dns, 1}, {"http-hot", l.hot.http, 0}, {"dns-hot", l.hot.dns, 0}} {
		for _, q := range []float64{.5, .99} {
			one := figure.Most(name(fmt.Sprintf("%s-p%.0f", f.name, q*100)), "ms", f.values, q, f.bar)
			if f.bar == 0 {
				one.Bar, one.Met = nil, nil
			}
			figures = append(figures, one)
		}
	}
	return figures, nil
}

// load asks an edge, one question after the other.
type load struct {
	at        edge.StateFile
	conn      *dns.Conn
	step      int
	cold, hot pass
}

// pass is what was seen while each zone was asked for once: milliseconds, and
// the edge's memory in MB from time to time.
type pass struct{ dns, http, rss []float64 }

const rssEach = 100 // zones

func (l *load) ask(ctx context.Context, p *pass, i int) error {
	begin := time.Now()
	m, _, err := new(dns.Client).ExchangeWithConn(new(dns.Msg).SetQuestion("www."+name(i)+".", dns.TypeA), l.conn)
	if err != nil || m.Rcode != dns.RcodeSuccess {
		return fmt.Errorf("resolve %s: %v, %w", name(i), m, err)
	}
	p.dns = append(p.dns, time.Since(begin).Seconds()*1e3)
	took, err := visit(ctx, l.at.HTTP, i)
	if err != nil {
		return err
	}
	if p.http = append(p.http, took); len(p.http)%rssEach != 1 {
		return nil
	}
	rss, err := memory(l.at.PID)
	p.rss = append(p.rss, rss)
	return err
}

// lookUps is what finding a zone in memory costs among so many, of a host one
// label below its name.
func lookUps(count int) figure.Figure {
	const rounds, each = 101, 1000
	table := hot.NewTable[int](1 << 40)
	hosts := make([][]byte, count)
	for i := range hosts {
		table.Put(hot.HashOf(name(i)), name(i), &i, 1, false)
		hosts[i] = []byte("www." + name(i))
	}
	took := make([]float64, rounds)
	for r := range took {
		begin := time.Now()
		for i := range each {
			var names hot.Suffixes
			names.Set(hosts[(r*each+i)*7919%count])
			for k := range names.Len() {
				if text, hash := names.At(k); table.Find(hash, text) != nil {
					break
				}
			}
		}
		took[r] = float64(time.Since(begin).Nanoseconds()) / each
	}
	return figure.Alone(fmt.Sprintf("zones-%d-hot-find", count), "ns", took, 1000)
}

// visit is how long a zone's answer takes, in milliseconds: a redirect of the
// edge's own.
func visit(ctx context.Context, addr string, i int) (float64, error) {
	begin := time.Now()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/", nil)
	if err != nil {
		return 0, err
	}
	r.Host = "www." + name(i)
	a, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		return 0, err
	}
	_, _ = io.Copy(io.Discard, a.Body)
	_ = a.Body.Close()
	if a.StatusCode != http.StatusMovedPermanently {
		return 0, fmt.Errorf("%s answers %d", r.Host, a.StatusCode)
	}
	return time.Since(begin).Seconds() * 1e3, nil
}

// memory is what a process has of it, in MB.
func memory(pid int) (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		var kb float64
		if n, _ := fmt.Sscanf(line, "VmRSS: %f kB", &kb); n == 1 {
			return kb / 1000, nil
		}
	}
	return 0, fmt.Errorf("process %d does not say what memory it has", pid)
}

// joined makes the state folder of an edge that has joined a control plane.
func joined(ctx context.Context, binary, dir string) (string, error) {
	_, end, err := start(ctx, binary, dir, "dev", "--state", dir, "--no-demo", "--edges", "1")
	if err != nil {
		return "", err
	}
	found := find(dir)
	end()
	return filepath.Dir(found), os.RemoveAll(filepath.Join(filepath.Dir(found), "copy"))
}

func find(dir string) (found string) {
	_ = filepath.WalkDir(dir, func(path string, _ os.DirEntry, _ error) error { // what is not there yet is looked for again
		if filepath.Base(path) == "edge.json" {
			found = path
		}
		return nil
	})
	return found
}

// start runs the program until an edge below dir is ready; end ends it.
func start(ctx context.Context, binary, dir string, args ...string) (at edge.StateFile, end func(), err error) {
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return at, nil, err
	}
	end = func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		_ = cmd.Wait()
	}
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		text, err := os.ReadFile(find(dir))
		if err == nil && json.Unmarshal(text, &at) == nil && at.Ready {
			return at, end, nil
		}
	}
	end()
	return at, nil, fmt.Errorf("%s %v is not ready", binary, args)
}

func name(i int) string { return fmt.Sprintf("zone%07d.example", i) }

// fill writes the copy: of each zone its name, meta, settings and eight records.
func fill(ctx context.Context, state string, count int) error {
	c, err := feed.OpenCopy(filepath.Join(state, "copy"), feed.CopyOptions{})
	if err != nil {
		return err
	}
	w, err := c.BeginSnapshot()
	if err != nil {
		return err
	}
	add := func(key, value string) error { return w.Add(ctx, key, []byte(value), 1) }
	for i := range count {
		if err := add(zone.NameKey(name(i)), id(i)); err != nil {
			return err
		}
	}
	stamp := time.Now().UTC().Format(time.RFC3339Nano)
	for i := range count {
		rows := map[string]string{
			zone.MetaKey(id(i)):     fmt.Sprintf(`{"id":%q,"name":%q,"account_id":"0123456789abcdef0123456789abcdef","status":"active","paused":false,"created_on":%q,"modified_on":%q,"name_servers":["ada.ns.example","bob.ns.example"]}`, id(i), name(i), stamp, stamp),
			zone.SettingsKey(id(i)): `{"ssl":"flexible","always_use_https":"on","browser_cache_ttl":14400}`,
		}
		for k, label := range []string{"", "www.", "api.", "mail.", "shop.", "blog.", "cdn.", "dev."} {
			host := label + name(i)
			rows[zone.DNSKey(id(i), host)] = fmt.Sprintf(`[{"id":"%032x","name":%q,"type":"A","content":"192.0.2.%d","ttl":1,"proxied":true,"tags":[],"created_on":%q,"modified_on":%q}]`, i*8+k, host, 1+k, stamp, stamp)
		}
		keys := make([]string, 0, len(rows))
		for key := range rows {
			keys = append(keys, key)
		}
		slices.Sort(keys)
		for _, key := range keys {
			if err := add(key, rows[key]); err != nil {
				return err
			}
		}
	}
	if err := w.Commit(ctx, feed.Cursor{Seq: 1, Hash: [32]byte{1}}); err != nil {
		return err
	}
	return c.Close()
}

func id(i int) string { return fmt.Sprintf("%032x", i) }
