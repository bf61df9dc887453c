package rings

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/selvage-edge/selvage/feed"
	"github.com/selvage-edge/selvage/zone"
)

// Prefix begins the keys of stages, stage/{number}; KeyDefinition is the key of
// the Definition.
const (
	Prefix        = "stage/"
	KeyDefinition = "rings"
)

// Limits on stages.
const (
	// MaxPending is how many stages there may be at a time.
	MaxPending = 64
	// MaxChanges is how many changes a stage may hold.
	MaxChanges = 1000
	maxBy      = 64
	version    = 1
)

// Key is the key of stage n.
func Key(n uint64) string { return Prefix + strconv.FormatUint(n, 10) }

// Number reads a stage's number out of its key.
func Number(key string) (n uint64, ok bool) {
	text, ok := strings.CutPrefix(key, Prefix)
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(text, 10, 64)
	return n, err == nil && n > 0 && Key(n) == key
}

// Stage is a change on its way through the rings, as nodes get it. It carries
// who is in which ring, so that a later Definition does not move it.
type Stage struct {
	Version  int       `json:"version"`
	Ring     Ring      `json:"ring"` // released to: Canary or Share
	Canaries []string  `json:"canaries"`
	Share    int       `json:"share_percent"`
	Staged   time.Time `json:"staged"`
	By       string    `json:"by"` // who made the change
	Changes  []Change  `json:"changes"`
}

// Change is one change of a stage.
type Change struct {
	Key    string `json:"key"`
	Value  []byte `json:"value"`
	Delete bool   `json:"delete,omitempty"`
}

// NewStage makes a stage for the first ring of d.
func NewStage(d Definition, by string, at time.Time, changes []feed.Change) *Stage {
	s := &Stage{Version: version, Ring: Canary, Canaries: d.Canaries, Share: d.Share, Staged: at, By: by}
	for _, c := range changes {
		s.Changes = append(s.Changes, Change{Key: c.Key, Value: c.Value, Delete: c.Op == feed.Delete})
	}
	return s
}

// Feed are the changes as an entry carries them when the stage is released to all.
func (s *Stage) Feed() []feed.Change {
	all := make([]feed.Change, len(s.Changes))
	for i, c := range s.Changes {
		all[i] = feed.Change{Op: feed.Set, Key: c.Key, Value: c.Value}
		if c.Delete {
			all[i] = feed.Change{Op: feed.Delete, Key: c.Key}
		}
	}
	return all
}

// Of is the ring of a data center in this stage.
func (s *Stage) Of(colo string) Ring { return ringOf(s.Canaries, s.Share, colo) }

// Encode is the value that travels. What is too large for one, or may not be
// staged, is an error.
func (s *Stage) Encode() ([]byte, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	value, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("encode a stage: %w", err)
	}
	if len(value) > zone.MaxValueBytes {
		return nil, fmt.Errorf("the change is too large to go by rings: its stage has %d bytes, at most %d; make it in parts", len(value), zone.MaxValueBytes)
	}
	return value, nil
}

// Decode reads a stage's value. What another version wrote is an error: nobody
// guesses at what to serve.
func Decode(value []byte) (*Stage, error) {
	if len(value) > zone.MaxValueBytes {
		return nil, fmt.Errorf("a stage of %d bytes, at most %d", len(value), zone.MaxValueBytes)
	}
	var s Stage
	if err := json.Unmarshal(value, &s); err != nil {
		return nil, fmt.Errorf("read a stage: %w", err)
	}
	if err := s.check(); err != nil {
		return nil, err
	}
	return &s, nil
}

func (s *Stage) check() error {
	switch {
	case s.Version != version:
		return fmt.Errorf("a stage of version %d, this program knows %d", s.Version, version)
	case s.Ring != Canary && s.Ring != Share:
		return fmt.Errorf("ring: a stage is released to canary or share, not to %s", s.Ring)
	case len(s.By) > maxBy:
		return fmt.Errorf("by: %d bytes, at most %d", len(s.By), maxBy)
	case len(s.Changes) == 0:
		return errors.New("changes: a stage without any")
	case len(s.Changes) > MaxChanges:
		return fmt.Errorf("the change is too large to go by rings: it changes %d keys, at most %d; make it in parts", len(s.Changes), MaxChanges)
	}
	if err := checkMembers(s.Canaries, s.Share); err != nil {
		return err
	}
	seen := make(map[string]bool, len(s.Changes))
	for i, c := range s.Changes {
		if !Stageable(c.Key) {
			return fmt.Errorf("changes[%d]: the key %.80q cannot go by rings", i, c.Key)
		}
		if seen[c.Key] {
			return fmt.Errorf("changes[%d]: the key %.80q is there twice", i, c.Key)
		}
		seen[c.Key] = true
		if c.Delete && len(c.Value) > 0 {
			return fmt.Errorf("changes[%d]: deletes %.80q and gives it a value", i, c.Key)
		}
	}
	return nil
}

// Stageable reports whether a key may differ between rings: the parts of a zone,
// but for its certificates, which have a way of their own, and what the operator
// says for all zones. What machinery reads, and which zones there are, is the same
// on every node.
func Stageable(key string) bool {
	if len(key) > feed.MaxKeyBytes || strings.IndexByte(key, 0) >= 0 {
		return false
	}
	rest, ok := strings.CutPrefix(key, zone.PrefixZone)
	if !ok {
		return strings.HasPrefix(key, zone.PrefixOperator) && len(key) > len(zone.PrefixOperator)
	}
	id, part, ok := strings.Cut(rest, "/")
	kind, _, _ := strings.Cut(part, "/")
	return ok && id != "" && kind != "" && kind != "cert"
}
