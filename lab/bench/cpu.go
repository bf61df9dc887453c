package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of /proc/PID/stat's times: 1/100 s on Linux, whatever the
// kernel's own clock.
const tick = 10 * time.Millisecond

// cpuTime sums user and system time of the server's processes, threads that
// ended and children that were waited for included (proc(5), stat).
func cpuTime(s *server) (time.Duration, error) {
	pids, err := s.pids()
	if err != nil {
		return 0, err
	}
	var sum time.Duration
	for _, pid := range pids {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return 0, fmt.Errorf("%s: %w", s.name, err)
		}
		n, err := ticksOf(stat)
		if err != nil {
			return 0, fmt.Errorf("%s: pid %d: %w", s.name, pid, err)
		}
		sum += time.Duration(n) * tick
	}
	return sum, nil
}

// ticksOf adds fields 14 to 17 of a stat line: utime, stime, cutime, cstime.
// The name in field 2 may hold spaces and brackets, so it counts from the last.
func ticksOf(stat []byte) (int64, error) {
	end := bytes.LastIndexByte(stat, ')')
	fields := strings.Fields(string(stat[end+1:]))
	if end < 0 || len(fields) < 15 {
		return 0, fmt.Errorf("unexpected stat line %.100q", stat)
	}
	var sum int64
	for _, f := range fields[11:15] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}

// resident is the anonymous memory of the server's processes in bytes
// (proc(5), status: RssAnon).
func resident(s *server) (int64, error) {
	pids, err := s.pids()
	if err != nil {
		return 0, err
	}
	var sum int64
	for _, pid := range pids {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			return 0, fmt.Errorf("%s: %w", s.name, err)
		}
		_, rest, _ := strings.Cut(string(text), "RssAnon:")
		line, _, _ := strings.Cut(rest, "kB")
		n, err := strconv.ParseInt(strings.TrimSpace(line), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("%s: pid %d: %w", s.name, pid, err)
		}
		sum += n << 10
	}
	return sum, nil
}
