package script

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// TestImagesAreKeptByWhatBrowsersShow sets which types the origin has, and wants one
// object for browsers that accept the same of them.
func TestImagesAreKeptByWhatBrowsersShow(t *testing.T) {
	origin, asked := page(t, func(w http.ResponseWriter, r *http.Request) {
		kind := "image/jpeg"
		if strings.Contains(r.Header.Get("Accept"), "image/webp") {
			kind = "image/webp"
		}
		w.Header().Set("Cache-Control", "max-age=86400")
		w.Header().Set("Vary", "Accept")
		w.Header().Set("Content-Type", kind)
		io.WriteString(w, kind)
	})
	n := dev(t, t.TempDir(), "--edges", "1", "--no-demo")
	n.onboard(t, "img.test", origin)
	path := "/zones/" + n.zoneID(t, "img.test") + "/cache/variants"
	_, seq := n.call(t, "PATCH", path, map[string]any{"value": map[string]any{"jpg": []string{"image/webp"}}})
	n.live(t, seq)
	want := func(accept, kind, cache string, requests int64) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), "GET", "http://img.test/a.jpg", nil)
		if err != nil {
			t.Fatal(err)
		}
		if accept != "" {
			req.Header.Set("Accept", accept)
		}
		res, err := visitor(t, n.Edges[0].HTTP, "").Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if got := res.Header.Get("CF-Cache-Status"); err != nil || string(body) != kind || got != cache || asked.Load() != requests {
			t.Errorf("%q: %s (%s, %v) after %d requests to the origin, want %s (%s) after %d", accept, body, got, err, asked.Load(), kind, cache, requests)
		}
	}
	const chrome, firefox = "image/avif,image/webp,image/apng,image/*,*/*;q=0.8", "image/webp,*/*"
	want(chrome, "image/webp", "MISS", 1)
	want(firefox, "image/webp", "HIT", 1)
	want("image/png,*/*;q=0.5", "image/jpeg", "MISS", 2)
	want("", "image/jpeg", "HIT", 2)
	// Without the setting Accept is a field like others.
	_, seq = n.call(t, "DELETE", path, nil)
	n.live(t, seq)
	want(chrome, "image/webp", "MISS", 3)
	want(firefox, "image/webp", "MISS", 4)
	want(firefox, "image/webp", "HIT", 4)
}
