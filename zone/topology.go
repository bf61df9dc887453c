package zone

import (
	"encoding/json"
	"fmt"
	"slices"
)

// Topology says which data centers stand between a zone's visitors and its
// origin.
type Topology struct {
	// Mode is TopologyFlat, TopologySmart or TopologyCustom.
	Mode string `json:"mode"`
	// Regional puts a data center of the asker's own region before the upper
	// tier; it means nothing in a flat topology.
	Regional bool `json:"regional"`
	// Parents are the upper tiers of a custom topology by colo code, the first
	// that is up is asked. Empty in the other modes.
	Parents []string `json:"parents"`
}

const (
	TopologyFlat   = "flat"   // each data center asks the origin itself
	TopologySmart  = "smart"  // one upper tier, chosen by measured latency
	TopologyCustom = "custom" // one upper tier of those named
)

// MaxParents is how many upper tiers a custom topology may name.
const MaxParents = 16

// Topology reads a zone's topology out of its settings: flat while
// tiered_caching is off; else custom where parents are named and
// tiered_cache_smart_topology_enable is off; else smart.
func (s Settings) Topology() Topology {
	smart, tiered := s.On("tiered_cache_smart_topology_enable"), s.On("tiered_caching")
	t := Topology{Mode: TopologySmart, Regional: s.On("tc_regional"), Parents: []string{}}
	switch parents := s.Texts("tiered_cache_parents"); {
	case !tiered:
		t.Mode = TopologyFlat
	case !smart && len(parents) > 0:
		t.Mode, t.Parents = TopologyCustom, parents
	}
	return t
}

// Settings are the settings that mean t.
func (t *Topology) Settings() Settings {
	flag := func(on bool) json.RawMessage {
		if on {
			return json.RawMessage(`"on"`)
		}
		return json.RawMessage(`"off"`)
	}
	parents := json.RawMessage(`[]`)
	if t.Mode == TopologyCustom {
		parents, _ = json.Marshal(t.Parents) // texts: cannot fail
	}
	return Settings{
		"tiered_caching":                     flag(t.Mode != TopologyFlat),
		"tiered_cache_smart_topology_enable": flag(t.Mode == TopologySmart),
		"tc_regional":                        flag(t.Regional),
		"tiered_cache_parents":               parents,
	}
}

// Check refuses an unknown mode and parents that the mode cannot have; the
// error begins with the field.
func (t *Topology) Check() error {
	switch t.Mode {
	case TopologyFlat, TopologySmart:
		if len(t.Parents) > 0 {
			return fmt.Errorf("parents: are named in mode %s only", TopologyCustom)
		}
	case TopologyCustom:
		if len(t.Parents) == 0 || len(t.Parents) > MaxParents {
			return fmt.Errorf("parents: mode %s needs 1 to %d of them, got %d", TopologyCustom, MaxParents, len(t.Parents))
		}
	default:
		return fmt.Errorf("mode: must be one of %q, got %.80q", []string{TopologyFlat, TopologySmart, TopologyCustom}, t.Mode)
	}
	for i, colo := range t.Parents {
		if !ValidColo(colo) {
			return fmt.Errorf("parents[%d]: must be a data center's code of three capital letters, got %.80q", i, colo)
		}
		if slices.Contains(t.Parents[:i], colo) {
			return fmt.Errorf("parents[%d]: %s is named twice", i, colo)
		}
	}
	return nil
}

// ValidColo reports whether s is a data center's code: three capital letters.
func ValidColo(s string) bool {
	if len(s) != 3 {
		return false
	}
	for i := range len(s) {
		if s[i] < 'A' || s[i] > 'Z' {
			return false
		}
	}
	return true
}
