package script

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// keeper is an origin whose answers say how often they were fetched.
type keeper struct {
	*httptest.Server
	mu      sync.Mutex
	fetched map[string]int
	device  string // CF-Device-Type of the last request
}

func newKeeper(t *testing.T) *keeper {
	k := &keeper{fetched: map[string]int{}}
	k.Server = httptest.NewServer(http.HandlerFunc(k.serve))
	t.Cleanup(k.Close)
	return k
}

func (k *keeper) serve(w http.ResponseWriter, r *http.Request) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.device = r.Header.Get("CF-Device-Type")
	k.fetched[r.URL.RequestURI()]++
	h := w.Header()
	h.Set("Cache-Control", "max-age=600")
	switch {
	case strings.HasPrefix(r.URL.Path, "/private/"):
		h.Set("Cache-Control", "private, no-store")
	case strings.HasPrefix(r.URL.Path, "/silent/"):
		h.Del("Cache-Control")
		h.Set("Content-Type", "image/png") // else it is a page under a picture's name
	case strings.HasPrefix(r.URL.Path, "/slow/"):
		h.Set("Cache-Control", "max-age=600, stale-while-revalidate=600")
	}
	h.Set("Cache-Tag", "all,section"+strings.ReplaceAll(r.URL.Path, "/", "-"))
	fmt.Fprintf(w, "%s fetch %d", r.URL.RequestURI(), k.fetched[r.URL.RequestURI()])
}

// configured is a network with one edge and a zone, and how to ask it.
type configured struct {
	*network
	t       *testing.T
	k       *keeper
	visitor *http.Client
	id      string
}

func configure(t *testing.T) *configured {
	k := newKeeper(t)
	n := dev(t, t.TempDir(), "--edges", "1")
	n.onboard(t, "cache.test", k.Server)
	var zones []struct{ ID, Name string }
	result, _ := n.call(t, "GET", "/zones?name=cache.test", nil)
	unmarshal(t, result, &zones)
	return &configured{network: n, t: t, k: k, visitor: visitor(t, n.Edges[0].HTTP, ""), id: zones[0].ID}
}

// is asks for a path with header lines and compares CF-Cache-Status.
func (c *configured) is(want, path string, headers ...string) string {
	c.t.Helper()
	req, err := http.NewRequestWithContext(c.t.Context(), "GET", "http://cache.test"+path, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
	}
	res, err := c.visitor.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer res.Body.Close()
	var b strings.Builder
	if err := res.Write(&b); err != nil {
		c.t.Fatal(err)
	}
	if got := res.Header.Get("CF-Cache-Status"); got != want {
		c.t.Errorf("%s %q is %s, want %s", path, headers, got, want)
	}
	return b.String()
}

func (c *configured) rules(rules string) {
	c.t.Helper()
	file := filepath.Join(c.t.TempDir(), "rules.json")
	if err := os.WriteFile(file, []byte(`{"rules":[`+rules+`]}`), 0o600); err != nil {
		c.t.Fatal(err)
	}
	c.cli(c.t, "zone", "cache-rules", "cache.test", file)
}

func (c *configured) set(name, value string) {
	c.t.Helper()
	c.cli(c.t, "settings", "set", "cache.test", name, value)
}

func (c *configured) purge(args ...string) {
	c.t.Helper()
	c.cli(c.t, append([]string{"purge", "cache.test"}, args...)...)
}

func cacheRule(expression, parameters string) string {
	text, _ := json.Marshal(expression) // a text: cannot fail
	return fmt.Sprintf(`{"expression":%s,"action":"set_cache_settings","action_parameters":{%s}}`, text, parameters)
}

// TestCacheAsConfigured drives rules, keys, levels and purges through the
// command line and looks at what a visitor gets. A command returns when the edge
// has applied the change, so nothing here waits.
func TestCacheAsConfigured(t *testing.T) {
	c := configure(t)
	t.Run("rules", c.testRules)
	t.Run("keys", c.testKeys)
	t.Run("levels", c.testLevels)
	t.Run("purge", c.testPurge)
	t.Run("soft purge", c.testSoftPurge)
	t.Run("normalisation", c.testNormalisation)
}

func (c *configured) testRules(t *testing.T) {
	c.t = t
	c.is("MISS", "/rules/a")
	c.is("BYPASS", "/private/a")
	c.rules(cacheRule(`starts_with(http.request.uri.path, "/rules/")`, `"cache":false`) + "," +
		cacheRule(`starts_with(http.request.uri.path, "/private/")`, `"cache":true,"edge_ttl":{"mode":"override_origin","default":600},"browser_ttl":{"mode":"override_origin","default":7}`))
	c.is("BYPASS", "/rules/a")
	c.is("MISS", "/private/a") // passed: its answers were not for sharing until now
	c.is("MISS", "/private/a")
	if text := c.is("HIT", "/private/a"); !strings.Contains(text, "Cache-Control: max-age=7\r\n") {
		t.Errorf("the browser is told\n%s", text)
	}
	out, err := c.tryCLI("zone", "cache-rules", "cache.test", "/dev/null")
	if err == nil {
		t.Errorf("an empty file is taken for rules: %s", out)
	}
	if out := c.cli(t, "zone", "cache-rules", "cache.test"); !strings.Contains(out, `"default": 7`) {
		t.Errorf("the rules are shown as\n%s", out)
	}
	c.rules("")
	c.is("HIT", "/rules/a")
	c.is("HIT", "/private/a") // was stored by a rule; gone when it is purged
	c.purge("--prefix", "cache.test/private")
	c.is("BYPASS", "/private/a")
}

