package feed

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// ReplicaConfig is what a Replica is made of. Zero numbers mean the default in
// brackets.
type ReplicaConfig struct {
	Copy     *Copy    // opened with CopyOptions.Thin
	Parents  []string // addresses: the first that can be had and is a relay answers
	Dial     DialFunc // nil: TCP
	Identity *Identity
	Log      *slog.Logger

	Bytes   int64         // of values held; those not used for longest go [1 GiB]
	Timeout time.Duration // of one read [1.5 s]
	Connect time.Duration // for a connection to a parent [1 s]
	Rest    time.Duration // of a parent that could not be had [1 s]
}

// Replica reads a copy that holds the values which are used here, and fetches
// others from a relay when they are asked for. What a read passes is always the
// state of one moment of this copy, whoever the values come from: a value that
// is not the one which the copy's entry had is never passed.
//
// All methods may be called from many goroutines; Run must run for what is not
// held.
type Replica struct {
	cfg      ReplicaConfig
	log      *slog.Logger
	counters replicaCounters
	asks     chan *question // for the fetchers
	fills    chan *question // answered, to be stored
	filling  atomic.Int64   // bytes of them
	stopped  chan struct{}  // closed when Run ends
	rest     []atomic.Int64 // of each parent: until when it is not asked, Unix nanoseconds
	told     atomic.Bool    // that no parent could be had

	mu    sync.Mutex
	open  map[subject]*question // guarded by mu
	ended uint64                // questions that were open; guarded by mu
}

// subject is what makes two questions the same.
type subject struct {
	prefix string
	exact  bool
}

// question is one fetch, for all who wait for it.
type question struct {
	ask   ask
	stubs []piece       // what is missing; in the order of keys
	done  chan struct{} // closed with the two below set
	rows  []piece       // the stubs, with their values
	err   error
}

const (
	fetchers  = 4   // fetches at a time
	maxAsks   = 256 // that wait for one
	maxFills  = 64  // answers that wait to be stored
	fillBytes = 64 << 20
	keepEvery = 10 * time.Second // between two looks whether too much is held
	askAgain  = 50 * time.Millisecond
)

// NewReplica makes a Replica.
func NewReplica(cfg ReplicaConfig) *Replica {
	cfg.Bytes = cmp.Or(cfg.Bytes, 1<<30)
	cfg.Timeout = cmp.Or(cfg.Timeout, 1500*time.Millisecond)
	cfg.Connect = cmp.Or(cfg.Connect, time.Second)
	cfg.Rest = cmp.Or(cfg.Rest, time.Second)
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	return &Replica{
		cfg: cfg, log: cfg.Log, asks: make(chan *question, maxAsks), fills: make(chan *question, maxFills),
		stopped: make(chan struct{}), rest: make([]atomic.Int64, len(cfg.Parents)), open: map[subject]*question{},
	}
}

// Run fetches and stores until ctx ends.
func (r *Replica) Run(ctx context.Context) {
	defer close(r.stopped)
	var work sync.WaitGroup
	defer work.Wait()
	for range fetchers {
		work.Go(func() { r.fetcher(ctx) })
	}
	r.keep(ctx)
}

// Cursor is the copy's.
func (r *Replica) Cursor() Cursor { return r.cfg.Copy.Cursor() }

// Get is the copy's, of values that are elsewhere as well. ErrElsewhere is in
// the chain where one could not be had.
func (r *Replica) Get(key string) (value []byte, seq uint64, ok bool, err error) {
	if _, thin := groupOf(r.cfg.Copy.opts.Thin, key); !thin {
		return r.cfg.Copy.Get(key)
	}
	rows, err := r.read(key, true)
	if err != nil {
		return nil, 0, false, fmt.Errorf("get %s: %w", key, err)
	}
	if len(rows) == 0 {
		return nil, 0, false, nil
	}
	return rows[0].value, rows[0].seq, true, nil
}

