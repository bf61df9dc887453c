package feed

import "time"

const (
	// ackEvery is how often a node acknowledges that has nothing new.
	ackEvery = time.Second
	// ackGather is the least time between two acknowledgements otherwise.
	ackGather = 100 * time.Millisecond
)

// ackPace lets acknowledgements that follow each other closely share a frame: each
// costs every parent a read. The first after a pause goes at once.
type ackPace struct {
	now  bool             // one is to be said
	last time.Time        // when one was
	due  <-chan time.Time // when the one that waits is; nil for none
}

// said notes that what was to be said was.
func (a *ackPace) said() {
	if a.now {
		*a = ackPace{last: time.Now()}
	}
}

// wanted says that there is something to acknowledge, which waits for company
// unless it is urgent.
func (a *ackPace) wanted(urgent bool) {
	wait := time.Until(a.last.Add(ackGather))
	switch {
	case urgent || wait <= 0:
		a.now = true
	case a.due == nil:
		a.due = time.After(wait)
	}
}
