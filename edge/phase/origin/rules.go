package origin

import (
	"encoding/json"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/selvage-edge/selvage/edge/request"
	"github.com/selvage-edge/selvage/edge/ruleset"
	"github.com/selvage-edge/selvage/expr"
	"github.com/selvage-edge/selvage/internal/strictjson"
)

// MaxRules is how many rules an http_request_origin ruleset may have.
const MaxRules = 300

// Rules is a compiled http_request_origin ruleset. Immutable.
type Rules struct{ list []ruleset.Rule[override] }

// override is what stands above the records, for requests that match.
type override struct {
	host       string // "" = as it is
	port       uint16 // 0 = as it is
	hostHeader string
	sni        string
}

// CompileRules reads the body of an http_request_origin entrypoint ruleset as
// the API takes it, with rules of action route, whose parameters are
// {"origin":{"host","port"},"host_header","sni":{"value"}}. What it does not
// know it refuses; an error begins with the path of the field. nil, nil: no
// rule is enabled.
func CompileRules(body json.RawMessage) (*Rules, error) {
	list, err := ruleset.Read(body, ruleset.Kind{Phase: Phase, Action: "route", Most: MaxRules}, parameters)
	if err != nil || len(list) == 0 {
		return nil, err
	}
	return &Rules{list}, nil
}

func parameters(d *strictjson.Reader, raw json.RawMessage, path string) (r override) {
	d.Object(raw, path, func(name, path string, v json.RawMessage) {
		switch name {
		case "origin":
			r.origin(d, v, path)
		case "host_header":
			r.hostHeader = strings.ToLower(d.Text(v, path))
			if d.Err == nil && !validAuthority(r.hostHeader) {
				d.Fail(path, "must be a host name or address, with a port if need be, got %q", r.hostHeader)
			}
		case "sni":
			d.Object(v, path, func(name, path string, v json.RawMessage) {
				if name != "value" {
					d.Unknown(path)
					return
				}
				r.sni = strings.ToLower(d.Text(v, path))
				if d.Err == nil && (!validName(r.sni) || isAddr(r.sni)) {
					d.Fail(path, "must be a host name, got %q", r.sni)
				}
			})
		default:
			d.Unknown(path)
		}
	})
	if d.Err == nil && r.host == "" && r.port == 0 && r.hostHeader == "" && r.sni == "" {
		d.Fail(path, "one of origin, host_header and sni is needed")
	}
	return r
}

func (r *override) origin(d *strictjson.Reader, raw json.RawMessage, path string) {
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
			d.Unknown(path)
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
		if !rules.list[i].When.Match(src) {
			continue
		}
		r := &rules.list[i].Set
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
