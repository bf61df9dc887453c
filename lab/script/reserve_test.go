package script

import (
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestReserveOutlivesMemory wants an object of a zone with cache_reserve back
// without the origin, from an edge that has lost all but its reserve, and never
// after its purge.
func TestReserveOutlivesMemory(t *testing.T) {
	origin, asked := page(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=86400")
		io.WriteString(w, "kept far away")
	})
	state := t.TempDir()
	alone := []string{"--edges", "1", "--no-demo", "--cache-disk-bytes", "0"}
	n := dev(t, state, alone...)
	n.cli(t, "zone", "add", "far.test", "--origin", origin.URL)
	_, seq := n.call(t, "PATCH", "/zones/"+n.zoneID(t, "far.test")+"/cache/cache_reserve", map[string]any{"value": "on"})
	n.live(t, seq)
	want := func(requests int64) {
		t.Helper()
		got := get(t, visitor(t, n.Edges[0].HTTP, ""), "http://far.test/a")
		if got.Status != 200 || got.Body != "kept far away" || asked.Load() != requests {
			t.Fatalf("%d %q after %d requests to the origin, want %d", got.Status, got.Body, asked.Load(), requests)
		}
	}
	want(1)
	restart := func() {
		t.Helper()
		if err := n.stop(t); err != nil { // what is queued for the reserve is written
			t.Fatalf("it ended with %v", err)
		}
		n = dev(t, state, alone...)
	}
	restart()
	want(1)
	n.cli(t, "purge", "far.test", "--url", "http://far.test/a")
	restart()
	want(2)
}

// TestDamagedReserve wants a whole answer where the reserve's object is damaged
// in the middle: the rest comes from the origin.
func TestDamagedReserve(t *testing.T) {
	content := strings.Repeat("0123456789abcdef", 20<<10)
	origin, _ := page(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=86400")
		w.Header().Set("ETag", `"one"`)
		http.ServeContent(w, r, "a.txt", time.Time{}, strings.NewReader(content))
	})
	state := t.TempDir()
	alone := []string{"--edges", "1", "--no-demo", "--cache-disk-bytes", "0"}
	n := dev(t, state, alone...)
	n.cli(t, "zone", "add", "far.test", "--origin", origin.URL)
	n.cli(t, "settings", "set", "far.test", "cache_reserve", "on")
	if got := get(t, visitor(t, n.Edges[0].HTTP, ""), "http://far.test/a"); got.Body != content {
		t.Fatalf("%d, %d bytes", got.Status, len(got.Body))
	}
	if err := n.stop(t); err != nil {
		t.Fatal(err)
	}
	damaged := 0
	err := filepath.WalkDir(state, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() || !strings.Contains(path, "/reserve/") {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		damaged++
		b[len(b)-1] ^= 1
		return os.WriteFile(path, b, 0o600)
	})
	if err != nil || damaged != 1 {
		t.Fatalf("%d objects in the reserve, %v", damaged, err)
	}
	n = dev(t, state, alone...)
	if got := get(t, visitor(t, n.Edges[0].HTTP, ""), "http://far.test/a"); got.Status != 200 || got.Body != content {
		t.Fatalf("%d, %d bytes, want all %d as they were", got.Status, len(got.Body), len(content))
	}
}

// TestReserveIsCleared clears the reserve by the v4 API and wants the origin asked
// for what was in it; memory and disk are not there to help.
func TestReserveIsCleared(t *testing.T) {
	origin, asked := page(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=86400")
		io.WriteString(w, "kept far away")
	})
	state := t.TempDir()
	alone := []string{"--edges", "1", "--no-demo", "--cache-disk-bytes", "0"}
	n := dev(t, state, alone...)
	n.cli(t, "zone", "add", "far.test", "--origin", origin.URL)
	path := "/zones/" + n.zoneID(t, "far.test") + "/cache/cache_reserve"
	set := func(value string) {
		t.Helper()
		_, seq := n.call(t, "PATCH", path, map[string]any{"value": value})
		n.live(t, seq)
	}
	want := func(requests int64) {
		t.Helper()
		if err := n.stop(t); err != nil {
			t.Fatalf("it ended with %v", err)
		}
		n = dev(t, state, alone...)
		got := get(t, visitor(t, n.Edges[0].HTTP, ""), "http://far.test/a")
		if got.Status != 200 || got.Body != "kept far away" || asked.Load() != requests {
			t.Fatalf("%d %q after %d requests to the origin, want %d", got.Status, got.Body, asked.Load(), requests)
		}
	}
	set("on")
	want(1)
	want(1)
	set("off")
	n.call(t, "POST", path+"_clear", map[string]any{})
	eventually(t, 20*time.Second, "the clearing to be completed", func() error {
		result, _ := n.call(t, "GET", path+"_clear", nil)
		if !strings.Contains(string(result), `"Completed"`) {
			return errors.New(string(result))
		}
		return nil
	})
	set("on")
	want(2)
	want(2)
}
