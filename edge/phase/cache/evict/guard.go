package evict

import (
	"math/rand/v2"
	"sync/atomic"
)

// Guard keeps a zone that brings in much that is never asked for again from
// taking room from others: from the small queue what is not asked for there, from
// the main queue what was asked for a few times at once and then no more. It acts
// where items come into a queue and nowhere else. Zones share Slots counters by
// hash, so that its memory is bounded; two that fall on one slot are judged
// together. Its methods may be called by any goroutine.
type Guard struct{ small, main judge }

// judge compares zones by what comes of the items that they have in one queue.
type judge struct {
	zones [guardSlots]yield
	all   yield
}

// yield counts items of a zone that have left a queue, and those of them that
// were hit there. Both are halved now and then.
type yield struct{ left, hit atomic.Int64 }

const (
	guardSlots = 1024
	enough     = 256  // items that tell something
	horizon    = 2048 // items after which older ones count half
	slack      = 4    // a zone may have so many times less use than the others
	leastPart  = 32   // one in so many is let in all the same, so that change is seen
)

// Left notes that an item of a zone left the small queue.
func (g *Guard) Left(zone uint64, hit bool) { g.small.note(zone, hit) }

// Stayed notes that an item of a zone left the main queue.
func (g *Guard) Stayed(zone uint64, hit bool) { g.main.note(zone, hit) }

// Admits reports whether an item of a zone is to be held. It always is where the
// zone's items are of use nearly as often as others' are, or nobody else's are
// known.
func (g *Guard) Admits(zone uint64) bool { return g.small.admits(zone) }

// Rises is Admits for the way from the small queue to the main queue.
func (g *Guard) Rises(zone uint64) bool { return g.main.admits(zone) }

func (j *judge) note(zone uint64, hit bool) {
	j.zones[zone%guardSlots].add(hit, horizon)
	j.all.add(hit, horizon*64)
}

func (y *yield) add(hit bool, most int64) {
	if hit {
		y.hit.Add(1)
	}
	if y.left.Add(1) < most {
		return
	}
	y.left.Store(y.left.Load() / 2) // losing a count to a race is fine
	y.hit.Store(y.hit.Load() / 2)
}

func (j *judge) admits(zone uint64) bool {
	z := &j.zones[zone%guardSlots]
	left, hit := z.left.Load(), z.hit.Load()
	others, othersHit := j.all.left.Load()-left, j.all.hit.Load()-hit
	if left < enough || others < enough || othersHit <= 0 {
		return true
	}
	// hit/left against othersHit/others, slack times.
	mine, theirs := slack*hit*others, othersHit*left
	if mine >= theirs {
		return true
	}
	return rand.Int64N(theirs) < max(mine, theirs/leastPart)
}