// Scan is the copy's, of values that are elsewhere as well. ErrElsewhere is in
// the chain where they could not be had; no row was passed then. A prefix that
// more than one group has is an error: no server needs all values at once.
func (r *Replica) Scan(prefix string, f func(key string, value []byte, seq uint64) error) error {
	thin := r.cfg.Copy.opts.Thin
	g, inside := groupOf(thin, prefix)
	if !inside && !strings.HasPrefix(thin, prefix) {
		return r.cfg.Copy.Scan(prefix, f)
	}
	if !inside || g == thin || !strings.HasSuffix(g, "/") {
		return fmt.Errorf("scan %s: a partial replica is read group by group", prefix)
	}
	rows, err := r.read(prefix, false)
	if err != nil {
		return fmt.Errorf("scan %s: %w", prefix, err)
	}
	for i := range rows {
		if err := f(rows[i].key, rows[i].value, rows[i].seq); err != nil {
			return err
		}
	}
	return nil
}

// Lacks reports whether values under a prefix are elsewhere; there may be none.
func (r *Replica) Lacks(prefix string) (bool, error) {
	err := r.cfg.Copy.Scan(prefix, func(string, []byte, uint64) error { return nil })
	if errors.Is(err, ErrElsewhere) {
		return true, nil
	}
	return false, err
}

// Touch says that the values under a prefix are in use, by somebody who has read
// them before.
func (r *Replica) Touch(prefix string) {
	if g, thin := groupOf(r.cfg.Copy.opts.Thin, prefix); thin {
		r.cfg.Copy.held.touch(g)
	}
}

// read returns the rows of one moment, with all values.
func (r *Replica) read(prefix string, exact bool) ([]piece, error) {
	var timer *time.Timer
	var last *question
	start, looked := time.Now(), false
	for {
		moved, ended := r.cfg.Copy.Changed(), r.asOf(looked || last != nil)
		rows, stubs, err := r.cfg.Copy.view(prefix, exact)
		if err != nil {
			return nil, err
		}
		if stubs > 0 && last != nil {
			stubs = supply(rows, last.rows)
		}
		if stubs == 0 {
			r.count(prefix, last, start)
			return rows, nil
		}
		if timer == nil {
			timer = time.NewTimer(r.cfg.Timeout)
			defer timer.Stop()
		}
		if last != nil && last.err != nil && !r.pause(moved, timer.C) {
			return nil, r.missed(last.err)
		}
		q, err := r.question(rows, exact, last, ended)
		if errors.Is(err, errLook) {
			looked = true
			continue
		}
		if err != nil {
			return nil, r.missed(err)
		}
		select {
		case <-q.done:
		case <-timer.C:
			return nil, r.missed(errFetchLate)
		case <-r.stopped:
			return nil, r.missed(errStopped)
		}
		if last = q; q.err != nil && !passing(q.err) {
			return nil, r.missed(q.err)
		}
	}
}

var (
	errFetchLate = errors.New("no answer in time")
	errStopped   = errors.New("this server stops")
	errAsks      = errors.New("too many wait for values")
	errLook      = errors.New("a question has ended since the copy was read")
)

// pause waits before a question is put again: for the copy to move on, where it
// stands before the relay, or for the relay to, where that is behind.
func (r *Replica) pause(moved <-chan struct{}, late <-chan time.Time) bool {
	again := time.NewTimer(askAgain)
	defer again.Stop()
	select {
	case <-moved:
	case <-again.C:
	case <-late:
		return false
	case <-r.stopped:
		return false
	}
	return true
}

func (r *Replica) count(prefix string, fetched *question, start time.Time) {
	r.Touch(prefix)
	if fetched == nil {
		r.counters.held.Add(1)
		return
	}
	r.counters.fetched.Add(1)
	r.counters.took(time.Since(start))
}

func (r *Replica) missed(err error) error {
	r.counters.failed.Add(1)
	return fmt.Errorf("%w: %w", ErrElsewhere, cmp.Or(err, errFetchLate))
}

