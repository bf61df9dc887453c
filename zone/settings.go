package zone

import (
	"encoding/json"
	"fmt"
	"slices"
)

// Settings holds a zone's settings as the API stores them: name to JSON value
// verbatim. An absent name has its default from SettingTable.
type Settings map[string]json.RawMessage

// Setting describes one zone setting: the API validates with it, Compile reads
// with it, documentation is made from it.
type Setting struct {
	Name    string
	Default string // JSON
	// Path is where under /client/v4/zones/{id}/ the API has the setting:
	// "" = settings/{Name}; PathOurs = not there, only under /selvage/v1.
	Path string
	// Values lists the allowed JSON strings; nil for a number or a list.
	Values   []string
	Min, Max int // for a number; for a list, of how many items
	Unit     string
	// List makes the value a list of texts that it accepts; nil for others.
	List func(item string) bool
	// Object checks a value that is a JSON object, of which Unit tells the form; nil
	// for others.
	Object func(value json.RawMessage) error
	// Own marks a setting that each zone has for itself: the operator can give no
	// default for it.
	Own bool
	Doc string
}

// PathOurs marks a setting that the v4 API has no word for.
const PathOurs = "-"

var onOff = []string{"on", "off"}

// SettingTable is the one list of settings that exist, in the API's order.
var SettingTable = []Setting{
	{Name: "0rtt", Default: `"off"`, Values: onOff, Doc: "take safe requests (GET, HEAD, OPTIONS) from TLS early data over HTTP/3, before the handshake has proved that they are no replay (RFC 8470); others are answered 425"},
	{Name: "always_online", Default: `"on"`, Values: onOff, Doc: "serve the stale copy of a page, with a warning header, while the origin fails (5xx, time-out, unreachable)"},
	{Name: "always_use_https", Default: `"off"`, Values: onOff, Doc: "answer http with a redirect to https"},
	{Name: "brotli", Default: `"on"`, Values: onOff, Doc: "compress text for visitors who accept Brotli (br); gzip is always offered"},
	{Name: "browser_cache_ttl", Default: `0`, Min: 0, Max: 31536000, Unit: "seconds", Doc: "max-age that browsers see on cacheable answers when it is longer than the origin's; 0 respects the origin"},
	{Name: "cache_eligibility", Default: `"rfc"`, Path: PathOurs, Values: []string{"rfc", "static"}, Doc: "what the cache may hold without a rule that says so: every answer that RFC 9111 allows (rfc), or of these only paths with one of Cloudflare's default cached file extensions (static)"},
	{Name: "cache_level", Default: `"aggressive"`, Values: []string{"basic", "simplified", "aggressive"}, Doc: "what the query string means to the cache: each is an object of its own (aggressive), it is left out of the key (simplified), a request that has one is not cached (basic)"},
	{Name: "cache_reserve", Default: `"off"`, Path: "cache/cache_reserve", Values: onOff, Own: true, Doc: "keep eligible objects in the object store behind the edges' own disks"},
	{Name: "development_mode", Default: `"off"`, Values: onOff, Own: true, Doc: "go past the cache; switches itself off after three hours, counted from when it was off"},
	{Name: "early_hints", Default: `"off"`, Values: onOff, Doc: "send 103 Early Hints with the Link fields of a page's last answer while the page is fetched (RFC 8297)"},
	{Name: "http2", Default: `"on"`, Values: onOff, Doc: "offer HTTP/2 to visitors"},
	{Name: "http3", Default: `"on"`, Values: onOff, Doc: "offer HTTP/3: answers over TLS say so in Alt-Svc, and QUIC is answered on the UDP port of the same number"},
	{Name: "min_tls_version", Default: `"1.2"`, Values: []string{"1.2", "1.3"}, Doc: "the lowest TLS version accepted; 1.0 and 1.1 are refused (RFC 8996)"},
	{Name: "origin_h2c", Default: `"grpc"`, Path: PathOurs, Values: []string{"off", "grpc", "on"}, Doc: "speak HTTP/2 to an http origin, which is not asked first (RFC 9113 §3.3, prior knowledge): never (off), for gRPC calls, which need it (grpc), for every request (on)"},
	{Name: "origin_max_http_version", Default: `"2"`, Values: []string{"1", "2"}, Doc: "the newest HTTP version spoken to an origin: to one of https that offers it, to one of http as origin_h2c says"},
	{Name: "sort_query_string_for_cache", Default: `"on"`, Values: onOff, Doc: "query parameters in another order are the same cached object"},
	{Name: "ssl", Default: `"full"`, Values: []string{"off", "flexible", "full", "strict"}, Doc: "how the origin is reached: http only (off, flexible), https with any certificate (full), https with a verified certificate (strict)"},
	{Name: "tc_regional", Default: `"off"`, Path: "cache/regional_tiered_cache", Values: onOff, Doc: "ask a data center of the own region before the upper tier"},
	{Name: "tiered_cache_parents", Default: `[]`, Path: PathOurs, Max: MaxParents, Unit: "data center codes", List: ValidColo, Doc: "upper tiers of a custom topology, the first that is up is asked; empty = smart, where tiered caching is on"},
	{Name: "tiered_cache_smart_topology_enable", Default: `"on"`, Path: "cache/tiered_cache_smart_topology_enable", Values: onOff, Doc: "choose the upper tier by measured latency to the origin; goes before named parents"},
	{Name: "tiered_caching", Default: `"on"`, Path: "argo/tiered_caching", Values: onOff, Doc: "ask an upper tier before the origin; off: each data center asks the origin itself"},
	{Name: "url_normalization_scope", Default: `"incoming"`, Path: "url_normalization", Values: []string{"incoming", "both", "none"}, Doc: "where the normalised path counts: for rules alone (incoming), or for cache key and origin too, which then get nothing else (both)"},
	{Name: "url_normalization_type", Default: `"cloudflare"`, Path: "url_normalization", Values: []string{"cloudflare", "rfc3986"}, Doc: "how a path is normalised: by RFC 3986 (percent-encoding, dot segments), and before that backslashes made slashes and runs of slashes one (cloudflare)"},
	{Name: "variants", Default: `{}`, Path: "cache/variants", Unit: "media types by file extension, as `{\"jpg\":[\"image/webp\",\"image/avif\"]}`", Object: checkVariants, Own: true, Doc: "image types in which the origin has files of an extension, one of which it sends by Accept, saying Vary: Accept; the cache keeps one object for all visitors who accept the same of them"},
	{Name: "zstd", Default: `"on"`, Path: PathOurs, Values: onOff, Doc: "compress text for visitors who accept Zstandard (zstd)"},
}

