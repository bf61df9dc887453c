package demo

import (
	"net/http"
	"net/http/httptest"
	"path"
	"regexp"
	"strings"
	"testing"
	"time"
)

func get(t *testing.T, s http.Handler, target string, head ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, target, nil)
	for i := 0; i < len(head); i += 2 {
		r.Header.Set(head[i], head[i+1])
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

var reference = regexp.MustCompile(`(?:href|src)="([^"]+)"`)

// TestEveryLinkLeadsSomewhere crawls the site as a visitor would.
func TestEveryLinkLeadsSomewhere(t *testing.T) {
	s := Handler()
	seen := map[string]bool{"/": true}
	pages := 0
	for queue := []string{"/"}; len(queue) > 0; queue = queue[1:] {
		w := get(t, s, queue[0])
		if w.Code != http.StatusOK || w.Body.Len() == 0 {
			t.Errorf("%s: status %d, %d bytes", queue[0], w.Code, w.Body.Len())
		}
		if !strings.HasPrefix(w.Header().Get("Content-Type"), "text/html") {
			continue
		}
		pages++
		for _, m := range reference.FindAllStringSubmatch(w.Body.String(), -1) {
			target := m[1]
			if !strings.HasPrefix(target, "/") {
				t.Errorf("%s links to %s: only paths from the root are expected", queue[0], target)
				continue
			}
			if !seen[target] {
				seen[target] = true
				queue = append(queue, target)
			}
		}
	}
	if pages < 12 {
		t.Errorf("%d pages are linked, want a dozen", pages)
	}
	for name := range newServer(time.Now).files {
		if folder := path.Dir(name) + "/"; !seen[name] && !strings.HasSuffix(name, "/index.html") && name != "/404.html" && folder != name {
			t.Errorf("%s is linked from nowhere", name)
		}
	}
}

func TestHeadersForCaches(t *testing.T) {
	s := Handler()
	for target, want := range map[string]string{
		"/": "public, max-age=300", "/news.html": "public, max-age=5", "/today.html": "no-store",
		"/style.css": "public, max-age=86400", "/img/denim.png": "public, max-age=86400",
	} {
		w := get(t, s, target)
		if got := w.Header().Get("Cache-Control"); got != want {
			t.Errorf("%s: Cache-Control %q, want %q", target, got, want)
		}
		etag, modified := w.Header().Get("ETag"), w.Header().Get("Last-Modified")
		if want == "no-store" {
			if etag != "" || modified != "" {
				t.Errorf("%s: has ETag %q, Last-Modified %q", target, etag, modified)
			}
			continue
		}
		if w := get(t, s, target, "If-None-Match", etag); etag == "" || w.Code != http.StatusNotModified {
			t.Errorf("%s: If-None-Match %s answered %d", target, etag, w.Code)
		}
		if w := get(t, s, target, "If-Modified-Since", modified); modified == "" || w.Code != http.StatusNotModified {
			t.Errorf("%s: If-Modified-Since %s answered %d", target, modified, w.Code)
		}
	}
}

func TestTodayIsAnotherPageEachTime(t *testing.T) {
	now := time.Date(2026, 11, 22, 6, 0, 0, 0, time.UTC)
	s := newServer(func() time.Time { return now })
	first, second := get(t, s, "/today.html").Body.String(), get(t, s, "/today.html").Body.String()
	if first == second || !strings.Contains(first, "2026-11-22T06:00:00Z") || !strings.Contains(second, "<b>2</b>") {
		t.Errorf("first:\n%s\nsecond:\n%s", first, second)
	}
}

func TestWhatIsNotThere(t *testing.T) {
	s := Handler()
	if w := get(t, s, "/nothing"); w.Code != http.StatusNotFound || !strings.Contains(w.Body.String(), "No such thread") {
		t.Errorf("status %d, body %s", w.Code, w.Body)
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", nil))
	if w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") != "GET, HEAD" {
		t.Errorf("POST: status %d, Allow %q", w.Code, w.Header().Get("Allow"))
	}
}
