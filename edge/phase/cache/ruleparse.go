package cache

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/selvage-edge/selvage/expr"
	"github.com/selvage-edge/selvage/internal/strictjson"
)

// decoder reads the parts of a ruleset.
type decoder struct{ strictjson.Reader }

func (d *decoder) unknown(path string) { d.Fail(path, "no field has this name") }

func (d *decoder) ruleset(body json.RawMessage) (list []rule) {
	d.Object(body, "", func(name, path string, v json.RawMessage) {
		switch name {
		case "rules":
			d.Array(v, path, MaxRules, func(path string, v json.RawMessage) {
				if r, enabled := d.rule(v, path); enabled && d.Err == nil {
					list = append(list, r)
				}
			})
		case "id", "name", "description", "kind", "version", "last_updated":
			d.Text(v, path)
		case "phase":
			if got := d.Text(v, path); d.Err == nil && got != RulesPhase {
				d.Fail(path, "must be %q, got %q", RulesPhase, got)
			}
		default:
			d.unknown(path)
		}
	})
	return list
}

func (d *decoder) rule(raw json.RawMessage, path string) (r rule, enabled bool) {
	const action = "set_cache_settings"
	var named, parameters bool
	enabled = true
	d.Object(raw, path, func(name, path string, v json.RawMessage) {
		switch name {
		case "expression":
			d.expression(d.Text(v, path), path, &r)
		case "action":
			named = true
			if got := d.Text(v, path); d.Err == nil && got != action {
				d.Fail(path, "must be %q, got %q", action, got)
			}
		case "action_parameters":
			parameters = true
			d.parameters(v, path, &r)
		case "enabled":
			enabled = d.Bool(v, path)
		case "id", "ref", "version", "last_updated", "description":
			d.Text(v, path)
		case "logging", "categories", "exposed_credential_check", "position":
			d.Fail(path, "is not supported in this phase")
		default:
			d.unknown(path)
		}
	})
	switch {
	case d.Err != nil:
	case r.when == nil:
		d.Fail(path+".expression", "is needed")
	case !named:
		d.Fail(path+".action", "is needed")
	case !parameters:
		d.Fail(path+".action_parameters", "is needed")
	}
	return r, enabled
}

func (d *decoder) expression(text, path string, r *rule) {
	if d.Err != nil {
		return
	}
	program, err := expr.Compile(text)
	if err != nil {
		d.Err = fmt.Errorf("%s: %w", path, err)
		return
	}
	r.when = program
}

// parameters reads action_parameters: each member becomes a change of the
// policy.
func (d *decoder) parameters(raw json.RawMessage, path string, r *rule) {
	set := func(change func(*policy)) { r.set = append(r.set, change) }
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
	if d.Err == nil && len(r.set) == 0 {
		d.Fail(path, "at least one setting is needed")
	}
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
		d.unknown(path)
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

func (d *decoder) edgeTTL(raw json.RawMessage, path string) (t edgeTTL) {
	var mode string
	var given bool
	d.Object(raw, path, func(name, path string, v json.RawMessage) {
		switch name {
		case "mode":
			mode = d.Text(v, path)
		case "default":
			given = true
			t.override = time.Duration(d.Int(v, path, 0, maxTTL)) * time.Second
		case "status_code_ttl":
			d.Array(v, path, 100, func(path string, v json.RawMessage) { t.byStatus = append(t.byStatus, d.statusTTL(v, path)) })
		default:
			d.unknown(path)
		}
	})
	switch {
	case d.Err != nil:
	case mode == "respect_origin":
		t.mode = ttlRespect
	case mode == "bypass_by_default":
		t.mode = ttlBypass
	case mode != "override_origin":
		d.Fail(path+".mode", "must be one of respect_origin, override_origin and bypass_by_default, got %q", strictjson.Short([]byte(mode)))
	case !given:
		d.Fail(path+".default", "is needed with mode override_origin")
	default:
		t.mode = ttlOverride
	}
	if d.Err == nil && given && t.mode != ttlOverride {
		d.Fail(path+".default", "goes with mode override_origin only")
	}
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
					d.unknown(path)
				}
			})
			if d.Err == nil && !span {
				d.Fail(path, "needs from, to or both")
			}
		case "value":
			valued = true
			s.ttl = time.Duration(d.Int(v, path, -1, maxTTL)) * time.Second
		default:
			d.unknown(path)
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

func (d *decoder) browserTTL(raw json.RawMessage, path string) (t browserTTL) {
	var mode string
	var given bool
	d.Object(raw, path, func(name, path string, v json.RawMessage) {
		switch name {
		case "mode":
			mode = d.Text(v, path)
		case "default":
			given = true
			t.override = time.Duration(d.Int(v, path, 0, maxTTL)) * time.Second
		default:
			d.unknown(path)
		}
	})
	switch {
	case d.Err != nil:
	case mode == "respect_origin":
		t.mode = ttlRespect
	case mode == "bypass_by_default":
		t.mode = ttlBypass
	case mode == "bypass":
		t.mode, t.override = ttlOverride, -1
	case mode != "override_origin":
		d.Fail(path+".mode", "must be one of respect_origin, override_origin, bypass_by_default and bypass, got %q", strictjson.Short([]byte(mode)))
	case !given:
		d.Fail(path+".default", "is needed with mode override_origin")
	default:
		t.mode = ttlOverride
	}
	if d.Err == nil && given && mode != "override_origin" {
		d.Fail(path+".default", "goes with mode override_origin only")
	}
	return t
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
			d.unknown(path)
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
			d.unknown(path)
			return
		}
		off = d.Bool(v, path)
	})
	return off
}
