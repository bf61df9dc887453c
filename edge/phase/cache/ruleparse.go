package cache

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/selvage-edge/selvage/internal/strictjson"
)

// decoder reads the parameters of a rule.
type decoder struct{ *strictjson.Reader }

// parameters reads action_parameters: each member becomes a change of the
// policy.
func parameters(rd *strictjson.Reader, raw json.RawMessage, path string) (changes []func(*policy)) {
	d := &decoder{rd}
	set := func(change func(*policy)) { changes = append(changes, change) }
	d.Object(raw, path, func(name, path string, v json.RawMessage) {
		switch name {
		case "cache":
			set(eligible(d.Bool(v, path)))
		case "edge_ttl":
			t := d.edgeTTL(v, path)
			set(func(p *policy) { p.edge = t })
		case "browser_ttl":
			t := d.browserTTL(v, path)
			set(func(p *policy) { t.least = p.browser.least; p.browser = t })
		case "cache_key":
			set(d.cacheKey(v, path))
		case "cache_reserve":
			rr := d.reserve(v, path)
			set(func(p *policy) {
				rr.eligible = rr.eligible && p.reserve.allowed
				rr.allowed = p.reserve.allowed
				p.reserve = rr
			})
		case "serve_stale":
			off := d.serveStale(v, path)
			set(func(p *policy) { p.noUpdating = off })
		case "respect_strong_etags":
			on := d.Bool(v, path)
			set(func(p *policy) { p.strongETags = on })
		case "origin_error_page_passthru":
			on := d.Bool(v, path)
			set(func(p *policy) { p.errorsPass = on })
		case "origin_cache_control":
			on := d.Bool(v, path)
			set(func(p *policy) { p.lax = !on })
		case "read_timeout":
			n := time.Duration(d.Int(v, path, 1, 6000)) * time.Second
			set(func(p *policy) { p.readTimeout = n })
		default:
			d.stripping(name, v, path, set)
		}
	})
	if d.Err == nil && len(changes) == 0 {
		d.Fail(path, "at least one setting is needed")
	}
	return changes
}

// stripping reads what changes an answer before it is stored, and the ports.
func (d *decoder) stripping(name string, v json.RawMessage, path string, set func(func(*policy))) {
	switch name {
	case "strip_etags":
		on := d.Bool(v, path)
		set(func(p *policy) { p.strip.etag = on })
	case "strip_last_modified":
		on := d.Bool(v, path)
		set(func(p *policy) { p.strip.lastModified = on })
	case "strip_set_cookie":
		on := d.Bool(v, path)
		set(func(p *policy) { p.strip.setCookie = on })
	case "additional_cacheable_ports":
		// Every port that an edge listens on is cached on as it is.
		d.Array(v, path, 64, func(path string, v json.RawMessage) { d.Int(v, path, 1, 65535) })
		set(func(*policy) {})
	default:
		d.Unknown(path)
	}
}

// eligible is what cache: true or false says. Development mode and other
// reasons to bypass that are not a rule's stay.
func eligible(yes bool) func(*policy) {
	if yes {
		return func(p *policy) { p.eligibility, p.ruled = allowed, true }
	}
	return func(p *policy) { p.eligibility, p.ruled = bypassed, false }
}

// maxTTL is the longest TTL that a rule may give, in seconds.
const maxTTL = 31536000

// ttl reads the members that edge_ttl and browser_ttl share, and refuses modes
// beside those given; other is called for other members.
func (d *decoder) ttl(raw json.RawMessage, path string, other func(name, path string, v json.RawMessage), modes ...string) (mode string, ttl time.Duration) {
	const override = "override_origin"
	given := false
	d.Object(raw, path, func(name, path string, v json.RawMessage) {
		switch name {
		case "mode":
			mode = d.Text(v, path)
		case "default":
			given = true
			ttl = time.Duration(d.Int(v, path, 0, maxTTL)) * time.Second
		default:
			other(name, path, v)
		}
	})
	switch {
	case d.Err != nil:
	case !slices.Contains(modes, mode):
		d.Fail(path+".mode", "must be one of %s, got %q", strings.Join(modes, ", "), strictjson.Short([]byte(mode)))
	case mode == override && !given:
		d.Fail(path+".default", "is needed with mode override_origin")
	case mode != override && given:
		d.Fail(path+".default", "goes with mode override_origin only")
	}
	return mode, ttl
}

var ttlModes = map[string]ttlMode{"respect_origin": ttlRespect, "override_origin": ttlOverride, "bypass_by_default": ttlBypass}

func (d *decoder) edgeTTL(raw json.RawMessage, path string) (t edgeTTL) {
	mode, ttl := d.ttl(raw, path, func(name, path string, v json.RawMessage) {
		if name != "status_code_ttl" {
			d.Unknown(path)
			return
		}
		d.Array(v, path, 100, func(path string, v json.RawMessage) { t.byStatus = append(t.byStatus, d.statusTTL(v, path)) })
	}, "respect_origin", "override_origin", "bypass_by_default")
	t.mode, t.override = ttlModes[mode], ttl
	return t
}

func (d *decoder) statusTTL(raw json.RawMessage, path string) statusTTL {
	s := statusTTL{from: 100, to: 999}
	var one, span, valued bool
	status := func(v json.RawMessage, path string) int { return int(d.Int(v, path, 100, 999)) }
	d.Object(raw, path, func(name, path string, v json.RawMessage) {
		switch name {
		case "status_code":
			one = true
			s.from = status(v, path)
			s.to = s.from
		case "status_code_range":
			d.Object(v, path, func(name, path string, v json.RawMessage) {
				span = true
				switch name {
				case "from":
					s.from = status(v, path)
				case "to":
					s.to = status(v, path)
				default:
					d.Unknown(path)
				}
			})
			if d.Err == nil && !span {
				d.Fail(path, "needs from, to or both")
			}
		case "value":
			valued = true
			s.ttl = time.Duration(d.Int(v, path, -1, maxTTL)) * time.Second
		default:
			d.Unknown(path)
		}
	})
	switch {
	case d.Err != nil:
	case one == span:
		d.Fail(path, "needs status_code or status_code_range, one of the two")
	case s.from > s.to:
		d.Fail(path+".status_code_range", "from %d is above to %d", s.from, s.to)
	case !valued:
		d.Fail(path+".value", "is needed")
	}
	return s
}

func (d *decoder) browserTTL(raw json.RawMessage, path string) browserTTL {
	mode, ttl := d.ttl(raw, path, func(_, path string, _ json.RawMessage) { d.Unknown(path) },
		"respect_origin", "override_origin", "bypass_by_default", "bypass")
	if mode == "bypass" {
		return browserTTL{mode: ttlOverride, override: -1}
	}
	return browserTTL{mode: ttlModes[mode], override: ttl}
}

func (d *decoder) reserve(raw json.RawMessage, path string) (r reserveRule) {
	var given bool
	d.Object(raw, path, func(name, path string, v json.RawMessage) {
		switch name {
		case "eligible":
			given = true
			r.eligible = d.Bool(v, path)
		case "minimum_file_size":
			r.least = d.Int(v, path, 0, 1<<40)
		default:
			d.Unknown(path)
		}
	})
	if d.Err == nil && !given {
		d.Fail(path+".eligible", "is needed")
	}
	return r
}

func (d *decoder) serveStale(raw json.RawMessage, path string) (off bool) {
	d.Object(raw, path, func(name, path string, v json.RawMessage) {
		if name != "disable_stale_while_updating" {
			d.Unknown(path)
			return
		}
		off = d.Bool(v, path)
	})
	return off
}
