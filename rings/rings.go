// Package rings says which data centers get a change before the others do. It
// promises that what a node serves is a function of the entries that it has and
// of its data center's code: the order in which they came, a snapshot or a
// restart in between make no difference.
//
// A change that goes by rings is a stage: one key that holds the changes and the
// ring that they are released to. Each node stores it like any other key, and a
// node of that ring, or of one before, reads its copy through a View that lays the
// changes over what the copy has.
package rings

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/selvage-edge/selvage/zone"
)

// Ring is how far a stage is released. A later ring includes those before.
type Ring uint8

// The rings, in their order.
const (
	Canary Ring = iota + 1 // the data centers that are named for it
	Share                  // a share of the others
	All
)

var ringNames = [...]string{Canary: "canary", Share: "share", All: "all"}

func (r Ring) String() string {
	if r < Canary || r > All {
		return "none"
	}
	return ringNames[r]
}

// MarshalText implements encoding.TextMarshaler.
func (r Ring) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (r *Ring) UnmarshalText(text []byte) error {
	for ring := Canary; ring <= All; ring++ {
		if string(text) == ring.String() {
			*r = ring
			return nil
		}
	}
	return fmt.Errorf("must be canary, share or all, got %.20q", text)
}

// Limits on a Definition.
const (
	MaxCanaries = 64
	MaxShare    = 99
	MaxHold     = 7 * 24 * 3600 // seconds
)

// Definition says who is in which ring, and how long a change stays in one before
// the next gets it.
type Definition struct {
	// Canaries are the data centers of the first ring. Where none is named, the
	// control plane takes one of those that there are.
	Canaries []string `json:"canaries"`
	// Share is which part of the other data centers is the second ring, in percent:
	// about, since each is in it or not by a hash of its code, whichever others
	// there are.
	Share int `json:"share_percent"`
	// CanaryHold and ShareHold are for how many seconds a change stays in a ring,
	// from when the connected nodes of it have it.
	CanaryHold int `json:"canary_hold_seconds"`
	ShareHold  int `json:"share_hold_seconds"`
}

// Default is the definition where the operator gave none.
func Default() Definition {
	return Definition{Canaries: []string{}, Share: 10, CanaryHold: 600, ShareHold: 1800}
}

// Check refuses what cannot be; the error begins with the field.
func (d *Definition) Check() error {
	if err := checkMembers(d.Canaries, d.Share); err != nil {
		return err
	}
	for field, hold := range map[string]int{"canary_hold_seconds": d.CanaryHold, "share_hold_seconds": d.ShareHold} {
		if hold < 1 || hold > MaxHold {
			return fmt.Errorf("%s: must be from 1 to %d, got %d", field, MaxHold, hold)
		}
	}
	return nil
}

func checkMembers(canaries []string, share int) error {
	if len(canaries) > MaxCanaries {
		return fmt.Errorf("canaries: at most %d data centers, got %d", MaxCanaries, len(canaries))
	}
	for i, colo := range canaries {
		if !zone.ValidColo(colo) {
			return fmt.Errorf("canaries[%d]: must be a data center's code of three capital letters, got %.20q", i, colo)
		}
		if slices.Contains(canaries[:i], colo) {
			return fmt.Errorf("canaries[%d]: %s is named twice", i, colo)
		}
	}
	if share < 0 || share > MaxShare {
		return fmt.Errorf("share_percent: must be from 0 to %d, got %d", MaxShare, share)
	}
	return nil
}

// Of is the ring of a data center.
func (d *Definition) Of(colo string) Ring { return ringOf(d.Canaries, d.Share, colo) }

func ringOf(canaries []string, share int, colo string) Ring {
	switch {
	case slices.Contains(canaries, colo):
		return Canary
	case Rank(colo) < uint64(share)*rankStep:
		return Share
	}
	return All
}

// rankStep is the part of all ranks that is a percent.
const rankStep = 1 << 32

// Rank is where a data center stands among all that could be, by a hash of its
// code: below 100·2³².
func Rank(colo string) uint64 {
	sum := sha256.Sum256([]byte("selvage ring " + colo))
	return binary.BigEndian.Uint64(sum[:]) % (100 * rankStep)
}

// Hold is how long a ring keeps a change, in seconds; 0 for the last.
func (d *Definition) Hold(r Ring) int {
	switch r {
	case Canary:
		return d.CanaryHold
	case Share:
		return d.ShareHold
	}
	return 0
}

// Resolve names a canary where none is named: of the data centers that there
// are the one that stands first.
func (d Definition) Resolve(colos []string) Definition {
	if len(d.Canaries) > 0 || len(colos) == 0 {
		return d
	}
	d.Canaries = []string{slices.MinFunc(colos, func(a, b string) int {
		if ra, rb := Rank(a), Rank(b); ra != rb {
			if ra < rb {
				return -1
			}
			return 1
		}
		return 0
	})}
	return d
}