func (c *configured) testKeys(t *testing.T) {
	c.t = t
	c.rules(cacheRule(`http.request.uri.path eq "/keys"`, `"cache":true,"cache_key":{"custom_key":{"query_string":{"include":["id"]},"header":{"include":["X-Variant"]},"cookie":{"include":["currency"]},"user":{"device_type":true,"lang":true}}}`))
	const phone = "User-Agent: Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X)"
	c.is("MISS", "/keys?id=1&utm=a")
	c.is("HIT", "/keys?utm=b&id=1")
	c.is("MISS", "/keys?id=2")
	c.is("MISS", "/keys?id=1", "X-Variant: b")
	c.is("MISS", "/keys?id=1", "Cookie: session=1; currency=EUR")
	c.is("HIT", "/keys?id=1", "Cookie: currency=EUR; session=2")
	c.is("MISS", "/keys?id=1", "Accept-Language: de-DE, en;q=0.5")
	c.is("HIT", "/keys?id=1", "Accept-Language: DE-de;q=0.9")
	c.is("MISS", "/keys?id=1", phone)
	c.k.mu.Lock()
	if c.k.device != "mobile" {
		t.Errorf("the origin was told CF-Device-Type %q", c.k.device)
	}
	c.k.mu.Unlock()
	c.is("HIT", "/keys?id=1&x=y", phone)
	// A purge of the URL finds them under every key.
	c.purge("--url", "http://cache.test/keys?id=1&other=param")
	c.is("MISS", "/keys?id=1", phone)
	c.is("MISS", "/keys?id=1&utm=a")
	c.is("MISS", "/keys?id=1", "Cookie: currency=EUR")
	c.rules("")
}

func (c *configured) testLevels(t *testing.T) {
	c.t = t
	c.is("MISS", "/levels/a.css?1")
	c.is("MISS", "/levels/a.css?2")
	c.set("cache_level", "simplified")
	c.is("MISS", "/levels/a.css?3")
	c.is("HIT", "/levels/a.css?4")
	c.set("cache_level", "basic")
	c.is("DYNAMIC", "/levels/a.css?3")
	c.is("MISS", "/levels/b")
	c.set("cache_eligibility", "static")
	c.is("DYNAMIC", "/levels/b")
	c.is("MISS", "/silent/b.png")
	c.is("HIT", "/silent/b.png")
	c.set("cache_eligibility", "rfc")
	c.set("cache_level", "aggressive")
	c.is("HIT", "/levels/b")
	c.is("DYNAMIC", "/silent/c.png")
}

func (c *configured) testPurge(t *testing.T) {
	c.t = t
	fill := func() {
		t.Helper()
		c.purge("--everything")
		for _, path := range []string{"/p/one", "/p/two", "/pq"} {
			c.is("MISS", path)
			c.is("HIT", path)
		}
	}
	fill()
	c.purge("--tag", "SECTION-p-one")
	c.is("MISS", "/p/one")
	c.is("HIT", "/p/two")
	fill()
	c.purge("--prefix", "cache.test/p")
	c.is("MISS", "/p/one")
	c.is("MISS", "/p/two")
	c.is("HIT", "/pq")
	fill()
	c.purge("--host", "www.cache.test")
	c.is("HIT", "/p/one")
	c.purge("--host", "cache.test")
	c.is("MISS", "/p/one")
	c.is("MISS", "/pq")
	fill()
	c.purge("--tag", "all", "--url", "http://cache.test/none")
	c.is("MISS", "/p/two")
}

func (c *configured) testSoftPurge(t *testing.T) {
	c.t = t
	c.is("MISS", "/slow/a")
	c.is("MISS", "/soft/a")
	c.is("HIT", "/soft/a")
	c.purge("--tag", "all", "--soft")
	c.is("UPDATING", "/slow/a") // stale-while-revalidate applies
	c.is("EXPIRED", "/soft/a")
	eventually(t, 10*time.Second, "the refresh behind", func() error {
		if text := c.body("/slow/a"); !strings.Contains(text, "fetch 2") {
			return fmt.Errorf("%s", text)
		}
		return nil
	})
}

// body is the page, whatever its status.
func (c *configured) body(path string) string {
	c.t.Helper()
	return get(c.t, c.visitor, "http://cache.test"+path).Body
}

func (c *configured) testNormalisation(t *testing.T) {
	c.t = t
	c.rules(cacheRule(`starts_with(http.request.uri.path, "/norm/")`, `"cache":false`))
	c.is("BYPASS", "/norm/a")
	c.is("BYPASS", "//x/../%6eorm/a")
	c.set("url_normalization_scope", "none")
	c.is("MISS", "//x/../%6eorm/a")
	c.rules("")
	c.set("url_normalization_scope", "both")
	c.is("MISS", "/same/a")
	c.is("HIT", "//same/./%61")
}
