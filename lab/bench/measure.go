package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"
)

const (
	host = "bench.test"
	// tick is the unit of /proc/PID/stat's times: 1/100 s on Linux, whatever
	// the kernel's own clock.
	tick = 10 * time.Millisecond
)

// warm asks until the answer comes from the cache, and checks its size.
func warm(ctx context.Context, s *server, w workload) error {
	status := ""
	for range 20 {
		n, cache, err := ask(ctx, s, w)
		if err != nil {
			return fmt.Errorf("%s: warm %s: %w", s.name, w.path, err)
		}
		if n != w.size {
			return fmt.Errorf("%s: %s has %d bytes, want %d", s.name, w.path, n, w.size)
		}
		if status = cache; status == "HIT" {
			return nil
		}
	}
	return fmt.Errorf("%s: %s is never a HIT, it stays %q", s.name, w.path, status)
}

func ask(ctx context.Context, s *server, w workload) (size int, cache string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.addr+w.path, nil)
	if err != nil {
		return 0, "", err
	}
	req.Host = host
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, "", err
	}
	if res.StatusCode != http.StatusOK {
		return 0, "", fmt.Errorf("status %d: %.200s", res.StatusCode, body)
	}
	return len(body), res.Header.Get("CF-Cache-Status"), nil
}

var (
	wrkTotal  = regexp.MustCompile(`(\d+) requests in`)
	wrkErrors = regexp.MustCompile(`Socket errors: .*|Non-2xx or 3xx responses: \d+`)
)

// measure loads the server for d and returns its CPU time per request in µs.
func measure(ctx context.Context, s *server, w workload, conns int, d time.Duration) (float64, error) {
	before, err := cpuTime(s)
	if err != nil {
		return 0, err
	}
	limit, cancel := context.WithTimeout(ctx, d+30*time.Second)
	defer cancel()
	out, err := exec.CommandContext(limit, "taskset", "-c", "1", "wrk", "--timeout", "10s", "-t1", "-c"+strconv.Itoa(conns),
		fmt.Sprintf("-d%ds", int(d.Seconds())), "-H", "Host: "+host, "http://"+s.addr+w.path).CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("wrk: %w: %s", err, out)
	}
	after, err := cpuTime(s)
	if err != nil {
		return 0, err
	}
	if bad := wrkErrors.Find(out); bad != nil {
		return 0, fmt.Errorf("%s: %s", s.name, bad)
	}
	m := wrkTotal.FindSubmatch(out)
	if m == nil {
		return 0, fmt.Errorf("wrk printed no count: %s", out)
	}
	requests, err := strconv.Atoi(string(m[1]))
	if err != nil || requests == 0 {
		return 0, fmt.Errorf("%s answered %s requests", s.name, m[1])
	}
	_, cache, err := ask(ctx, s, w)
	if err != nil {
		return 0, fmt.Errorf("%s: after the load: %w", s.name, err)
	}
	if cache != "HIT" {
		return 0, fmt.Errorf("%s: after the load %s is %q, want HIT", s.name, w.path, cache)
	}
	return float64((after - before).Microseconds()) / float64(requests), nil
}

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

// childrenOf lists the processes whose parent is pid.
func childrenOf(pid int) ([]int, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, f := range strings.Fields(string(text)) {
		n, err := strconv.Atoi(f)
		if err != nil {
			return nil, err
		}
		pids = append(pids, n)
	}
	return pids, nil
}
