package script

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// pattern is a body of which each byte tells where it is and of which version.
type pattern struct {
	version, size, at int64
}

func (p *pattern) Read(b []byte) (int, error) {
	if p.at >= p.size {
		return 0, io.EOF
	}
	b = b[:min(int64(len(b)), p.size-p.at)]
	for n := 0; n < len(b); {
		at := p.at + int64(n)
		word := uint64(p.version)<<48 | uint64(at>>3)
		var each [8]byte
		for i := range each {
			each[i] = byte(word >> (56 - 8*i))
		}
		n += copy(b[n:], each[at&7:])
	}
	p.at += int64(len(b))
	return len(b), nil
}

func (p *pattern) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += p.at
	case io.SeekEnd:
		offset += p.size
	}
	p.at = offset
	return offset, nil
}

// large is a network of one edge whose memory is much smaller than the one object
// of its zone, with a reserve.
type large struct {
	*network
	version, asked atomic.Int64
	size           int64
}

func newLarge(t *testing.T, size int64, args ...string) *large {
	t.Helper()
	l := &large{size: size}
	l.version.Store(1)
	origin, _ := page(t, func(w http.ResponseWriter, r *http.Request) {
		l.asked.Add(1)
		v := l.version.Load()
		w.Header().Set("Cache-Control", "max-age=864000")
		w.Header().Set("ETag", fmt.Sprintf(`"%d"`, v))
		http.ServeContent(w, r, "a.bin", time.Time{}, &pattern{version: v, size: size})
	})
	l.start(t, t.TempDir(), args...)
	l.onboard(t, "large.test", origin)
	_, seq := l.call(t, "PATCH", "/zones/"+l.zoneID(t, "large.test")+"/cache/cache_reserve", map[string]any{"value": "on"})
	l.live(t, seq)
	return l
}

func (l *large) start(t *testing.T, state string, args ...string) {
	t.Helper()
	l.network = dev(t, state, append([]string{"--edges", "1", "--no-demo", "--cache-bytes", "8MiB"}, args...)...)
}

// get wants bytes from..to (both counted, as in Range) of a version, all of it with
// to < 0, and returns the status of the cache.
func (l *large) get(t *testing.T, path string, version, from, to int64) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", "http://large.test"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	status := 200
	if to >= 0 {
		status = 206
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", from, to))
	} else {
		to = l.size - 1
	}
	c := visitor(t, l.Edges[0].HTTP, "")
	c.Timeout = 2 * time.Minute
	res, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	want := &pattern{version: version, size: to + 1, at: from}
	got, expected := make([]byte, 64<<10), make([]byte, 64<<10)
	for {
		n, err := io.ReadFull(res.Body, got)
		m, _ := io.ReadFull(want, expected[:n]) // it has no other error than to end
		if m != n || !bytes.Equal(got[:n], expected[:n]) {
			t.Fatalf("%s %d-%d: not version %d (%q, %s) before byte %d", path, from, to, version, res.Header.Get("ETag"), res.Header.Get("CF-Cache-Status"), want.at)
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if res.StatusCode != status || want.at != to+1 {
		t.Fatalf("%s %d-%d: %d, ended before byte %d", path, from, to, res.StatusCode, want.at)
	}
	return res.Header.Get("CF-Cache-Status")
}

// all gets it whole and by ranges.
func (l *large) all(t *testing.T, version int64) {
	t.Helper()
	l.get(t, "/a", version, 0, -1)
	for _, r := range [][2]int64{{0, 0}, {1, 9 << 20}, {l.size/2 - 7, l.size/2 + 7}, {l.size - 3<<20, l.size - 1}} {
		l.get(t, "/a", version, r[0], r[1])
	}
}

// filled gets it from the origin until it is kept: tiers that are slower than a
// visitor give up. metrics count what they have kept.
func (l *large) filled(t *testing.T, metrics ...string) {
	t.Helper()
	e := &l.Edges[0]
	before := make([]int, len(metrics))
	for i, m := range metrics {
		before[i] = e.metric(t, m)
	}
	eventually(t, 2*time.Minute, "a large object to be kept", func() error {
		asked := l.asked.Load()
		l.get(t, "/a", l.version.Load(), 0, -1)
		if l.asked.Load() == asked {
			return nil // it was kept, or waits to be
		}
		return fmt.Errorf("the origin was asked %d times", l.asked.Load())
	})
	eventually(t, time.Minute, "each tier to have it", func() error {
		for i, m := range metrics {
			if e.metric(t, m) <= before[i] {
				return fmt.Errorf("%s is %d", m, e.metric(t, m))
			}
		}
		return nil
	})
}

// memory reads a line of a process's status in bytes: VmRSS now, VmHWM at most
// (proc(5)).
func memory(t *testing.T, pid int, name string) int64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), name+":")
	kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return kib << 10
}

