package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"
)

// load is an order to write for some time.
type load struct {
	Rate  int           // changes a second
	For   time.Duration // how long
	Value int           // bytes
	Warm  bool          // what is written is not measured
}

// written is what came of it.
type written struct {
	Changes int
	Slowest time.Duration // from when a change was due to when it was durable
}

const (
	writers = 64
	keys    = 10_000 // that change in turn
	prefix  = "bench/"
	atBytes = 19 // of a time in nanoseconds, in digits
)

// newValue is a JSON document with the time when it was due. Most of it is
// random, so that it hardly compresses and compression is no advantage.
func newValue(n int, due time.Time) []byte {
	noise := make([]byte, n)
	_, _ = rand.Read(noise) // never fails (crypto/rand)
	at := int64(0)
	if !due.IsZero() {
		at = due.UnixNano()
	}
	v := fmt.Appendf(nil, `{"at":"%0*d","data":"`, atBytes, at)
	v = base64.StdEncoding.AppendEncode(v, noise)
	return append(v[:max(n-2, len(`{"at":"","data":"`)+atBytes)], `"}`...)
}

// dueAt is the time that a value carries; zero of one that is not measured.
func dueAt(value []byte) (time.Time, error) {
	const start = len(`{"at":"`)
	if len(value) < start+atBytes {
		return time.Time{}, fmt.Errorf("value of %d bytes", len(value))
	}
	n, err := strconv.ParseInt(string(value[start:start+atBytes]), 10, 64)
	if err != nil || n == 0 {
		return time.Time{}, err
	}
	return time.Unix(0, n), nil
}

// put makes one change durable and visible.
type put func(ctx context.Context, key string, value []byte) error

// write puts changes at an even rate, whether or not those before are done, as
// people do who know nothing of each other.
func (p put) write(ctx context.Context, l load) (w written, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	type job struct {
		n   int
		due time.Time
	}
	jobs := make(chan job, writers*100)
	var work sync.WaitGroup
	var mu sync.Mutex
	for range writers {
		work.Go(func() {
			for j := range jobs {
				stamp := j.due
				if l.Warm {
					stamp = time.Time{}
				}
				if err := p(ctx, fmt.Sprintf("%s%05d", prefix, j.n%keys), newValue(l.Value, stamp)); err != nil {
					cancel(err)
					return
				}
				took := time.Since(j.due)
				mu.Lock()
				w.Changes++
				w.Slowest = max(w.Slowest, took)
				mu.Unlock()
			}
		})
	}
	each := time.Second / time.Duration(l.Rate)
	start := time.Now()
	for n := range int(l.For / each) {
		due := start.Add(time.Duration(n) * each)
		if d := time.Until(due); d > 0 {
			time.Sleep(d)
		}
		select {
		case jobs <- job{n, due}:
		case <-ctx.Done():
		}
	}
	close(jobs)
	work.Wait()
	return w, context.Cause(ctx)
}

// server is the role of the three systems: what differs is how a change is put.
type server struct {
	put   put
	hello any
	stop  func() error
	more  func(ctx context.Context, order json.RawMessage) (any, error) // other orders than a load
}

func (s *server) ready() any { return s.hello }

func (s *server) do(ctx context.Context, order json.RawMessage) (any, error) {
	var o struct{ Load *load }
	if err := json.Unmarshal(order, &o); err != nil {
		return nil, err
	}
	if o.Load != nil {
		return s.put.write(ctx, *o.Load)
	}
	if s.more == nil {
		return nil, errors.New("not an order for this server")
	}
	return s.more(ctx, order)
}

func (s *server) close() error { return s.stop() }
