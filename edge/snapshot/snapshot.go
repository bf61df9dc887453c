// Package snapshot turns what a tenant asked for into what an edge serves.
//
// Compile is pure: no clock, disk, network or goroutine; sizes are checked
// before work; errors name the field. Nothing is written to a Zone after
// Compile returns. The control plane runs the same function before it accepts
// a change, so what is accepted is what an edge can serve.
package snapshot

import (
	"encoding/json"
	"fmt"
	"hash/maphash"

	"github.com/selvage-edge/selvage/edge/dns"
	"github.com/selvage-edge/selvage/edge/phase/cache"
	"github.com/selvage-edge/selvage/edge/phase/normalize"
	"github.com/selvage-edge/selvage/edge/phase/origin"
	"github.com/selvage-edge/selvage/edge/phase/settings"
	"github.com/selvage-edge/selvage/edge/tlsterm"
	"github.com/selvage-edge/selvage/zone"
)

// Zone is one tenant compiled: immutable, shared by all requests that hold it.
type Zone struct {
	ID   string
	Name string
	Seq  uint64 // of the newest entry that changed it

	Normalize *normalize.Plan
	Settings  *settings.Plan
	Origin    *origin.Plan
	Cache     *cache.Plan
	Topology  zone.Topology // between this zone's visitors and its origin

	DNS *dns.Plan // nil when Front made it
	TLS *tlsterm.Plan

	parts parts
}

// parts holds the hash of what each part was compiled from, so that the next
// snapshot reuses the parts that did not change.
type parts struct{ origin, cache, tls uint64 }

// seed is per process: hashes are compared within one only.
var seed = maphash.MakeSeed()

// Compile judges a zone and compiles it whole.
func Compile(spec *zone.Spec, shared *zone.Shared) (*Zone, error) {
	return Recompile(nil, spec, shared)
}

// Recompile is Compile that takes over from prev (which may be nil) the parts
// whose input is the same.
func Recompile(prev *Zone, spec *zone.Spec, shared *zone.Shared) (*Zone, error) {
	z, err := Front(prev, spec)
	if err != nil {
		return nil, err
	}
	if z.DNS, err = Records(spec, shared); err != nil {
		return nil, err
	}
	return z, nil
}

// Front is Recompile without DNS: all that a request or a handshake needs.
func Front(prev *Zone, spec *zone.Spec) (*Zone, error) {
	if err := checkSizes(spec); err != nil {
		return nil, err
	}
	if prev == nil {
		prev = &Zone{}
	}
	spec = unpaused(spec)
	z := &Zone{ID: spec.ID, Name: spec.Name, Seq: spec.Seq, Topology: spec.Settings.Topology(), parts: hashParts(spec)}
	var err error
	if z.Normalize, err = normalize.Compile(spec); err != nil {
		return nil, err
	}
	if z.Settings, err = settings.Compile(spec); err != nil {
		return nil, err
	}
	if z.Origin, err = reuse(prev.Origin, same(prev.parts.origin, z.parts.origin), func() (*origin.Plan, error) { return origin.Compile(spec) }); err != nil {
		return nil, err
	}
	if z.Cache, err = reuse(prev.Cache, same(prev.parts.cache, z.parts.cache), func() (*cache.Plan, error) { return cache.Compile(spec) }); err != nil {
		return nil, err
	}
	if z.TLS, err = reuse(prev.TLS, same(prev.parts.tls, z.parts.tls), func() (*tlsterm.Plan, error) { return tlsterm.Compile(spec) }); err != nil {
		return nil, err
	}
	return z, nil
}

// Records compiles what DNS answers with, for which a zone's meta and its records
// are enough.
func Records(spec *zone.Spec, shared *zone.Shared) (*dns.Plan, error) {
	return dns.Compile(unpaused(spec), shared)
}

func same(a, b uint64) bool { return a == b && a != 0 }

func reuse[P any](prev *P, same bool, compile func() (*P, error)) (*P, error) {
	if same && prev != nil {
		return prev, nil
	}
	return compile()
}

func checkSizes(spec *zone.Spec) error {
	if len(spec.Records) > zone.MaxRecords {
		return fmt.Errorf("dns_records: at most %d are allowed, got %d", zone.MaxRecords, len(spec.Records))
	}
	if len(spec.Certificates) > zone.MaxCertificates {
		return fmt.Errorf("custom_certificates: at most %d are allowed, got %d", zone.MaxCertificates, len(spec.Certificates))
	}
	for _, r := range spec.Rulesets {
		if len(r.Body) > zone.MaxRulesetBytes {
			return fmt.Errorf("rulesets: phase %s: at most %d bytes are allowed, got %d", r.Phase, zone.MaxRulesetBytes, len(r.Body))
		}
		if r.Phase != origin.Phase && r.Phase != cache.RulesPhase {
			return fmt.Errorf("rulesets: phase %q is not served", r.Phase)
		}
	}
	return nil
}

// unpaused is what a zone asks for: where it is paused, DNS goes on, answering
// with the origin's own addresses, and nothing is proxied.
func unpaused(spec *zone.Spec) *zone.Spec {
	if !spec.Paused {
		return spec
	}
	c := *spec
	c.Records = make([]zone.Record, len(spec.Records))
	copy(c.Records, spec.Records)
	for i := range c.Records {
		c.Records[i].Proxied = false
	}
	return &c
}

func hashParts(spec *zone.Spec) parts {
	keys := make([][]byte, len(spec.Certificates))
	for i := range spec.Certificates {
		keys[i] = spec.Certificates[i].PrivateKey
	}
	v := spec.Settings.Value
	return parts{
		origin: hash(spec.Records, spec.Rulesets, v("ssl"), v("origin_max_http_version"), v("origin_h2c"), v("early_hints")),
		cache:  hash(spec.Settings, spec.Rulesets),
		tls:    hash(spec.Certificates, keys, v("min_tls_version"), v("http2"), v("http3"), v("0rtt")),
	}
}

// hash digests the JSON form of what a part is compiled from; 0 = it has none,
// so it is never the same as another.
func hash(inputs ...any) uint64 {
	var h maphash.Hash
	h.SetSeed(seed)
	enc := json.NewEncoder(&h)
	for _, in := range inputs {
		if err := enc.Encode(in); err != nil {
			return 0
		}
	}
	return h.Sum64() | 1
}
