package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// sample is the state of all edges together.
type sample struct {
	at         time.Duration
	goroutines float64
	fds        float64
	anon, mem  float64 // bytes: anonymous, all resident
}

// watch takes samples.
type watch struct {
	dev     *dev
	began   time.Time
	samples []sample
	read    int64  // bytes of the log that were read
	end     sample // when nobody has asked for a while
}

const sampleEvery = 10 * time.Second

// run samples until ctx ends. An edge that cannot be asked is an error.
func (w *watch) run(ctx context.Context, t *tally) error {
	w.began = time.Now()
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		s, err := w.sample(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if err := w.readLog(); err != nil {
			return err
		}
		w.samples = append(w.samples, s)
		fmt.Printf("%7s whole %d, parts %d, 5xx %d, cut %d, wrong %d; goroutines %.0f, descriptors %.0f, resident %.0f MiB\n",
			s.at.Round(time.Second), t.whole.Load(), t.part.Load(), t.failed.Load(), t.cut.Load(), t.wrongSoFar(), s.goroutines, s.fds, s.mem/(1<<20))
	}
}

// settle waits until connections have timed out, and samples once more.
func (w *watch) settle(ctx context.Context) error {
	select {
	case <-time.After(100 * time.Second):
	case <-ctx.Done():
		return ctx.Err()
	}
	var err error
	if w.end, err = w.sample(ctx); err != nil {
		return err
	}
	return w.readLog()
}

// broken is what a process prints that has found itself broken.
var broken = []string{"panic: ", "fatal error: ", "DATA RACE"}

// readLog is an error when something broken was printed since it was last called.
func (w *watch) readLog() error {
	f, err := os.Open(w.dev.log)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Seek(w.read, io.SeekStart); err != nil {
		return err
	}
	text, err := io.ReadAll(f)
	if err != nil {
		return err
	}
	text = text[:bytes.LastIndexByte(text, '\n')+1] // the rest of a line comes later
	w.read += int64(len(text))
	for line := range strings.Lines(string(text)) {
		for _, word := range broken {
			if strings.Contains(line, word) {
				return fmt.Errorf("%s: %s", w.dev.log, line)
			}
		}
	}
	return nil
}

func (w *watch) sample(ctx context.Context) (sample, error) {
	s := sample{at: time.Since(w.began)}
	for i := range w.dev.Edges {
		e := &w.dev.Edges[i]
		values, err := scrape(ctx, e.Metrics)
		if err != nil {
			return s, fmt.Errorf("edge %d: %w", i, err)
		}
		s.goroutines += values["go_goroutines"]
		s.fds += values["process_open_fds"]
		s.mem += values["process_resident_memory_bytes"]
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", e.PID))
		if err != nil {
			return s, fmt.Errorf("edge %d has ended: %w", i, err)
		}
		_, rest, _ := strings.Cut(string(text), "RssAnon:")
		line, _, _ := strings.Cut(rest, "kB")
		n, err := strconv.ParseFloat(strings.TrimSpace(line), 64)
		if err != nil {
			return s, err
		}
		s.anon += n * 1024
	}
	return s, nil
}

// scrape reads the metrics without labels.
func scrape(ctx context.Context, addr string) (map[string]float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	values := map[string]float64{}
	for lines := bufio.NewScanner(res.Body); lines.Scan(); {
		name, value, ok := strings.Cut(lines.Text(), " ")
		if v, err := strconv.ParseFloat(value, 64); ok && err == nil {
			values[name] = v
		}
	}
	return values, nil
}

// What may remain when all visitors have gone, beyond what was there early.
const (
	moreGoroutines = 64
	moreFDs        = 64
	moreMemory     = 64 << 20
)

// figure is one line of the report, as the benchmarks' are.
type figure struct {
	Name     string     `json:"name"`
	Unit     string     `json:"unit"`
	Ours     float64    `json:"ours"`
	Peer     *float64   `json:"peer"`
	PeerName *string    `json:"peer_name"`
	Ratio    *float64   `json:"ratio"`
	Spread   [2]float64 `json:"spread"` // of one run
	Bar      float64    `json:"bar"`
	Sense    string     `json:"sense"`
	Met      bool       `json:"met"`
	Detail   string     `json:"detail,omitempty"`
}

// report prints and writes the figures; a promise that was not kept is an error.
func report(o options, w *watch, t *tally) error {
	if len(w.samples) < 3 {
		return errors.New("too short to judge: -for has to be 30s at least")
	}
	early := w.samples[len(w.samples)/4]
	figures := []figure{
		{Name: "answers with a wrong byte", Unit: "answers", Ours: float64(t.wrongs), Bar: 0, Detail: strings.Join(t.wrong, "\n")},
		{Name: "purges that were not confirmed", Unit: "purges", Ours: float64(t.unpurged.Load()), Bar: float64(t.purges.Load() / 100)},
		{Name: "goroutines left over", Unit: "goroutines", Ours: w.end.goroutines - early.goroutines, Bar: moreGoroutines},
		{Name: "descriptors left over", Unit: "descriptors", Ours: w.end.fds - early.fds, Bar: moreFDs},
		{Name: "anonymous memory left over", Unit: "bytes", Ours: w.end.anon - early.anon, Bar: moreMemory},
	}
	var err error
	for i := range figures {
		f := &figures[i]
		f.Sense, f.Met, f.Spread = "<=", f.Ours <= f.Bar, [2]float64{f.Ours, f.Ours}
		fmt.Printf("%s: %.0f (at most %.0f)\n", f.Name, f.Ours, f.Bar)
		if f.Detail != "" {
			fmt.Println(f.Detail)
		}
		if !f.Met {
			err = errors.Join(err, fmt.Errorf("%s: %.0f, at most %.0f", f.Name, f.Ours, f.Bar))
		}
	}
	fmt.Printf("%d purges\n", t.purges.Load())
	for status, n := range t.byStatus.Range {
		fmt.Printf("%s: %d\n", status, n.(*atomic.Int64).Load())
	}
	if t.whole.Load() == 0 || t.part.Load() == 0 {
		err = errors.Join(err, errors.New("no whole page or no part was ever answered: the test has tested nothing"))
	}
	text, failed := json.MarshalIndent(figures, "", "  ")
	if failed == nil {
		failed = os.MkdirAll(filepath.Dir(o.out), 0o755)
	}
	if failed == nil {
		failed = os.WriteFile(o.out, append(text, '\n'), 0o600)
	}
	return errors.Join(err, failed)
}
