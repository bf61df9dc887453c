package origin

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/selvage-edge/selvage/edge/request"
	"github.com/selvage-edge/selvage/expr"
	"github.com/selvage-edge/selvage/internal/strictjson"
	"github.com/selvage-edge/selvage/zone"
)

// MaxRules is how many rules an http_request_origin ruleset may have.
const MaxRules = 300

// Rules is a compiled http_request_origin ruleset. Immutable.
type Rules struct{ list []rule }

// rule overrides what the records say, for requests that match.
type rule struct {
	when       *expr.Program
	host       string // "" = as it is
	port       uint16 // 0 = as it is
	hostHeader string
	sni        string
}

// CompileRules reads the body of an http_request_origin entrypoint ruleset as
// the API takes it: {"rules":[{"expression","action":"route",
// "action_parameters":{"origin":{"host","port"},"host_header","sni":{"value"}},
// "enabled","description"}]}. What it does not know it refuses; an error
// begins with the path of the field. nil, nil: no rule is enabled.
func CompileRules(body json.RawMessage) (*Rules, error) {
	if len(body) > zone.MaxRulesetBytes {
		return nil, fmt.Errorf("rules: at most %d bytes are allowed, got %d", zone.MaxRulesetBytes, len(body))
	}
	d := &decoder{}
	var list []rule
	d.Object(body, "", func(name, path string, v json.RawMessage) {
		switch name {
		case "rules":
			list = d.rules(v, path)
		case "id", "name", "description", "kind", "version", "last_updated":
			d.Text(v, path)
		case "phase":
			if got := d.Text(v, path); d.Err == nil && got != Phase {
				d.Fail(path, "must be %q, got %q", Phase, got)
			}
		default:
			d.Fail(path, "no field has this name")
		}
	})
	if d.Err != nil || len(list) == 0 {
		return nil, d.Err
	}
	return &Rules{list: list}, nil
}

// decoder reads the parts of a rule.
type decoder struct{ strictjson.Reader }

func (d *decoder) rules(raw json.RawMessage, path string) []rule {
	var list []rule
	d.Array(raw, path, MaxRules, func(path string, v json.RawMessage) {
		if r, enabled := d.rule(v, path); enabled && d.Err == nil {
			list = append(list, r)
		}
	})
	return list
}

func (d *decoder) rule(raw json.RawMessage, path string) (r rule, enabled bool) {
	var action string
	var parameters bool
	enabled = true
	d.Object(raw, path, func(name, path string, v json.RawMessage) {
		switch name {
		case "expression":
			d.expression(d.Text(v, path), path, &r)
		case "action":
			if action = d.Text(v, path); d.Err == nil && action != "route" {
				d.Fail(path, "must be \"route\", got %q", action)
			}
		case "action_parameters":
			parameters = true
			d.parameters(v, path, &r)
		case "enabled":
			enabled = d.Bool(v, path)
		case "id", "ref", "version", "last_updated", "description":
			d.Text(v, path)
		default:
			d.Fail(path, "no field has this name")
		}
	})
	switch {
	case d.Err != nil:
	case r.when == nil:
		d.Fail(path+".expression", "is needed")
	case action == "":
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

func (d *decoder) parameters(raw json.RawMessage, path string, r *rule) {
	d.Object(raw, path, func(name, path string, v json.RawMessage) {
		switch name {
		case "origin":
			d.origin(v, path, r)
		case "host_header":
			r.hostHeader = strings.ToLower(d.Text(v, path))
			if d.Err == nil && !validAuthority(r.hostHeader) {
				d.Fail(path, "must be a host name or address, with a port if need be, got %q", r.hostHeader)
			}
		case "sni":
			d.Object(v, path, func(name, path string, v json.RawMessage) {
				if name != "value" {
					d.Fail(path, "no field has this name")
					return
				}
				r.sni = strings.ToLower(d.Text(v, path))
				if d.Err == nil && (!validName(r.sni) || isAddr(r.sni)) {
					d.Fail(path, "must be a host name, got %q", r.sni)
				}
			})
		default:
			d.Fail(path, "no field has this name")
		}
	})
	if d.Err == nil && r.host == "" && r.port == 0 && r.hostHeader == "" && r.sni == "" {
		d.Fail(path, "one of origin, host_header and sni is needed")
	}
}

func (d *decoder) origin(raw json.RawMessage, path string, r *rule) {
	d.Object(raw, path, func(name, path string, v json.RawMessage) {
		switch name {
		case "host":
			r.host = canonical(strings.Trim(d.Text(v, path), "[]"))
			if d.Err == nil && !isAddr(r.host) && !validName(r.host) {
				d.Fail(path, "must be a host name or an address, got %s", strictjson.Short(v))
			}
		case "port":
			r.port = uint16(d.Int(v, path, 1, 65535))
		default:
			d.Fail(path, "no field has this name")
		}
	})
	if d.Err == nil && r.host == "" && r.port == 0 {
		d.Fail(path, "one of host and port is needed")
	}
}

// apply writes the overrides of all rules that match; of several that set the
// same thing the last one wins.
func (rules *Rules) apply(src expr.Source, route *request.Route) {
	for i := range rules.list {
		r := &rules.list[i]
		if !r.when.Match(src) {
			continue
		}
		if r.host != "" {
			route.Host = r.host
		}
		if r.port != 0 {
			route.Port = r.port
		}
		if r.hostHeader != "" {
			route.HostHeader = r.hostHeader
		}
		if r.sni != "" {
			route.SNI = r.sni
		}
	}
}

func isAddr(s string) bool {
	a, err := netip.ParseAddr(s)
	return err == nil && a.Zone() == ""
}

func validAuthority(s string) bool {
	host := s
	if h, port, err := net.SplitHostPort(s); err == nil {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return false
		}
		if host = h; strings.Contains(h, ":") {
			return isAddr(h)
		}
	} else if inner, ok := strings.CutPrefix(s, "["); ok {
		inner, ok = strings.CutSuffix(inner, "]")
		return ok && isAddr(inner) && strings.Contains(inner, ":")
	}
	return validName(host)
}
