package arena

import (
	"bytes"
	"testing"
)

func TestBytesStayUntilReset(t *testing.T) {
	var a Arena
	kept := make([][]byte, 0, 100)
	for i := range 100 {
		kept = append(kept, a.Copy(bytes.Repeat([]byte{byte(i)}, 1000)))
	}
	for i, p := range kept {
		if len(p) != 1000 || p[0] != byte(i) || p[999] != byte(i) {
			t.Fatalf("slice %d was overwritten", i)
		}
	}
	big := a.Alloc(1 << 20)
	if len(big) != 1<<20 || cap(big) != 1<<20 {
		t.Errorf("len %d cap %d", len(big), cap(big))
	}
	if a.Copy(nil) != nil || a.CopyString("") != nil || string(a.CopyString("text")) != "text" {
		t.Error("copies of nothing and of text")
	}
}

func TestAppendToASliceNeverReachesItsNeighbour(t *testing.T) {
	var a Arena
	one, two := a.CopyString("one"), a.CopyString("two")
	_ = append(one, "overrun"...)
	if string(two) != "two" {
		t.Errorf("neighbour is now %q", two)
	}
}

func TestSteadyStateAllocatesNothing(t *testing.T) {
	var a Arena
	use := func() {
		a.Reset()
		for range 10 {
			a.Alloc(100)
		}
	}
	use()
	if n := testing.AllocsPerRun(100, use); n != 0 {
		t.Errorf("%v allocations per request, want 0", n)
	}
}