// FindSetting returns the description of a setting, nil when it does not exist.
func FindSetting(name string) *Setting {
	i := slices.IndexFunc(SettingTable, func(s Setting) bool { return s.Name == name })
	if i < 0 {
		return nil
	}
	return &SettingTable[i]
}

// Check refuses a value that the setting cannot have, saying what it may be.
func (s *Setting) Check(value json.RawMessage) error {
	if s.Values != nil {
		var text string
		if err := json.Unmarshal(value, &text); err != nil || !slices.Contains(s.Values, text) {
			return fmt.Errorf("%s: value must be one of %q, got %.80s", s.Name, s.Values, value)
		}
		return nil
	}
	if s.Object != nil {
		if err := s.Object(value); err != nil {
			return fmt.Errorf("%s: %w", s.Name, err)
		}
		return nil
	}
	if s.List != nil {
		var items []string // null leaves it nil
		err := json.Unmarshal(value, &items)
		if err != nil || items == nil || len(items) < s.Min || len(items) > s.Max || slices.ContainsFunc(items, func(i string) bool { return !s.List(i) }) {
			return fmt.Errorf("%s: value must be a list of %d to %d %s, got %.80s", s.Name, s.Min, s.Max, s.Unit, value)
		}
		return nil
	}
	var n *int // null leaves it nil
	if err := json.Unmarshal(value, &n); err != nil || n == nil || *n < s.Min || *n > s.Max {
		return fmt.Errorf("%s: value must be a whole number of %s from %d to %d, got %.80s", s.Name, s.Unit, s.Min, s.Max, value)
	}
	return nil
}

// Value returns the setting's JSON value, its default when it was never set.
func (s Settings) Value(name string) json.RawMessage {
	if v, ok := s[name]; ok {
		return v
	}
	if d := FindSetting(name); d != nil {
		return json.RawMessage(d.Default)
	}
	return nil
}

// Text returns a string setting; "" when the stored value is no string.
func (s Settings) Text(name string) string {
	var text string
	if json.Unmarshal(s.Value(name), &text) != nil {
		return ""
	}
	return text
}

// On reports whether an on/off setting is on.
func (s Settings) On(name string) bool { return s.Text(name) == "on" }

// Number returns a numeric setting; 0 when the stored value is no number.
func (s Settings) Number(name string) int {
	var n int
	if json.Unmarshal(s.Value(name), &n) != nil {
		return 0
	}
	return n
}

// Texts returns a setting that is a list; nil when the stored value is none.
func (s Settings) Texts(name string) []string {
	var items []string
	if json.Unmarshal(s.Value(name), &items) != nil {
		return nil
	}
	return items
}

// Check refuses unknown names and values out of range.
func (s Settings) Check() error {
	for name, value := range s {
		d := FindSetting(name)
		if d == nil {
			return fmt.Errorf("settings: no setting is called %q", name)
		}
		if err := d.Check(value); err != nil {
			return fmt.Errorf("settings: %w", err)
		}
	}
	return nil
}
