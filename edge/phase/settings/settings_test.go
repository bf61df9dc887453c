package settings

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/selvage-edge/selvage/edge/request"
	"github.com/selvage-edge/selvage/internal/arena"
	"github.com/selvage-edge/selvage/wire/msg"
	"github.com/selvage-edge/selvage/zone"
)

func ask(scheme msg.Scheme, method msg.Method, target string) *request.Request {
	return &request.Request{
		In:    &msg.Request{Scheme: scheme, Method: method, Target: []byte(target)},
		Out:   &msg.Response{},
		Arena: &arena.Arena{},
		Host:  []byte("www.example.com"),
	}
}

func TestAlwaysUseHTTPS(t *testing.T) {
	on, err := Compile(&zone.Spec{Settings: zone.Settings{"always_use_https": json.RawMessage(`"on"`)}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name     string
		plan     *Plan
		port     uint16
		r        *request.Request
		status   int
		location string
	}{
		{"get", on, 443, ask(msg.HTTP, msg.GET, "/a?b=1"), 301, "https://www.example.com/a?b=1"},
		{"post keeps its method", on, 443, ask(msg.HTTP, msg.POST, "/"), 308, "https://www.example.com/"},
		{"other port", on, 8443, ask(msg.HTTP, msg.HEAD, "/"), 301, "https://www.example.com:8443/"},
		{"asterisk", on, 443, ask(msg.HTTP, msg.OPTIONS, "*"), 308, "https://www.example.com/"},
		{"https passes", on, 443, ask(msg.HTTPS, msg.GET, "/"), 0, ""},
		{"off passes", nil, 443, ask(msg.HTTP, msg.GET, "/"), 0, ""},
	} {
		verdict, err := New(c.port).Run(c.plan, c.r)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if answered := verdict == request.Respond; answered != (c.status != 0) {
			t.Errorf("%s: verdict %v", c.name, verdict)
		}
		if c.r.Out.Status != c.status || string(c.r.Out.Fields.Get(msg.Location)) != c.location {
			t.Errorf("%s: %d %q, want %d %q", c.name, c.r.Out.Status, c.r.Out.Fields.Get(msg.Location), c.status, c.location)
		}
	}
}

func TestDefaultIsOff(t *testing.T) {
	if p, err := Compile(&zone.Spec{}); p != nil || err != nil {
		t.Errorf("plan %v, error %v; want the row off", p, err)
	}
}

func TestCompileNamesTheSetting(t *testing.T) {
	for name, value := range map[string]string{"always_use_https": `"maybe"`, "browser_cache_ttl": `-1`, "min_tls_version": `"1.0"`, "no_such": `1`} {
		_, err := Compile(&zone.Spec{Settings: zone.Settings{name: json.RawMessage(value)}})
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s = %s: error %v, want one that names it", name, value, err)
		}
	}
}

func BenchmarkRun(b *testing.B) {
	p, e, r := &Plan{alwaysHTTPS: true}, New(443), ask(msg.HTTP, msg.GET, "/index.html")
	b.ReportAllocs()
	for b.Loop() {
		r.Out.Fields.Reset()
		r.Arena.Reset()
		if _, err := e.Run(p, r); err != nil {
			b.Fatal(err)
		}
	}
}

// The redirect stays on the host that was asked for, whatever the target is.
func FuzzRun(f *testing.F) {
	f.Add("/a?b=1")
	f.Add("//elsewhere.test/")
	f.Add("http://elsewhere.test/")
	f.Fuzz(func(t *testing.T, target string) {
		r := ask(msg.HTTP, msg.GET, target)
		if _, err := New(8443).Run(&Plan{alwaysHTTPS: true}, r); err != nil {
			t.Fatal(err)
		}
		if to := string(r.Out.Fields.Get(msg.Location)); !strings.HasPrefix(to, "https://www.example.com:8443/") {
			t.Errorf("%q is sent to %q", target, to)
		}
	})
}
