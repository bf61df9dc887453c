package edge

import (
	"fmt"
	"maps"
	"strings"

	"github.com/selvage-edge/selvage/edge/phase/cache/mark"
	"github.com/selvage-edge/selvage/zone"
)

// openMarks opens the journal of purges, so that what is stored on disk and
// elsewhere stays purged after a restart.
func (e *Edge) openMarks() {
	marks, newLife, err := mark.Open(e.cfg.State)
	if err != nil {
		// No reason not to serve: what is stored now is not used after a restart.
		e.log.Error("purges are kept in memory alone; what was stored before is not served", "err", err)
		marks = mark.NewLasting()
	} else if newLife {
		e.log.Info("the journal of purges begins anew; what was stored before is not served")
	}
	e.marks = marks
}

// resumeMarks purges what the journal, as it was left, does not know of.
func (e *Edge) resumeMarks() error {
	newest := map[string]uint64{}
	err := e.copy.Scan(zone.PrefixPurge, func(key string, _ []byte, seq uint64) error {
		newest[strings.TrimPrefix(key, zone.PrefixPurge)] = seq
		return nil
	})
	if err != nil {
		return fmt.Errorf("list purges of the copy: %w", err)
	}
	return e.cache.Resume(e.copy.Generation(), e.copy.Cursor().Seq, maps.All(newest))
}
