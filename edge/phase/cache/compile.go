package cache

import (
	"fmt"
	"time"

	"github.com/selvage-edge/selvage/zone"
)

// Plan is what a zone asks of the cache. It never changes.
type Plan struct {
	alwaysOnline bool          // serve stale while the origin fails
	bypass       bool          // development mode
	sortQuery    bool          // parameters in another order are one object
	browserTTL   time.Duration // least max-age that browsers see; 0 = the origin's
	base         *policy       // where no rule matches
}

// The settings that Compile reads.
const (
	settingAlwaysOnline = "always_online"
	settingBrowserTTL   = "browser_cache_ttl"
	settingDevelopment  = "development_mode"
	settingSortQuery    = "sort_query_string_for_cache"
)

// Compile reads a zone's cache settings. It refuses values that a setting
// cannot have, by the setting's name.
func Compile(spec *zone.Spec) (*Plan, error) {
	for _, name := range []string{settingAlwaysOnline, settingBrowserTTL, settingDevelopment, settingSortQuery} {
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
		browserTTL:   time.Duration(spec.Settings.Number(settingBrowserTTL)) * time.Second,
	}
	p.base = &policy{browser: browserTTL{least: p.browserTTL}}
	if p.bypass {
		p.base.eligibility = bypassed
	}
	return p, nil
}
