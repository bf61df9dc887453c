package cache

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/selvage-edge/selvage/edge/request"
	"github.com/selvage-edge/selvage/zone"
)

// Plan is what a zone asks of the cache. What Compile writes never changes.
type Plan struct {
	alwaysOnline bool // serve stale while the origin fails
	bypass       bool // development mode
	sortQuery    bool // parameters in another order are one object

	level  level
	static bool   // only paths with one of the static extensions are eligible
	rules  *Rules // nil = none

	codings codings

	// base are the policies before any rule; nil in a plan that was not
	// compiled.
	base *bases
	// kept counts the policies that combinations of rules have made.
	kept atomic.Int32
}

// bases are the policies before any rule.
type bases struct {
	plain ruled // by the RFC, default key
	file  ruled // a path with a static extension, where that makes a difference
	left  ruled // left out by the cache level: DYNAMIC
}

// level is what the query string means.
type level uint8

const (
	aggressive level = iota // each query string an object
	simplified              // one object for all query strings of a static file
	basic                   // what has a query string is not cached
)

// The settings that Compile reads.
const (
	settingAlwaysOnline = "always_online"
	settingBrowserTTL   = "browser_cache_ttl"
	settingDevelopment  = "development_mode"
	settingSortQuery    = "sort_query_string_for_cache"
	settingLevel        = "cache_level"
	settingEligibility  = "cache_eligibility"
	settingReserve      = "cache_reserve"
	settingVariants     = "variants"
)

// Compile reads a zone's cache settings and cache rules. It refuses values that
// a setting cannot have, by the setting's name, and rules by their path.
func Compile(spec *zone.Spec) (*Plan, error) {
	for _, name := range []string{settingAlwaysOnline, settingBrowserTTL, settingDevelopment, settingSortQuery, settingLevel, settingEligibility, settingReserve, settingVariants, settingBrotli, settingZstd} {
		d := zone.FindSetting(name)
		if d == nil {
			return nil, fmt.Errorf("settings: no setting is called %q", name)
		}
		if err := d.Check(spec.Settings.Value(name)); err != nil {
			return nil, fmt.Errorf("settings: %w", err)
		}
	}
	p := &Plan{
		alwaysOnline: spec.Settings.On(settingAlwaysOnline),
		bypass:       spec.Settings.On(settingDevelopment),
		sortQuery:    spec.Settings.On(settingSortQuery),
		static:       spec.Settings.Text(settingEligibility) == "static",
		codings:      codingsOf(spec.Settings),
	}
	switch spec.Settings.Text(settingLevel) {
	case "simplified":
		p.level = simplified
	case "basic":
		p.level = basic
	}
	for i := range spec.Rulesets {
		if spec.Rulesets[i].Phase != RulesPhase {
			continue
		}
		var err error
		if p.rules, err = CompileRules(spec.Rulesets[i].Body); err != nil {
			return nil, fmt.Errorf("rulesets: %s: %w", RulesPhase, err)
		}
	}
	p.compileBases(spec.Settings)
	return p, nil
}

func (p *Plan) compileBases(s zone.Settings) {
	plain := policy{
		sorted:  p.sortQuery,
		browser: browserTTL{least: time.Duration(s.Number(settingBrowserTTL)) * time.Second},
		reserve: reserveRule{allowed: s.On(settingReserve), eligible: s.On(settingReserve)},

		variants: variantsOf(s),
	}
	file, left := plain, plain
	// Where an extension alone makes an answer storable, it has to be one.
	file.ruled, file.armor = p.static, p.static
	if p.level == simplified {
		file.recipe = (&recipe{query: queryNone}).name()
	}
	left.eligibility = dynamic
	p.base = &bases{plain: ruled{policy: plain}, file: ruled{policy: file}, left: ruled{policy: left}}
}

// HasRules reports whether the zone has cache rules to be decided.
func (p *Plan) HasRules() bool { return p != nil && p.rules != nil }

// prepare decides r's policy and does what is to be done before the cache is
// asked: the request says which device it comes from, where the key has it, and
// accepts what chooses among variants of images, and nothing else.
func (p *Plan) prepare(r *request.Request) {
	pol := p.decide(r)
	r.CachePolicy = pol
	if pol.recipe != nil && pol.recipe.device && r.Device == nil {
		r.Device = deviceOf(r)
	}
	if pol.variants != nil && pol.eligibility == allowed {
		pol.variants.narrow(r)
	}
	if pol.readTimeout > 0 {
		r.Route.ReadTimeout = pol.readTimeout
	}
}

// decide returns what the zone decides about r; never nil. It allocates
// nothing once a set of matching rules has been seen.
func (p *Plan) decide(r *request.Request) *policy {
	if pol, ok := r.CachePolicy.(*policy); ok {
		return pol
	}
	if p.bypass {
		return &developed
	}
	if p.base == nil {
		return &plain
	}
	from := p.start(r)
	if p.rules == nil || r.Off.Has(zone.KillCacheRules) {
		return &from.policy
	}
	return p.rules.decide(r, from, &p.kept)
}

// plain is the policy of a plan that was not compiled, developed that of
// development mode, which no rule changes.
var (
	plain     policy
	developed = policy{eligibility: bypassed}
)

// start is the policy by the zone's cache level.
func (p *Plan) start(r *request.Request) *ruled {
	switch {
	case p.level == basic && r.In.Query != nil:
		return &p.base.left
	case !p.static && p.level != simplified:
		return &p.base.plain
	case isStatic(r.RulePath()):
		return &p.base.file
	case p.static:
		return &p.base.left
	}
	return &p.base.plain
}
