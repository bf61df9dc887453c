// Command zones measures one edge that has many zones on its disk: from its start
// to its first answer, its memory with 10,000 of them hot, and what a zone costs
// that nobody asked for before.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/miekg/dns"

	"github.com/selvage-edge/selvage/edge"
	"github.com/selvage-edge/selvage/feed"
	"github.com/selvage-edge/selvage/internal/figure"
	"github.com/selvage-edge/selvage/zone"
)

func main() {
	binary := flag.String("binary", "bin/selvage", "the program")
	count := flag.Int("zones", 100_000, "how many")
	hot := flag.Int("hot", 10_000, "how many are asked for before memory is read")
	out := flag.String("out", "", "file of figures, appended to")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *binary, *count, *hot, *out); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, binary string, count, hot int, out string) error {
	dir, err := os.MkdirTemp("", "zones-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	state, err := joined(ctx, binary, dir)
	if err != nil {
		return fmt.Errorf("have an edge join: %w", err)
	}
	began := time.Now()
	if err := fill(ctx, state, count); err != nil {
		return fmt.Errorf("fill its copy: %w", err)
	}
	fmt.Printf("%d zones written in %.1f s\n", count, time.Since(began).Seconds())
	began = time.Now()
	at, end, err := start(ctx, binary, state, "edge", "--colo", "FRA", "--parent", "127.0.0.1:1", "--http", "127.0.0.1:0", "--https", "127.0.0.1:0", "--dns", "127.0.0.1:0", "--metrics", "127.0.0.1:0", "--access-log", "off", "--state", state)
	if err != nil {
		return err
	}
	defer end()
	figures := []figure.Figure{figure.Most(fmt.Sprintf("zones-%d-start", count), "s", []float64{time.Since(began).Seconds()}, .5, 3)}
	cold, warm, names := make([]float64, 0, hot), make([]float64, 0, hot), make([]float64, 0, hot)
	step := max(1, count/hot)
	resolver := &dns.Client{}
	conn, err := resolver.Dial(at.DNS)
	if err != nil {
		return err
	}
	for i := 0; i < hot && i < count; i++ {
		begin := time.Now()
		m, _, err := resolver.ExchangeWithConn(new(dns.Msg).SetQuestion("www."+name(i*step)+".", dns.TypeA), conn)
		if err != nil || m.Rcode != dns.RcodeSuccess {
			return fmt.Errorf("resolve %s: %v, %w", name(i*step), m, err)
		}
		names = append(names, time.Since(begin).Seconds()*1e3)
		for _, to := range []*[]float64{&cold, &warm} {
			took, err := visit(ctx, at.HTTP, i*step)
			if err != nil {
				return err
			}
			*to = append(*to, took)
		}
	}
	for _, f := range []struct {
		name   string
		values []float64
		bar    float64
	}{{"http-cold", cold, 5}, {"http-hot", warm, 5}, {"dns-cold", names, 1}} {
		for _, q := range []float64{.5, .99} {
			figures = append(figures, figure.Most(fmt.Sprintf("zones-%d-%s-p%.0f", count, f.name, q*100), "ms", f.values, q, f.bar))
		}
	}
	rss, err := memory(at.PID)
	if err != nil {
		return err
	}
	return report(append(figures, figure.Most(fmt.Sprintf("zones-%d-rss", count), "MB", []float64{rss}, .5, 1500)), out)
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

func report(figures []figure.Figure, out string) error {
	for _, f := range figures {
		fmt.Println(f)
		if out != "" {
			if err := figure.Append(out, f); err != nil {
				return err
			}
		}
	}
	return figure.Missed(figures)
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
