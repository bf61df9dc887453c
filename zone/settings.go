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
	// Values lists the allowed JSON strings; nil for a number.
	Values   []string
	Min, Max int // for a number
	Unit     string
	Doc      string
}

var onOff = []string{"on", "off"}

// SettingTable is the one list of settings that exist, in the API's order.
var SettingTable = []Setting{
	{Name: "0rtt", Default: `"off"`, Values: onOff, Doc: "take safe requests (GET, HEAD, OPTIONS) from TLS early data over HTTP/3, before the handshake has proved that they are no replay (RFC 8470); others are answered 425"},
	{Name: "always_online", Default: `"on"`, Values: onOff, Doc: "serve the stale copy of a page, with a warning header, while the origin fails (5xx, time-out, unreachable)"},
	{Name: "always_use_https", Default: `"off"`, Values: onOff, Doc: "answer http with a redirect to https"},
	{Name: "browser_cache_ttl", Default: `0`, Min: 0, Max: 31536000, Unit: "seconds", Doc: "max-age that browsers see on cacheable answers when it is longer than the origin's; 0 respects the origin"},
	{Name: "development_mode", Default: `"off"`, Values: onOff, Doc: "go past the cache; switches itself off after three hours"},
	{Name: "http3", Default: `"on"`, Values: onOff, Doc: "offer HTTP/3: answers over TLS say so in Alt-Svc, and QUIC is answered on the UDP port of the same number"},
	{Name: "min_tls_version", Default: `"1.2"`, Values: []string{"1.2", "1.3"}, Doc: "the lowest TLS version accepted; 1.0 and 1.1 are refused (RFC 8996)"},
	{Name: "sort_query_string_for_cache", Default: `"on"`, Values: onOff, Doc: "query parameters in another order are the same cached object"},
	{Name: "ssl", Default: `"full"`, Values: []string{"off", "flexible", "full", "strict"}, Doc: "how the origin is reached: http only (off, flexible), https with any certificate (full), https with a verified certificate (strict)"},
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
