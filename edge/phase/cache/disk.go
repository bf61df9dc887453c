package cache

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"os"
	"sync/atomic"
	"time"

	"github.com/selvage-edge/selvage/edge/phase/cache/ssd"
	"github.com/selvage-edge/selvage/edge/request"
)

// disk is the tier below memory: answers in an ssd.Store.
//
// What is written: an object at its first hit in memory, and one that leaves
// memory without a hit if that happens to it for the second time lately. So
// what nobody asks for twice costs no write, and an end of the process loses
// little of what is hot. Objects too large for memory are written as they come.
//
// Where: a record under the hash of the object's key. Where the answer has a
// Vary, that record holds the names of the fields and a number, and the answer
// is under the hash of key, number and the request's values; a purge of the key
// takes the number away, and with it all variants. An answer whose body is over
// maxInline has head and body in two records, so that a revalidation writes the
// head alone.
//
// What is read: only where waiting is allowed and memory has no object, by who
// asks. Small answers come back into memory, read once for all who ask;
// larger ones are sent from the disk.
type disk struct {
	e      *Engine
	store  *ssd.Store
	seen   doorkeeper
	epochs epochs

	hits, misses, stale, restored, saved atomic.Uint64
}

const (
	maxLoaded = 64 << 10  // bodies that come back into memory when they are asked for
	maxInline = 1 << 20   // bodies beside their head
	maxEpochs = 64 << 10  // numbers remembered; more are forgotten at random
	soonStale = 10 * 1e9  // what is fresh for less (nanoseconds), and stays no longer, is not written
	soonAgain = 60 * 1e9  // nor what is fresh for less and has an older version there
	skew      = time.Hour // by which a clock may have been set back since something was stored
)

// UseDisk gives the engine a disk below its memory, before the first request.
// Closing the store, after the engine, is for who opened it.
func (e *Engine) UseDisk(store *ssd.Store) {
	d := &disk{e: e, store: store, epochs: newEpochs()}
	d.seen.open(store.Stats().Budget / perSeen)
	e.disk, e.lower = d, d
}

// invalidate forgets what is stored under a key's text, and its variants.
func (d *disk) invalidate(text []byte) {
	k := recordKey(text)
	d.epochs.forget(k)
	for _, k := range [...]ssd.Key{k, bodyKey(k)} {
		d.store.Delete(k)
	}
}

// place is where a stored body is.
type place struct {
	key   ssd.Key // of the head's record
	stamp uint64
	kind  storedKind
	size  int64
}

// lying is an object whose body stayed on the disk, or came from there just now.
type lying struct {
	o   *object
	rec *ssd.Record // nil = the body is in memory
	place
}

func (l *lying) close() {
	if l != nil && l.rec != nil {
		_ = l.rec.Close() // never fails
	}
}

// open opens a stored body again; nil when it is gone.
func (d *disk) open(at place) *ssd.Record {
	k := at.key
	if at.kind == storedHead {
		k = bodyKey(k)
	}
	rec := d.store.Find(k, 0)
	if rec == nil || rec.Size != at.size || stampOf(rec.Meta) != at.stamp {
		(&lying{rec: rec}).close()
		return nil
	}
	return rec
}

// lie opens the body of an object that is on the disk; nil when it is gone.
func (d *disk) lie(o *object, at place) *lying {
	rec := d.open(at)
	if rec == nil {
		return nil
	}
	return &lying{o: o, rec: rec, place: at}
}

// stampOf reads the stamp of a record's meta: a head's, or a body's, which is
// nothing else.
func stampOf(meta []byte) uint64 {
	if len(meta) > 8 {
		meta = meta[2:]
	}
	if len(meta) < 8 {
		return 0
	}
	return binary.LittleEndian.Uint64(meta)
}

// bodyMeta is the meta of a body's own record.
func bodyMeta(stamp uint64) []byte { return binary.LittleEndian.AppendUint64(nil, stamp) }

// look finds the record that answers r, decoded and not purged. seen is the
// entry of the feed up to which it was compared with purges, expired an instant
// from which it counts as stale, if not 0.
func (d *disk) look(k key, r *request.Request) (l *lying, h stored, expired int64, seen uint64) {
	at := recordKey(k.text)
	l, h = d.read(at)
	if l != nil && h.kind == storedVary {
		l.close()
		d.epochs.remember(at, h.stamp, h.vary)
		at = variantKey(k.text, h.stamp, h.vary, func(v *varyField) []byte { return normalValue(&r.In.Fields, v, r.Arena) })
		if l, h = d.read(at); l != nil && h.kind == storedVary {
			l.close()
			return nil, h, 0, 0
		}
	}
	if l == nil {
		return nil, h, 0, 0
	}
	var ok bool
	if ok, expired, seen = d.e.valid(h.life, r.ZoneID, h.subject(k.text)); !ok || h.born > d.e.wall(d.e.now())+int64(skew) {
		l.rec.Forget()
		l.close()
		return nil, h, 0, 0
	}
	return l, h, expired, seen
}

// read reads and decodes the record at a key, and opens its body.
func (d *disk) read(at ssd.Key) (*lying, stored) {
	rec := d.store.Find(at, maxLoaded)
	if rec == nil {
		return nil, stored{}
	}
	h, err := decodeStored(rec.Meta)
	l := &lying{rec: rec, place: place{at, h.stamp, h.kind, h.size}}
	switch {
	case err != nil, h.kind == storedWhole && h.size != rec.Size:
		rec.Forget()
	case h.kind == storedHead:
		l.close()
		if l.rec = d.open(l.place); l.rec != nil {
			return l, h
		}
	default:
		return l, h
	}
	l.close()
	return nil, stored{}
}