const (
	diskKept = "selvage_cache_disk_records"
	farKept  = "selvage_cache_reserve_objects_written_total"
	farFound = `selvage_cache_reserve_lookups_total{outcome="found"}`
)

// TestLargeObjectStreamsThroughASmallMemory serves an object of 24 times the memory
// budget, whole and by ranges, from the origin, then from the disk, then from the
// reserve. The process grows by what the Go heap may be before it is collected
// (internal/heap), and never by the object.
func TestLargeObjectStreamsThroughASmallMemory(t *testing.T) {
	const size, most = 192<<20 + 5, 96 << 20
	l := newLarge(t, size, "--cache-disk-bytes", "2GiB")
	e := &l.Edges[0]
	stage := func(name string, far bool, serve func()) {
		t.Helper()
		began, found := memory(t, e.PID, "VmRSS"), e.metric(t, farFound)
		serve()
		grown := memory(t, e.PID, "VmHWM") - began
		t.Logf("%s: grown by %d MiB", name, grown>>20)
		if grown > most {
			t.Errorf("%s: the edge grew by %d MiB for an object of %d MiB", name, grown>>20, int64(size)>>20)
		}
		if now := e.metric(t, farFound); far != (now > found) {
			t.Errorf("%s: the reserve answered %d times", name, now-found)
		}
	}
	stage("origin", false, func() {
		l.get(t, "/part", 1, 5<<20, 50<<20) // nothing is there
		l.filled(t, diskKept, farKept)
	})
	asked := l.asked.Load()
	stage("disk", false, func() { l.all(t, 1) })
	if err := l.stop(t); err != nil {
		t.Fatal(err)
	}
	l.start(t, l.State, "--cache-disk-bytes", "0")
	e = &l.Edges[0]
	stage("reserve", true, func() { l.all(t, 1) })
	if now := l.asked.Load(); now != asked {
		t.Errorf("the origin was asked %d times for what was kept", now-asked)
	}
}

// TestLargeObjectPurgedAroundSIGKILL kills an edge right before and right after the
// purge of a large object that only the reserve has: once the purge is acknowledged
// it is never served.
func TestLargeObjectPurgedAroundSIGKILL(t *testing.T) {
	l := newLarge(t, 24<<20, "--cache-disk-bytes", "0")
	kill := func() {
		t.Helper()
		if err := syscall.Kill(l.Edges[0].PID, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	again := func(old int) {
		t.Helper()
		eventually(t, 30*time.Second, "the edge to be started again", func() error {
			l.reload(t)
			if l.Edges[0].PID == old || !alive(l.Edges[0].PID) {
				return fmt.Errorf("process %d", l.Edges[0].PID)
			}
			_, err := fetch(visitor(t, l.Edges[0].HTTP, ""), "http://none.test/")
			return err
		})
	}
	purge := func() string {
		t.Helper()
		_, seq := l.call(t, "POST", "/zones/"+l.zoneID(t, "large.test")+"/purge_cache", map[string]any{"files": []string{"http://large.test/a"}})
		l.version.Add(1)
		return seq
	}
	l.filled(t, farKept)
	old := l.Edges[0].PID
	kill()
	again(old)
	asked := l.asked.Load()
	l.all(t, 1)
	if l.asked.Load() != asked {
		t.Error("the reserve lost it by SIGKILL")
	}

	old = l.Edges[0].PID
	kill()
	seq := purge()
	again(old)
	l.live(t, seq)
	l.all(t, 2)
	l.filled(t)

	old = l.Edges[0].PID
	l.live(t, purge())
	kill()
	again(old)
	l.get(t, "/a", 3, 1, 9)
	l.all(t, 3)
}
