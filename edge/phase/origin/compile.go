package origin

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/selvage-edge/selvage/edge/request"
	"github.com/selvage-edge/selvage/zone"
)

// Phase is the Ruleset Engine's name of the phase that the route row runs.
const Phase = "http_request_origin"

// maxAliases bounds a chain of CNAME records inside one zone.
const maxAliases = 8

// Plan is where one zone's requests go: its proxied names with their origins,
// how origins are spoken to, and the rules that override either. Immutable.
type Plan struct {
	// names has every name that exists in the zone's DNS, the empty
	// non-terminals included; the value is nil where it is not proxied.
	names map[string]*entry
	// wild is the same for what stands behind "*.".
	wild   map[string]*entry
	mode   mode
	two    two    // to whom HTTP/2 is spoken
	hints  bool   // early hints are made
	rules  *Rules // nil = none
	anyOne bool   // at least one name is proxied
}

// entry is a proxied name: its origins, in the order of the records.
type entry struct{ targets []string }

// mode is how origins are spoken to.
type mode uint8

const (
	plain    mode = iota // http (ssl off, flexible)
	anyCert              // https, any certificate (ssl full)
	verified             // https, verified certificate (ssl strict)
)

// two is which requests go over HTTP/2 where the origin speaks it.
type two uint8

const (
	twoNever two = iota
	twoGRPC      // calls of gRPC, over http
	twoAll
)

func (m mode) port() uint16 {
	if m == plain {
		return 80
	}
	return 443
}

// Compile reads the proxied A, AAAA and CNAME records, the ssl setting and
// the http_request_origin ruleset. It returns nil, nil for a zone that
// proxies nothing. Errors name the API's field.
func Compile(spec *zone.Spec) (*Plan, error) {
	p := &Plan{names: make(map[string]*entry), wild: make(map[string]*entry)}
	var err error
	if p.mode, err = modeOf(spec.Settings.Text("ssl")); err != nil {
		return nil, err
	}
	if p.rules, err = rulesOf(spec.Rulesets); err != nil {
		return nil, err
	}
	p.two = twoOf(p.mode, spec.Settings)
	p.hints = spec.Settings.On("early_hints")
	r := newRecords(spec.Records)
	for name := range r.byName {
		p.exist(name)
	}
	for _, name := range r.proxied {
		targets, err := r.targets(name)
		if err != nil {
			return nil, err
		}
		p.put(name, &entry{targets: targets})
	}
	if !p.anyOne {
		return nil, nil
	}
	return p, nil
}

// exist notes a name and what lies above it. Names above the zone's apex do
// no harm: nobody asks this plan for them.
func (p *Plan) exist(name string) {
	if base, ok := strings.CutPrefix(name, "*."); ok {
		name = base
	}
	for name != "" {
		if _, known := p.names[name]; known {
			return
		}
		p.names[name] = nil
		_, name, _ = strings.Cut(name, ".")
	}
}

func (p *Plan) put(name string, e *entry) {
	p.anyOne = true
	if base, ok := strings.CutPrefix(name, "*."); ok {
		p.wild[base] = e
		return
	}
	p.names[name] = e
}

// Proxied reports whether requests for host (lower-case, without port and
// final dot) are ours to answer.
func (p *Plan) Proxied(host []byte) bool { return p != nil && p.find(host) != nil }

// find follows the rules of DNS wildcards (RFC 4592 §2.2, §3.3): a name that
// exists is not covered by any; else the one below the closest name that
// exists covers it, however many labels are missing.
func (p *Plan) find(host []byte) *entry {
	if e, exists := p.names[string(host)]; exists {
		return e
	}
	for at := 0; ; {
		dot := indexDot(host[at:])
		if dot < 0 {
			return nil
		}
		at += dot + 1
		if _, exists := p.names[string(host[at:])]; exists {
			return p.wild[string(host[at:])]
		}
	}
}

func indexDot(p []byte) int {
	for i, c := range p {
		if c == '.' {
			return i
		}
	}
	return -1
}

func modeOf(ssl string) (mode, error) {
	switch ssl {
	case "off", "flexible":
		return plain, nil
	case "full":
		return anyCert, nil
	case "strict":
		return verified, nil
	}
	return 0, fmt.Errorf("settings: ssl: value must be off, flexible, full or strict, got %q", ssl)
}

