package main

import (
	"math"
	"testing"
)

// TestSharesAddUp replays a trace in which a few objects are asked for often.
func TestSharesAddUp(t *testing.T) {
	var trace []request
	for i := range 20_000 {
		id := uint64(i % 10)
		if i%4 == 0 {
			id = uint64(1000 + i)
		}
		trace = append(trace, request{id, 1})
	}
	part := shares(trace)
	sum := 0.0
	for _, p := range part {
		sum += p
	}
	if math.Abs(sum-1) > 1e-9 {
		t.Errorf("the shares add up to %v", sum)
	}
	// A quarter is asked for once, and ten objects more.
	if want := .25 + 10./20_000; math.Abs(part[tierOrigin]-want) > .002 {
		t.Errorf("the origin has %v, want %v", part[tierOrigin], want)
	}
	if part[tierRAM] < .7 {
		t.Errorf("memory answers %v", part[tierRAM])
	}
}
