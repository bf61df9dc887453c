package reserve

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"sync"
	"time"
)

// queue is what waits to be done in the store. One name is one lane's, so that
// what happens to it stays in order; large objects, which take long, have the last
// lane for themselves.
type queue struct {
	most int64

	mu     sync.Mutex
	wake   sync.Cond
	lanes  [][]item          // guarded by mu
	bytes  int64             // queued and being written; guarded by mu
	closed bool              // guarded by mu
	turn   uint64            // of the newest item; guarded by mu
	going  map[string]uint64 // names whose deletion is not carried out, and its turn; guarded by mu
	large  map[string]uint64 // names of large objects on their way, and the turn; guarded by mu
	using  map[string]bool   // names of whose use the store is being told; guarded by mu
}

type item struct {
	name       string
	op         op
	meta, body []byte
	file       *spooled // instead of body; has the meta
	done       func(stored bool)
	turn       uint64
}

type op uint8

const (
	opPut op = iota
	opDelete
	opUse
)

func (q *queue) open(most int64, lanes int) {
	q.most = most
	q.wake.L = &q.mu
	q.lanes = make([][]item, lanes)
	q.going, q.large, q.using = make(map[string]uint64), make(map[string]uint64), make(map[string]bool)
}

func (q *queue) close() {
	q.mu.Lock()
	q.closed = true
	q.wake.Broadcast()
	q.mu.Unlock()
}

func (q *queue) queued() int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.bytes
}

func (it *item) cost() int64 { return int64(len(it.meta)+len(it.body)) + 256 }

func (q *queue) push(it item) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.pushLocked(it)
}

func (q *queue) pushLocked(it item) bool {
	q.turn++
	it.turn = q.turn
	if q.closed || q.bytes+it.cost() > q.most {
		return false
	}
	q.bytes += it.cost()
	i := len(q.lanes) - 1
	if it.file == nil {
		i = int(crc32.ChecksumIEEE([]byte(it.name))) % i
		if it.op != opUse {
			delete(q.large, it.name) // what is on its way is older than this
		}
	} else {
		q.large[it.name] = it.turn
	}
	q.lanes[i] = append(q.lanes[i], it)
	q.wake.Broadcast()
	return true
}

// pop waits for a lane's next item; false when there is no more.
func (q *queue) pop(lane int) (it item, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.lanes[lane]) == 0 && !q.closed {
		q.wake.Wait()
	}
	if len(q.lanes[lane]) == 0 {
		return it, false
	}
	it = q.lanes[lane][0]
	q.lanes[lane][0] = item{}
	q.lanes[lane] = q.lanes[lane][1:]
	return it, true
}

// release counts an item that is done.
func (q *queue) release(it *item) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.bytes -= it.cost()
	if it.op == opUse {
		delete(q.using, it.name)
	}
}

// maxGoing is how many deletions may wait. What more are about is found until they
// are carried out.
const maxGoing = 64 << 10

func (q *queue) isGoing(name string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	_, going := q.going[name]
	return going
}

// gone notes that what was deleted or put anew is as the store has it.
func (q *queue) gone(it *item) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if it.turn >= q.going[it.name] { // not what a later deletion is about
		delete(q.going, it.name)
	}
}

// overtaken reports whether something newer happened to a large object's name.
func (q *queue) overtaken(it *item) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.large[it.name] != it.turn {
		return true
	}
	delete(q.large, it.name)
	return false
}

// Put queues an object. done, if not nil, is called once, when meta and body are no
// longer needed, with whether it is in the store.
func (r *Reserve) Put(name string, meta, body []byte, done func(stored bool)) bool {
	ok := len(meta) <= MaxMeta && int64(len(body)) <= MaxBody && !r.off() &&
		r.queue.push(item{name: name, meta: meta, body: body, done: done})
	if !ok {
		r.counts.dropped.Add(1)
		if done != nil {
			done(false)
		}
	}
	return ok
}

// Delete queues the deletion of an object. From now on it is not found, until it
// is put again.
func (r *Reserve) Delete(name string) {
	q := &r.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.going) < maxGoing {
		q.going[name] = q.turn + 1
	}
	if !q.pushLocked(item{name: name, op: opDelete}) {
		delete(q.large, name)
		r.counts.dropped.Add(1)
	}
}

// used tells the store that an object was asked for, where that was not done
// lately. It is told once, however many ask until it has heard: a bucket copies the
// object for it.
func (r *Reserve) used(name string, last time.Time) {
	if r.cfg.Retain == 0 || time.Since(last) <= r.cfg.Retain/useParts {
		return
	}
	q := &r.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.using[name] && q.pushLocked(item{name: name, op: opUse}) { // a full queue: at the next request
		q.using[name] = true
	}
}

// write is one writer.
func (r *Reserve) write(lane int) {
	for {
		it, ok := r.queue.pop(lane)
		if !ok {
			return
		}
		err := r.carryOut(&it)
		switch {
		case errors.Is(err, ErrFull):
			r.counts.dropped.Add(1)
			r.sweep.isFull()
		case err != nil:
			r.counts.dropped.Add(1)
			r.failed(fmt.Errorf("write %s: %w", it.name, err))
		case it.op != opUse:
			r.queue.gone(&it)
		}
		if it.done != nil {
			it.done(err == nil)
		}
		r.queue.release(&it)
	}
}

const (
	writeTime = 5 * time.Minute // for one object
	leastRate = 1 << 20         // bytes in a second of a large one
)

func (r *Reserve) carryOut(it *item) error {
	limit := writeTime
	if it.file != nil {
		defer it.file.drop()
		limit += time.Duration(it.file.size/leastRate) * time.Second
	}
	ctx, cancel := context.WithTimeout(r.ctx, limit)
	defer cancel()
	switch it.op {
	case opDelete:
		r.counts.deleted.Add(1)
		return r.cfg.Store.Delete(ctx, it.name)
	case opUse:
		r.counts.used.Add(1)
		return r.cfg.Store.Use(ctx, it.name)
	}
	var src io.Reader = it.file
	size := stored(len(it.meta), int64(len(it.body)))
	if it.file == nil {
		src = encode(it.meta, it.body, newStamp())
	} else {
		size = it.file.size
	}
	err := r.cfg.Store.Put(ctx, it.name, src, size)
	late := it.file != nil && r.queue.overtaken(it)
	if err != nil {
		return err
	}
	if late {
		return r.cfg.Store.Delete(ctx, it.name)
	}
	r.counts.written.Add(1)
	r.counts.bytes.Add(uint64(size))
	return nil
}

func newStamp() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return binary.LittleEndian.Uint64(b[:])
}
