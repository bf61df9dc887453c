package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// A virtual machine loses processor time to its neighbours. When the load
// generator loses it, the server under test sleeps and wakes more often per
// request, and what is measured is the host. Pairs in which more than maxStolen
// of the machine's time was lost are put aside, for both sides alike, and taken
// again, at most retries times as often as there are pairs.
const (
	maxStolen = 0.03
	retries   = 3
)

// stolen returns the time that the host has taken from all processors since
// the start (proc(5), stat: steal), 0 where the kernel does not tell.
func stolen() (time.Duration, error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	return stealOf(string(text))
}

func stealOf(stat string) (time.Duration, error) {
	line, _, _ := strings.Cut(stat, "\n")
	fields := strings.Fields(line)
	if len(fields) < 9 || fields[0] != "cpu" {
		return 0, fmt.Errorf("unexpected line in /proc/stat: %.100q", line)
	}
	n, err := strconv.ParseInt(fields[8], 10, 64)
	return time.Duration(n) * tick, err
}
