// Package report is what nodes tell the control plane of themselves on the road
// up, as it is written there. It promises that what is read has the limits that
// are named here, and that what a newer version adds is passed over.
package report

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
	"unicode"
	"unicode/utf8"
)

// Health is how an edge is. Counters begin at 0 when its process starts, which
// Started tells apart.
type Health struct {
	Version int       `json:"v"` // of this form: 1
	Started time.Time `json:"started"`
	State   string    `json:"state"` // loading, ready or draining
	Zones   int       `json:"zones"`
	// Requests are answered ones, Failed those with 5xx whoever's fault, Errors
	// those of them that were the edge's own.
	Requests uint64 `json:"requests"`
	Failed   uint64 `json:"failed"`
	Errors   uint64 `json:"errors"`
	// Rejected is of how much configuration the newest cannot be used now (zones,
	// the list of nodes), Rejections how often an entry could not.
	Rejected   int    `json:"rejected"`
	Rejections uint64 `json:"rejections"`
	// Bytes; 0 for not known.
	MemoryUsed uint64 `json:"memory_used"` // of the process
	MemoryFree uint64 `json:"memory_free"` // of the machine
	DiskFree   uint64 `json:"disk_free"`   // below the state folder
	DiskTotal  uint64 `json:"disk_total"`
	// AuditWaiting is how many audit events are not stored by the control plane
	// yet, AuditRefused how many found no room to wait.
	AuditWaiting int    `json:"audit_waiting"`
	AuditRefused uint64 `json:"audit_refused"`
	// Problems are why the edge is not healthy, a sentence each; none when it is.
	Problems []string `json:"problems,omitempty"`
}

// Limits of a Health.
const (
	HealthVersion   = 1
	MaxProblems     = 8
	MaxProblemBytes = 200
	maxHealthBytes  = 4 << 10
)

// States of an edge.
const (
	Loading  = "loading"
	Ready    = "ready"
	Draining = "draining"
)

// Encode writes h, with as many of its problems, and as much of each, as may
// travel.
func (h Health) Encode() ([]byte, error) {
	h.Version, h.Started = HealthVersion, h.Started.UTC()
	if h.Problems = slices.Clone(h.Problems); len(h.Problems) > MaxProblems {
		h.Problems = h.Problems[:MaxProblems]
	}
	for i, p := range h.Problems {
		h.Problems[i] = plain(p, MaxProblemBytes)
	}
	return json.Marshal(h)
}

// DecodeHealth reads what Encode wrote, here or in another version.
func DecodeHealth(p []byte) (h Health, err error) {
	if len(p) > maxHealthBytes {
		return h, fmt.Errorf("health of %d bytes, at most %d", len(p), maxHealthBytes)
	}
	if err := json.Unmarshal(p, &h); err != nil {
		return Health{}, fmt.Errorf("health: %w", err)
	}
	switch {
	case h.Version < 1:
		err = fmt.Errorf("health of version %d", h.Version)
	case h.State != Loading && h.State != Ready && h.State != Draining:
		err = fmt.Errorf("health: state %.20q", h.State)
	case h.Zones < 0 || h.Rejected < 0 || h.AuditWaiting < 0:
		err = errors.New("health: a count below 0")
	case len(h.Problems) > MaxProblems:
		err = fmt.Errorf("health: %d problems, at most %d", len(h.Problems), MaxProblems)
	}
	if err != nil {
		return Health{}, err
	}
	for i, p := range h.Problems {
		h.Problems[i] = plain(p, MaxProblemBytes)
	}
	h.Started = h.Started.UTC()
	return h, nil
}

// plain is at most limit bytes of text without control characters: it is shown on
// terminals.
func plain(text string, limit int) string {
	out := make([]byte, 0, min(len(text), limit))
	for _, r := range text {
		if !unicode.IsPrint(r) {
			r = ' '
		}
		if len(out)+utf8.RuneLen(r) > limit {
			break
		}
		out = utf8.AppendRune(out, r)
	}
	return string(out)
}
