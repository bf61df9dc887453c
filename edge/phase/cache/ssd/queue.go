package ssd

import "sync"

// item is a record on its way to the disk.
type item struct {
	key        Key
	meta, body []byte
	done       func()
	deleted    bool
	turn       uint64  // in the order of calls
	from       place   // n > 0: a copy of the record there, to be kept if that is live
	was        uint32  // of a Delete: segment of the record that it deletes, 0 = unknown
	claim      bool    // room is to be set aside; nothing is written
	room       int64   // bytes
	held       bool    // counted in holds
	stream     *Writer // that it comes from; nil = from Put
}

func (it *item) cost() int64 { return int64(len(it.meta)+len(it.body)) + itemCost }

func (it *item) finish() {
	if it.done != nil {
		it.done()
		it.done = nil
	}
}

const (
	itemCost = 128
	maxKills = 64 << 10 // deletions that wait to be written
)

// queue holds what waits for the writer. A full one refuses.
type queue struct {
	mu    sync.Mutex
	wake  sync.Cond // of the writer
	items []item    // guarded by mu
	bytes int64     // guarded by mu
	most  int64
	turn  uint64         // guarded by mu
	kills map[Key]uint64 // key → turn of its newest Delete that is not written; guarded by mu
	holds map[Key]int32  // how many records of a key are not written; guarded by mu
	all   uint64         // turn of the newest killAll; guarded by mu
	ended bool           // guarded by mu
	idle  bool           // the writer waits, and holds nothing back; guarded by mu
}

func (q *queue) open(most int64) {
	q.wake.L, q.most, q.kills, q.holds = &q.mu, most, make(map[Key]uint64), make(map[Key]int32)
}

func (q *queue) push(it item) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.ended || q.bytes+it.cost() > q.most {
		return false
	}
	q.turn++
	if it.turn == 0 {
		it.turn = q.turn
	}
	it.held = true
	q.holds[it.key]++
	q.add(it)
	return true
}

// hold says that a record of the key is on its way.
func (q *queue) hold(k Key) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.holds[k]++
}

// written is told that a record is written and found, or never will be.
func (q *queue) written(k Key) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.holds[k]--; q.holds[k] <= 0 {
		delete(q.holds, k)
	}
}

// kill makes older items of a key void and queues the note that it is deleted,
// unless there is nothing to delete. find looks into the index.
func (q *queue) kill(k Key, find func(Key) (place, bool)) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	at, there := find(k)
	if !there && q.holds[k] == 0 {
		return true
	}
	if q.ended || len(q.kills) >= maxKills {
		return false
	}
	q.turn++
	q.kills[k] = q.turn
	q.add(item{key: k, deleted: true, turn: q.turn, was: at.seg})
	return true
}

// makeRoom asks for bytes of the budget; done is called when they are set
// aside. It is false when the queue is closed.
func (q *queue) makeRoom(bytes int64, done func()) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.ended {
		return false
	}
	q.add(item{claim: true, room: bytes, done: done})
	return true
}

// add appends an item; mu is held.
func (q *queue) add(it item) {
	q.bytes += it.cost()
	q.items = append(q.items, it)
	q.wake.Signal()
}

// killAll makes all older items void.
func (q *queue) killAll() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.turn++
	q.all = q.turn
}

// unlessVoid calls note unless a Delete of the key came after turn. note only
// puts into the index, so that of a Delete and a put the later one counts.
func (q *queue) unlessVoid(k Key, turn uint64, note func()) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if turn < q.all || turn < q.kills[k] {
		return false
	}
	note()
	return true
}

// cleared reports whether a killAll came after turn.
func (q *queue) cleared(turn uint64) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return turn < q.all
}

// now is a turn for a record that does not go through the queue.
func (q *queue) now() uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.turn++
	return q.turn
}

// killed is told that a Delete has been written, or never will be.
func (q *queue) killed(it *item) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.kills[it.key] == it.turn {
		delete(q.kills, it.key)
	}
}

// take waits for items; nil when the queue is closed and empty. flush is called
// before waiting.
func (q *queue) take(into []item, flush func()) []item {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.items) == 0 {
		q.mu.Unlock()
		flush()
		q.mu.Lock()
	}
	for len(q.items) == 0 {
		if q.ended {
			return nil
		}
		q.idle = true
		q.wake.Wait()
	}
	q.idle = false
	into = append(into[:0], q.items...)
	clear(q.items)
	q.items = q.items[:0]
	return into
}

// taken gives back the room of an item that the writer is done with.
func (q *queue) taken(it *item) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.bytes -= it.cost()
}

func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ended = true
	q.wake.Signal()
}

func (q *queue) load() (items int, bytes int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.items), q.bytes
}