func twoOf(m mode, s zone.Settings) two {
	if s.Text("origin_max_http_version") != "2" {
		return twoNever
	}
	if m != plain {
		return twoAll
	}
	switch s.Text("origin_h2c") {
	case "on":
		return twoAll
	case "grpc":
		return twoGRPC
	}
	return twoNever
}

// overTwo reports whether r goes over HTTP/2 where the origin speaks it.
func (p *Plan) overTwo(r *request.Request) bool {
	return p.two == twoAll || p.two == twoGRPC && r.In.CallsGRPC()
}

func rulesOf(sets []zone.Ruleset) (*Rules, error) {
	for _, set := range sets {
		if set.Phase != Phase {
			continue
		}
		rules, err := CompileRules(set.Body)
		if err != nil {
			return nil, fmt.Errorf("rulesets: %s: %w", Phase, err)
		}
		return rules, nil
	}
	return nil, nil
}

// records is a zone's address and alias records, by name.
type records struct {
	byName  map[string][]*zone.Record // all types, so that names exist
	proxied []string                  // in order of appearance
}

func newRecords(list []zone.Record) *records {
	r := &records{byName: make(map[string][]*zone.Record, len(list))}
	seen := make(map[string]bool)
	for i := range list {
		rec := &list[i]
		name := canonical(rec.Name)
		r.byName[name] = append(r.byName[name], rec)
		if rec.Proxied && zone.Proxiable(rec.Type) && !seen[name] {
			seen[name] = true
			r.proxied = append(r.proxied, name)
		}
	}
	return r
}

// targets returns the addresses or the name that a proxied name points to. An
// alias to a name of this zone is followed here: asking DNS for it would lead
// to the edge itself.
func (r *records) targets(name string) ([]string, error) {
	at, onlyProxied := name, true
	for range maxAliases + 1 {
		list, alias, err := contents(r.byName[at], onlyProxied)
		if err != nil || len(list) > 0 {
			return list, err
		}
		next := r.owner(alias)
		if next == "" {
			return []string{alias}, nil
		}
		at, onlyProxied = next, false
	}
	return nil, fmt.Errorf("dns_records: %s: content: CNAME records lead in a circle or through more than %d names", name, maxAliases)
}

// contents returns a name's addresses, else the name it is an alias of.
func contents(list []*zone.Record, onlyProxied bool) (addrs []string, alias string, err error) {
	for _, rec := range list {
		if onlyProxied && !rec.Proxied || !zone.Proxiable(rec.Type) {
			continue
		}
		if rec.Type == "CNAME" {
			alias = canonical(rec.Content)
			if !validName(alias) {
				return nil, "", fmt.Errorf("dns_records: %s: content: must be a host name, got %q", rec.Name, rec.Content)
			}
			continue
		}
		a, err := netip.ParseAddr(strings.TrimSpace(rec.Content))
		if err != nil || a.Zone() != "" || a.Is4() != (rec.Type == "A") {
			return nil, "", fmt.Errorf("dns_records: %s: content: must be an address for type %s, got %q", rec.Name, rec.Type, rec.Content)
		}
		addrs = append(addrs, a.String())
	}
	return addrs, alias, nil
}

// owner returns the name in this zone whose address or alias records answer
// for alias, "" when there is none: then DNS knows.
func (r *records) owner(alias string) string {
	if r.answers(alias) {
		return alias
	}
	if _, exists := r.byName[alias]; exists {
		return ""
	}
	for rest := alias; ; {
		_, parent, ok := strings.Cut(rest, ".")
		if !ok {
			return ""
		}
		if r.answers("*." + parent) {
			return "*." + parent
		}
		if _, exists := r.byName[parent]; exists {
			return ""
		}
		rest = parent
	}
}

func (r *records) answers(name string) bool {
	for _, rec := range r.byName[name] {
		if zone.Proxiable(rec.Type) {
			return true
		}
	}
	return false
}

func canonical(name string) string {
	return strings.ToLower(strings.TrimSuffix(strings.TrimSpace(name), "."))
}

// validName accepts a host name as DNS and URLs have it (RFC 1123 §2.1), and
// the underscore that is met in practice. Lower case is not asked for.
func validName(name string) bool {
	if name == "" || len(name) > 253 {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := range len(label) {
			c := label[i]
			if c != '-' && c != '_' && (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z') {
				return false
			}
		}
	}
	return true
}
