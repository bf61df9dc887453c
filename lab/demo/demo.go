// Package demo is a small real website, the one behind demo.test: pages, style,
// script and images, with the headers that a cache lives on (ETag,
// Last-Modified, Cache-Control), one page that must not be stored and one that
// may be for five seconds.
package demo

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"sync/atomic"
	"time"
)

//go:embed site
var site embed.FS

// edited is the Last-Modified of every page: embedded files carry no time.
var edited = time.Date(2026, time.November, 2, 9, 0, 0, 0, time.UTC)

// file is one page or asset, ready to be served.
type file struct {
	body  []byte
	etag  string
	kind  string
	cache string
}

// Cache-Control by path, then by extension.
var (
	cacheOf   = map[string]string{"/news.html": "public, max-age=5", "/today.html": "no-store"}
	cacheKind = map[string]string{".html": "public, max-age=300", ".css": "public, max-age=86400", ".js": "public, max-age=86400", ".svg": "public, max-age=86400", ".png": "public, max-age=86400"}
	kinds     = map[string]string{".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml", ".png": "image/png"}
)

type server struct {
	files  map[string]*file // by path
	today  *template.Template
	visits atomic.Int64 // of today.html
	now    func() time.Time
}

// Handler serves the site. It panics when the embedded files are not what this
// package was built with, which a test proves they are.
func Handler() http.Handler { return newServer(time.Now) }

func newServer(now func() time.Time) *server {
	s := &server{files: map[string]*file{}, now: now}
	err := fs.WalkDir(site, "site", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		body, err := site.ReadFile(name)
		if err != nil {
			return err
		}
		return s.add(strings.TrimPrefix(name, "site"), body)
	})
	if err != nil {
		panic(fmt.Sprintf("demo site: %v", err))
	}
	return s
}

func (s *server) add(name string, body []byte) error {
	ext := path.Ext(name)
	f := &file{body: body, kind: kinds[ext], cache: cacheKind[ext]}
	if f.kind == "" {
		return fmt.Errorf("%s: no content type for %q", name, ext)
	}
	if c, ok := cacheOf[name]; ok {
		f.cache = c
	}
	sum := sha256.Sum256(body)
	f.etag = `"` + hex.EncodeToString(sum[:8]) + `"`
	s.files[name] = f
	if folder, ok := strings.CutSuffix(name, "index.html"); ok {
		s.files[folder] = f
	}
	if name != "/today.html" {
		return nil
	}
	var err error
	s.today, err = template.New("today").Parse(string(body))
	return err
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Server", "selvage-mill")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		h.Set("Allow", "GET, HEAD")
		http.Error(w, "only GET and HEAD", http.StatusMethodNotAllowed)
		return
	}
	f := s.files[r.URL.Path]
	switch {
	case f == nil:
		missing := s.files["/404.html"]
		h.Set("Content-Type", missing.kind)
		h.Set("Cache-Control", "public, max-age=10")
		w.WriteHeader(http.StatusNotFound)
		if r.Method == http.MethodGet {
			_, _ = w.Write(missing.body) // the visitor may be gone
		}
		return
	case f == s.files["/today.html"]:
		s.serveToday(w, f)
		return
	}
	h.Set("Content-Type", f.kind)
	h.Set("Cache-Control", f.cache)
	h.Set("ETag", f.etag)
	http.ServeContent(w, r, "", edited, bytes.NewReader(f.body))
}

// serveToday writes a page that is another one each time.
func (s *server) serveToday(w http.ResponseWriter, f *file) {
	count := s.visits.Add(1)
	cloths := [...]string{"linen", "twill", "denim", "wool"}
	var b bytes.Buffer
	err := s.today.Execute(&b, map[string]any{
		"Time": s.now().UTC().Format(time.RFC3339Nano), "Count": count,
		"Loom": count%19 + 1, "Cloth": cloths[count%int64(len(cloths))], "Yards": 40 + count%300,
	})
	if err != nil {
		http.Error(w, "the page could not be written", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", f.kind)
	w.Header().Set("Cache-Control", f.cache)
	_, _ = w.Write(b.Bytes()) // the visitor may be gone
}
