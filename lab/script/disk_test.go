package script

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestDiskOutlivesTheEdge fills more than memory holds, kills the edge, and
// wants the answers from its disk; what was purged never comes back.
func TestDiskOutlivesTheEdge(t *testing.T) {
	const objects, size = 150, 30 << 10
	origin, asked := page(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=3600")
		w.Header().Set("Cache-Tag", "all,odd"+r.URL.Path[len(r.URL.Path)-1:])
		io.WriteString(w, bodyOf(r.URL.Path, size))
	})
	a := startApart(t)
	a.edge.stop(t)
	log := filepath.Join(a.dir, "access.log")
	a.edgeArg = append(a.edgeArg, "--cache-bytes", "1MiB", "--cache-disk-bytes", "64MiB", "--access-log", log)
	a.startEdge(t)
	a.network().cli(t, "zone", "add", "disk.test", "--origin", origin.URL)
	all := func() {
		t.Helper()
		v := visitor(t, a.http, "")
		for i := range objects {
			path := fmt.Sprintf("/%d", i)
			if got := get(t, v, "http://disk.test"+path); got.Status != 200 || got.Body != bodyOf(path, size) {
				t.Fatalf("%s: %d, %d bytes", path, got.Status, len(got.Body))
			}
		}
	}
	all()
	all() // what was evicted before it was asked for again is written now
	all()
	a.edge.kill(t)
	if err := os.Truncate(log, 0); err != nil {
		t.Fatal(err)
	}
	began := asked.Load()
	a.startEdge(t)
	all()
	if n := asked.Load() - began; n > objects/10 {
		t.Errorf("after SIGKILL the origin was asked for %d of %d objects", n, objects)
	}
	eventually(t, 10*time.Second, "tiers in the access log", func() error {
		tiers := map[string]int{}
		text, err := os.ReadFile(log)
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(text)) {
			var l struct {
				Tier string `json:"tier"`
			}
			if json.Unmarshal([]byte(line), &l) == nil {
				tiers[l.Tier]++
			}
		}
		if tiers["ssd"] < objects*9/10 {
			return fmt.Errorf("answered by %v", tiers)
		}
		return nil
	})
	// Purged by URL and by tag, acknowledged, killed: never again.
	a.network().cli(t, "purge", "disk.test", "--url", "http://disk.test/0")
	a.network().cli(t, "purge", "disk.test", "--tag", "odd7")
	a.edge.kill(t)
	a.startEdge(t)
	v := visitor(t, a.http, "")
	for _, path := range []string{"/0", "/7", "/147"} {
		before := asked.Load()
		got := get(t, v, "http://disk.test"+path)
		if got.Header.Get("CF-Cache-Status") != "MISS" || asked.Load() == before {
			t.Errorf("%s is served after its purge: %s", path, got.Header.Get("CF-Cache-Status"))
		}
	}
	before := asked.Load()
	if got := get(t, v, "http://disk.test/8"); got.Header.Get("CF-Cache-Status") != "HIT" || asked.Load() != before {
		t.Errorf("/8 was purged with others: %s", got.Header.Get("CF-Cache-Status"))
	}
	// A drain leaves what is hot.
	if err := a.edge.stop(t); err != nil {
		t.Errorf("the edge ended with %v", err)
	}
	a.startEdge(t)
	if got := get(t, visitor(t, a.http, ""), "http://disk.test/0"); got.Body != bodyOf("/0", size) {
		t.Error("another body after a drain")
	}
}

// bodyOf is a body that tells its path.
func bodyOf(path string, size int) string {
	line := path + " is what this is, and it goes on. "
	return strings.Repeat(line, size/len(line)+1)[:size]
}
