package script

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// TestPurgedStaysPurgedAfterSIGKILL fills memory, disk and reserve of an edge,
// purges by each scope, and kills the edge at the moment of the acknowledgement:
// what was purged is never served again, from no tier and in no coding, and what
// was not is there without the origin.
func TestPurgedStaysPurgedAfterSIGKILL(t *testing.T) {
	var version atomic.Int64
	version.Store(1)
	origin, _ := page(t, func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "max-age=86400")
		h.Set("Content-Type", "text/css")
		h.Set("Cache-Tag", "all, page"+strings.ReplaceAll(r.URL.Path, "/", "-"))
		h.Set("X-Version", fmt.Sprint(version.Load()))
		if strings.HasSuffix(r.URL.Path, "/vary") {
			h.Set("Vary", "X-Kind")
		}
		size := 100
		if strings.HasSuffix(r.URL.Path, "/large") {
			size = 200_000 // stays on the disk
		}
		io.WriteString(w, strings.Repeat(fmt.Sprintf("%010d", version.Load()), size/10))
	})
	n := dev(t, t.TempDir(), "--edges", "1", "--no-demo", "--cache-disk-bytes", "64MiB")
	n.onboard(t, "kill.test", origin)
	_, seq := n.call(t, "PATCH", "/zones/"+n.zoneID(t, "kill.test")+"/cache/cache_reserve", map[string]any{"value": "on"})
	n.live(t, seq)

	kinds := []string{"small", "large", "vary"}
	is := func(want int64, path string) {
		t.Helper()
		c := visitor(t, n.Edges[0].HTTP, "")
		for _, accepts := range []string{"", "gzip"} {
			req, err := http.NewRequestWithContext(t.Context(), "GET", "http://kill.test"+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("X-Kind", "a")
			if accepts != "" {
				req.Header.Set("Accept-Encoding", accepts)
			}
			res, err := c.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(res.Body)
			res.Body.Close()
			whole := res.Header.Get("Content-Encoding") != "" || strings.Trim(string(body), "0"+fmt.Sprint(want)) == ""
			if got := res.Header.Get("X-Version"); err != nil || got != fmt.Sprint(want) || !whole {
				t.Errorf("%s (%q) is version %s (%s, %v), want %d", path, accepts, got, res.Header.Get("CF-Cache-Status"), err, want)
			}
		}
	}
	each := func(want int64, names ...string) {
		t.Helper()
		for _, name := range names {
			for _, kind := range kinds {
				is(want, "/"+name+"/"+kind)
			}
		}
	}
	kill := func() {
		t.Helper()
		old := n.Edges[0].PID
		if err := syscall.Kill(old, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		eventually(t, 30*time.Second, "the edge to be started again", func() error {
			n.reload(t)
			if n.Edges[0].PID == old || !alive(n.Edges[0].PID) {
				return errors.New("same process")
			}
			_, err := fetch(visitor(t, n.Edges[0].HTTP, ""), "http://kill.test/probe")
			return err
		})
	}
	purge := func(args ...string) {
		t.Helper()
		version.Add(1)
		n.cli(t, append([]string{"purge", "kill.test"}, args...)...)
	}
	// stored waits until n objects are in both tiers below memory.
	stored := func(objects int) {
		t.Helper()
		e := &n.Edges[0]
		eventually(t, 20*time.Second, "disk and reserve to be written", func() error {
			disk, far := e.metric(t, "selvage_cache_disk_records"), e.metric(t, "selvage_cache_reserve_objects_written_total")
			if disk < objects || far < objects || e.metric(t, "selvage_cache_disk_queue_bytes") > 0 {
				return fmt.Errorf("%d on the disk, %d in the reserve, want %d", disk, far, objects)
			}
			return nil
		})
	}

	names := []string{"url", "tag", "prefix", "kept"}
	each(1, names...)
	stored(len(names) * len(kinds))
	version.Store(9)
	kill()
	each(1, names...) // all of it is below memory

	version.Store(1)
	purge("--url", "http://kill.test/url/small", "--url", "http://kill.test/url/large", "--url", "http://kill.test/url/vary")
	purge("--tag", "page-tag-small", "--tag", "PAGE-tag-large", "--tag", "page-tag-vary")
	purge("--prefix", "kill.test/prefix")
	kill()
	each(4, "url", "tag", "prefix")
	each(1, "kept")

	purge("--tag", "page-kept-small", "--tag", "page-kept-large", "--tag", "page-kept-vary", "--soft")
	kill()
	each(5, "kept")
	purge("--host", "kill.test")
	kill()
	each(6, names...)
	purge("--everything")
	kill()
	each(7, names...)
}