// supply gives stubs the values that were fetched for them, and returns how many
// are left.
func supply(rows, values []piece) (left int) {
	for i := range rows {
		row := &rows[i]
		if !row.stub {
			continue
		}
		for len(values) > 0 && values[0].key < row.key {
			values = values[1:]
		}
		if len(values) > 0 && values[0].key == row.key && values[0].seq == row.seq && values[0].sum == row.sum {
			row.value, row.stub = values[0].value, false
		} else {
			left++
		}
	}
	return left
}

// question finds who asks for the stubs among the rows already, or asks. It is
// another one than last, whose answer did not do. It is errLook where more have
// ended than the caller knows of.
func (r *Replica) question(rows []piece, exact bool, last *question, ended uint64) (*question, error) {
	q := &question{done: make(chan struct{})}
	for _, row := range rows {
		if row.stub {
			q.stubs = append(q.stubs, row)
			q.ask.at = max(q.ask.at, row.seq)
		}
	}
	q.ask.prefix, q.ask.exact = q.stubs[0].key, true
	if n := len(q.stubs); n > 1 {
		q.ask.prefix, q.ask.exact = common(q.stubs[0].key, q.stubs[n-1].key), exact
	}
	key := subject{q.ask.prefix, q.ask.exact}
	r.mu.Lock()
	defer r.mu.Unlock()
	if open := r.open[key]; open != nil && open != last {
		return open, nil
	}
	if ended < r.ended {
		return nil, errLook
	}
	select {
	case r.asks <- q:
	default:
		return nil, errAsks
	}
	r.open[key] = q
	return q, nil
}

// common is what two keys begin with.
func common(a, b string) string {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return a[:n]
}

// close ends a question that nobody is to find any more.
func (r *Replica) close(q *question) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if key := (subject{q.ask.prefix, q.ask.exact}); r.open[key] == q {
		delete(r.open, key)
		r.ended++
	}
}

// asOf is how many questions have ended, for who looks at the copy next, so that
// what the last of them brought is not asked for again; the most there can be for
// who looks once more and asks then, whatever ended meanwhile.
func (r *Replica) asOf(again bool) uint64 {
	if again {
		return math.MaxUint64
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ended
}

// answered gives an answer to those who wait and, in time, to the copy, which
// takes none while a snapshot arrives.
func (r *Replica) answered(q *question) {
	close(q.done)
	n := int64(0)
	for _, row := range q.rows {
		n += int64(len(row.value))
	}
	r.counters.bytes.Add(uint64(n))
	if q.err != nil || r.filling.Add(n) > fillBytes+n {
		if q.err == nil {
			r.filling.Add(-n)
			r.counters.unkept.Add(1)
		}
		r.close(q)
		return
	}
	select {
	case r.fills <- q:
	default:
		r.filling.Add(-n)
		r.counters.unkept.Add(1)
		r.close(q)
	}
}

// keep stores what was fetched, and drops what was not used for longest.
func (r *Replica) keep(ctx context.Context) {
	tick := time.NewTicker(keepEvery)
	defer tick.Stop()
	for {
		select {
		case q := <-r.fills:
			if err := r.cfg.Copy.fill(q.rows); err != nil {
				r.counters.unkept.Add(1)
				r.log.Warn("fetched values are used and not kept", "error", err)
			}
			for _, row := range q.rows {
				r.filling.Add(-int64(len(row.value)))
			}
			r.close(q)
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		r.shed(ctx)
	}
}

// shed drops values until the bound is held.
func (r *Replica) shed(ctx context.Context) {
	if _, held := r.cfg.Copy.held.size(); held <= r.cfg.Bytes {
		return
	}
	room := r.cfg.Bytes - r.cfg.Bytes/16
	for more := true; more && ctx.Err() == nil; {
		var gone int
		var err error
		if gone, more, err = r.cfg.Copy.drop(room); err != nil {
			r.log.Warn("values that are over the bound stay", "error", err)
			return
		}
		r.counters.dropped.Add(uint64(gone))
	}
}