// find looks for an answer to r on the disk. It returns an object with a
// reference and where its body is; nil when there is none. A small one that is
// fresh is in memory again after it. It is nil as well where somebody else
// fetches or reads the same, to be joined.
func (d *disk) find(t task, k key, s *shard, now int64) *lying {
	if !d.store.Has(recordKey(k.text)) {
		d.misses.Add(1)
		return nil
	}
	f := d.e.readFill(t, k)
	found, other := s.join(k, t.r, nil, f, now)
	for turn := 0; other != nil && other.reads; turn++ {
		// What it finds may stay on the disk, or be another variant: it is looked
		// for again then, at last by each for itself.
		other.await(t.r.Ctx)
		if turn == maxTurns {
			other, f.solo = nil, true
			break
		}
		found, other = s.join(k, t.r, nil, f, now)
	}
	if found != nil || other != nil {
		f.zone.Release()
		if other != nil {
			other.arrived()
			return nil
		}
		return &lying{o: found}
	}
	defer f.zone.Release()
	defer f.letGo()
	l, h, expired, seen := d.look(k, t.r)
	if l == nil {
		d.misses.Add(1)
		f.giveUp()
		return nil
	}
	return d.take(f, l, &h, expired, seen, now)
}

// await waits for a fill's head without reading it.
func (f *fill) await(ctx context.Context) {
	defer f.arrived()
	select {
	case <-f.ready:
	case <-ctx.Done():
	}
}

// take makes an object of what was found and ends the fill of the search.
func (d *disk) take(f *fill, l *lying, h *stored, expired int64, seen uint64, now int64) *lying {
	body, whole := l.rec.Whole()
	stale := now-(h.born-d.e.wall(0)) >= h.lifetime || expired != 0
	if stale {
		d.stale.Add(1)
		if !whole && h.kind == storedWhole {
			if f.solo { // one at a time has so much in memory; this one fetches
				l.close()
				f.giveUp()
				return nil
			}
			body = make([]byte, h.size)
			if _, err := l.rec.ReadAt(body, 0); err != nil {
				l.close()
				f.giveUp()
				return nil
			}
			whole = true
		}
	} else {
		d.hits.Add(1)
	}
	s := d.e.shardOf(f.key.hash)
	s.mu.Lock()
	f.seq = seen // purges and who would join look at it
	s.mu.Unlock()
	if l.o = f.revive(h, body); l.o == nil {
		l.close()
		f.giveUp()
		return nil
	}
	if expired != 0 {
		l.o.expire(expired)
	}
	if whole {
		l.close()
		l.rec = nil
	}
	if stale || !whole {
		f.giveUp()
		return l
	}
	d.restored.Add(1)
	l.o.retain()
	f.outcome, f.status, f.from, f.obj = shared, request.CacheHit, request.TierSSD, l.o
	d.e.put(f, l.o)
	close(f.ready)
	return l
}

// readFill is a fill whose source is the disk: it keeps others from reading the
// same, and purges from missing what it brings. It is over before its request
// goes on, so it borrows the request's memory.
func (e *Engine) readFill(t task, k key) *fill {
	f := &fill{e: e, plan: t.p, d: t.r, stop: func() {}, ready: make(chan struct{}), reads: true, in: t.r.In.Fields, loose: t.p.decide(t.r).recipe != nil}
	f.key = key{hash: k.hash, text: bytes.Clone(k.text)}
	f.holders.Store(1)
	f.zone, f.seq = e.marks.Acquire(t.r.ZoneID)
	return f
}

// giveUp ends a fill of readFill without an object; who waits looks for itself.
func (f *fill) giveUp() {
	f.outcome = vain
	f.close()
}

// revive makes an object of a stored head, and of its body where that is whole;
// nil when there is no memory for it.
func (f *fill) revive(h *stored, body []byte) *object {
	p := parts{key: f.key.text, head: h.lines, vary: appendVary(nil, h.vary), tags: h.tags, page: h.page, date: h.date}
	if len(body) <= smallBody {
		p.room = len(body)
	}
	o := f.e.makeObject(f.zone, &p)
	if o == nil {
		return nil
	}
	o.status, o.noETag = uint16(h.status), h.noETag
	o.born, o.revalid, o.fail = h.born-f.e.wall(0), secondsOf(time.Duration(h.revalid)), secondsOf(time.Duration(h.fail))
	o.strict, o.shared, o.validate = h.strict, h.shared, h.validate
	o.lifetime.Store(h.lifetime)
	o.seq.Store(f.seq)
	o.save()
	to := o.inner()
	if len(body) > len(to) {
		if to = f.e.newBody(len(body), len(body) <= unrefused); to == nil {
			o.Release()
			return nil
		}
	}
	o.seal(f.e, append(to[:0], body...))
	return o
}

// fileBody is a body, or a part of one, on the disk.
type fileBody struct {
	rec     *ssd.Record
	at, end int64
}

func (b *fileBody) Read(p []byte) (int, error) {
	if b.at >= b.end {
		return 0, io.EOF
	}
	n, err := b.rec.ReadAt(p[:min(int64(len(p)), b.end-b.at)], b.at)
	b.at += int64(n)
	if err == io.EOF && b.at < b.end || err == nil && n == 0 && len(p) > 0 {
		err = io.ErrUnexpectedEOF
	} else if err == io.EOF {
		err = nil
	}
	return n, err
}

// File implements msg.FileBody.
func (b *fileBody) File() (f *os.File, from, n int64, done func()) {
	f, from, done = b.rec.File()
	return f, from + b.at, b.end - b.at, done
}

func (b *fileBody) Close() error { return b.rec.Close() }
