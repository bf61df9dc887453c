package feed

import (
	"testing"
	"testing/synctest"
	"time"
)

// The first acknowledgement after a pause goes at once, those that follow share
// one, and a rejection waits for nothing.
func TestAcknowledgementsThatFollowCloselyShareAFrame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var a ackPace
		a.wanted(false)
		if !a.now {
			t.Error("the first one waits")
		}
		a.said()
		start := time.Now()
		for range 3 {
			a.wanted(false)
			if a.now {
				t.Error("one that follows at once does not wait")
			}
			a.said()
			<-time.After(10 * time.Millisecond)
		}
		<-a.due
		if took := time.Since(start); took != ackGather {
			t.Errorf("it waits for %s, want %s", took, ackGather)
		}
		a.now = true
		a.said()
		a.wanted(true)
		if !a.now {
			t.Error("a rejection waits")
		}
		a.said()
		<-time.After(ackGather)
		if a.wanted(false); !a.now {
			t.Error("one after a pause waits")
		}
	})
}
