package edge

import (
	"strings"

	"github.com/selvage-edge/selvage/zone"
)

// staged is what lies over the copy of changes that go by rings: rings.View.
type staged interface {
	// Refresh reads the copy's stages and returns the keys that differ now.
	Refresh() (changed []string, err error)
	// Staged is how many keys differ from the copy. Safe for concurrent use.
	Staged() int
}

// touch notes that entry seq changed a key, of a zone, of a zone's name or of the
// defaults, and reports whether it is a zone's.
func (a *applier) touch(key string, seq uint64) bool {
	rest, ok := strings.CutPrefix(key, zone.PrefixZone)
	if ok {
		id, _, _ := strings.Cut(rest, "/")
		a.touched[id] = seq
	} else if name, named := strings.CutPrefix(key, zone.PrefixName); named {
		a.names[name] = seq
	} else if key == zone.KeyDefaults {
		a.recast = seq
	}
	return ok
}

// restage takes in what stages say since entries about them were noted: of zones
// that one is laid over now, or no more. One that cannot be used is left out,
// which is the state before it.
func (a *applier) restage(reject func(seq uint64, why error)) {
	if a.stages == 0 {
		return
	}
	changed, err := a.staged.Refresh()
	if err := a.edge.rejects.note("stages", a.stages, err); err != nil {
		reject(a.stages, err)
	}
	for _, key := range changed {
		a.touch(key, a.stages)
	}
	a.stages = 0
}

// redefault makes true what was noted of the operator's defaults: before the zones
// of the same entries are, which are compiled over them.
func (a *applier) redefault(reject func(seq uint64, why error)) {
	if a.recast == 0 {
		return
	}
	if err := a.edge.rejects.note("defaults", a.recast, a.edge.zones.Recast(func(id string, err error) {
		if err := a.edge.rejects.note("zone/"+id, a.recast, err); err != nil {
			reject(a.recast, err)
		}
	})); err != nil {
		reject(a.recast, err)
	}
	a.recast = 0
}
