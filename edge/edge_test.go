package edge

import (
	"bytes"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/selvage-edge/selvage/edge/request"
	"github.com/selvage-edge/selvage/fault"
	"github.com/selvage-edge/selvage/internal/arena"
)

// decided is DESIGN §6's published order; rows that exist must keep to it.
var decided = strings.Fields("normalize reputation ddos redirect rewrite settings route score custom ratelimit managed bot bulkredirect headers cachesettings worker cache origin")

func TestRowsStandInTheDecidedOrder(t *testing.T) {
	last := -1
	for i := range onRequest {
		at := slices.Index(decided, onRequest[i].name)
		if at <= last {
			t.Errorf("row %s stands at %d, after a row of position %d", onRequest[i].name, at, last)
		}
		last = at
		if onRequest[i].run == nil || onRequest[i].on == nil {
			t.Errorf("row %s is empty: a phase that does not exist is an absent row", onRequest[i].name)
		}
	}
	if len(onRequest) > request.MaxRows {
		t.Errorf("%d rows, at most %d can be timed", len(onRequest), request.MaxRows)
	}
}

func TestCanonicalHost(t *testing.T) {
	var a arena.Arena
	for in, want := range map[string]string{
		"example.com": "example.com", "EXAMPLE.com": "example.com", "Example.Com:8443": "example.com", "example.com.": "example.com",
		"example.com.:80": "example.com", "[2001:db8::1]:443": "[2001:db8::1]", "192.0.2.1:80": "192.0.2.1",
	} {
		got, err := canonicalHost([]byte(in), &a)
		if err != nil || string(got) != want {
			t.Errorf("%q gives %q, %v; want %q", in, got, err, want)
		}
	}
	for _, in := range []string{"", ":80", ".", ".:1", "[2001:db8::1"} {
		if got, err := canonicalHost([]byte(in), &a); !errors.Is(err, errNoHost) {
			t.Errorf("%q gives %q, %v; want no host", in, got, err)
		}
	}
	plain := []byte("www.example.com:80")
	if n := testing.AllocsPerRun(100, func() { _, _ = canonicalHost(plain, &a) }); n != 0 {
		t.Errorf("%v allocations for a host that needs no change", n)
	}
}

func TestStatusSaysWhoseFaultItIs(t *testing.T) {
	for _, c := range []struct {
		side fault.Side
		kind fault.Kind
		want int
	}{
		{fault.Visitor, fault.Malformed, 400}, {fault.Visitor, fault.Forbidden, 403}, {fault.Visitor, fault.NotFound, 421},
		{fault.Visitor, fault.TooLarge, 413}, {fault.Visitor, fault.Timeout, 408}, {fault.Visitor, fault.Other, 400},
		{fault.Origin, fault.Other, 520}, {fault.Origin, fault.Malformed, 520}, {fault.Origin, fault.Closed, 520}, {fault.Origin, fault.Version, 520},
		{fault.Origin, fault.Refused, 521}, {fault.Origin, fault.ConnectTime, 522}, {fault.Origin, fault.Unreachable, 523},
		{fault.Origin, fault.Timeout, 524}, {fault.Origin, fault.Handshake, 525}, {fault.Origin, fault.Certificate, 526},
		{fault.Origin, fault.Resolve, 530}, {fault.Origin, fault.Forbidden, 530}, {fault.Origin, fault.Limit, 503},
		{fault.Edge, fault.Other, 500}, {fault.Edge, fault.Limit, 503}, {fault.Edge, fault.Loop, 508}, {fault.Edge, fault.Draining, 503},
		{fault.Control, fault.Other, 500},
	} {
		if got := statusOf(&fault.Error{Side: c.side, Kind: c.kind}); got != c.want {
			t.Errorf("%s, %s: %d, want %d", c.side, c.kind, got, c.want)
		}
	}
}

func TestConfigNamesWhatIsWrong(t *testing.T) {
	good := Config{State: "s", Colo: "FRA", Parents: []string{"127.0.0.1:1"}, HTTP: ":0", HTTPS: ":0", DNS: ":0", Metrics: ":0"}
	c := good
	if err := c.Check(); err != nil {
		t.Fatal(err)
	}
	if c.CacheBytes != DefaultCacheBytes || c.AccessLog != "stderr" || c.MinRate != 240 || c.DrainTimeout != 30*time.Second || c.Advertise[0] != netip.MustParseAddr("127.0.0.1") {
		t.Errorf("defaults: %+v", c)
	}
	for field, spoil := range map[string]func(*Config){
		"state": func(c *Config) { c.State = "" }, "colo": func(c *Config) { c.Colo = "fra" }, "parent": func(c *Config) { c.Parents = nil },
		"http:": func(c *Config) { c.HTTP = "80" }, "dns": func(c *Config) { c.DNS = "nowhere" }, "peer": func(c *Config) { c.Peer = "x" },
		"relay:": func(c *Config) { c.Relay = "x" }, "relay_keep_entries": func(c *Config) { c.RelayKeepEntries = -1 },
		"relay_keep_time": func(c *Config) { c.RelayKeepTime = time.Second }, "relay_keep_bytes": func(c *Config) { c.RelayKeepBytes = 10 },
		"cache_bytes": func(c *Config) { c.CacheBytes = 5 }, "access_log_max_bytes": func(c *Config) { c.AccessLogMaxBytes = 10 },
		"max_connections": func(c *Config) { c.MaxConnections = -1 }, "drain_timeout": func(c *Config) { c.DrainTimeout = time.Hour },
		"min_rate": func(c *Config) { c.MinRate = 1<<20 + 1 }, "alt_port": func(c *Config) { c.AltPort = 65536 },
	} {
		c := good
		spoil(&c)
		if err := c.Check(); err == nil || !strings.HasPrefix(err.Error(), field) {
			t.Errorf("%s: %v, want an error that begins with the field", field, err)
		}
	}
}

// A host comes out canonical or not at all, and once canonical it stays.
func FuzzCanonicalHost(f *testing.F) {
	for _, seed := range []string{"Example.COM:8443", "[::1]:80", "a..", ":", "192.0.2.1", "x.\x00"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, authority []byte) {
		var a arena.Arena
		sent := string(authority)
		host, err := canonicalHost(authority, &a)
		if string(authority) != sent {
			t.Fatal("the visitor's bytes were written to")
		}
		if err != nil {
			return
		}
		if len(host) == 0 || bytes.ContainsFunc(host, func(r rune) bool { return 'A' <= r && r <= 'Z' }) && host[0] != '[' {
			t.Errorf("%q gives %q", sent, host)
		}
		isAddress(host) // must not panic
	})
}
