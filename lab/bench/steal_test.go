package main

import (
	"testing"
	"time"
)

func TestStealIsTheEighthFigure(t *testing.T) {
	got, err := stealOf("cpu  484102 162888 176961 642433 6320 1 20439 61338 0 0\ncpu0 1 2 3\n")
	if err != nil || got != 61338*10*time.Millisecond {
		t.Errorf("%s, %v", got, err)
	}
	for _, bad := range []string{"", "cpu 1 2 3", "cpu0 1 2 3 4 5 6 7 8 9", "cpu  a b c d e f g h i"} {
		if got, err := stealOf(bad); err == nil {
			t.Errorf("%q is read as %s", bad, got)
		}
	}
}
