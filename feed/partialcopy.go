package feed

import (
	"bytes"
	"container/list"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2"
)

// A copy may be a partial replica: of the keys under CopyOptions.Thin it holds
// the values that are used here, and of each other one a stub, which is its
// number and a sum of its value. What a stub stands for comes from a relay by a
// Replica, and is judged by the sum. Values are held and dropped by groups: all
// keys that have the segment behind the prefix in common, as those of a zone.

// ErrElsewhere says that a value is not held here, and could not be had.
var ErrElsewhere = errors.New("feed: the value is not held here")

// stubSum is what a stub keeps of a value: half of its SHA-256.
type stubSum [16]byte

func sumOf(value []byte) stubSum {
	s := sha256.Sum256(value)
	return stubSum(s[:])
}

// thinKey stands in a copy that may have stubs.
var thinKey = []byte{0x00, 'p'}

// groupOf returns the group that a key belongs to; false where its value is
// always held.
func groupOf(thin, key string) (string, bool) {
	rest, ok := strings.CutPrefix(key, thin)
	if !ok || thin == "" {
		return "", false
	}
	if i := strings.IndexByte(rest, '/'); i >= 0 {
		return key[:len(thin)+i+1], true
	}
	return key, true
}

// What a held group costs in memory, and a held value beside its bytes: both
// count as held.
const (
	groupCost = 256
	valueCost = 32
)

// holdings is which groups a partial replica holds values of. Groups are added
// and lose values with the copy's write lock held.
type holdings struct {
	mu     sync.Mutex
	groups map[string]*list.Element // guarded by mu
	order  *list.List               // of *holding, the last used first; guarded by mu
	bytes  int64                    // guarded by mu
}

type holding struct {
	group string
	bytes int64
}

func newHoldings() *holdings {
	return &holdings{groups: map[string]*list.Element{}, order: list.New()}
}

// has reports whether values of the group are held.
func (h *holdings) has(group string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.groups[group] != nil
}

// count adds n bytes of values to a group; fewer than none where some went.
func (h *holdings) count(group string, n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	e := h.groups[group]
	if e == nil {
		if n <= 0 {
			return
		}
		e = h.order.PushFront(&holding{group: group})
		h.groups[group] = e
		n += groupCost
	}
	g := e.Value.(*holding)
	g.bytes += int64(n)
	h.bytes += int64(n)
	if g.bytes <= groupCost { // its last value went
		h.remove(e)
	}
}

// remove is called with mu held.
func (h *holdings) remove(e *list.Element) {
	g := e.Value.(*holding)
	h.bytes -= g.bytes
	h.order.Remove(e)
	delete(h.groups, g.group)
}

// touch says that a group is in use.
func (h *holdings) touch(group string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if e := h.groups[group]; e != nil {
		h.order.MoveToFront(e)
	}
}

func (h *holdings) size() (groups int, bytes int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.groups), h.bytes
}

// unused names groups that were not used for longest, of up to n bytes but at
// least one, as long as more than room bytes are held without them.
func (h *holdings) unused(room, n int64) (groups []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	over := h.bytes - room
	for e := h.order.Back(); e != nil && over > 0 && (len(groups) == 0 || n > 0); e = e.Prev() {
		g := e.Value.(*holding)
		groups = append(groups, g.group)
		over, n = over-g.bytes, n-g.bytes
	}
	return groups
}

func (h *holdings) forget(group string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if e := h.groups[group]; e != nil {
		h.remove(e)
	}
}

// replace takes over what another counted.
func (h *holdings) replace(by *holdings) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.groups, h.order, h.bytes = by.groups, by.order, by.bytes
}

// openThin finds what values a partial replica holds, and whether a copy that is
// whole from now on has stubs.
func (c *Copy) openThin(db *pebble.DB, h *health, m meta, readOnly bool) error {
	_, closer, err := db.Get(thinKey)
	stubs := err == nil
	if stubs {
		err = closer.Close()
	}
	if err != nil && !errors.Is(err, pebble.ErrNotFound) {
		return err
	}
	c.mu.Lock()
	c.refill = stubs && c.held == nil
	c.mu.Unlock()
	if c.held == nil {
		return nil
	}
	if !stubs && !readOnly {
		// Before the first stub: batches are found again in their order.
		if err := h.guarded(func() error { return db.Set(thinKey, nil, pebble.NoSync) }); err != nil {
			return err
		}
	}
	found := newHoldings()
	lower, upper := prefixBounds(m.gen, c.opts.Thin)
	it, err := db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return err
	}
	for it.First(); it.Valid() && err == nil; it.Next() {
		var v version
		if v, err = decodeVersion(it, m.gen); err == nil {
			c.counts(found, v.key, heldBytes(v.kind, v.value))
		}
	}
	if err = closeIterator(it, errors.Join(err, it.Error())); err == nil {
		c.held.replace(found)
	}
	return err
}

// counts adds n bytes to those held of a key's group.
func (c *Copy) counts(h *holdings, key string, n int) {
	if h == nil {
		return
	}
	if g, thin := groupOf(c.opts.Thin, key); thin {
		h.count(g, n)
	}
}

// heldBytes is what a version counts among the held values.
func heldBytes(kind byte, value []byte) int {
	if kind != kindValue {
		return 0
	}
	return len(value) + valueCost
}

// stubbed reports whether a value that arrives for a key is kept as a stub.
func (c *Copy) stubbed(key string) bool {
	if c.held == nil {
		return false
	}
	g, thin := groupOf(c.opts.Thin, key)
	return thin && !c.held.has(g)
}

// form is how a change is stored.
func (c *Copy) form(change *Change) (kind byte, value []byte) {
	switch {
	case change.Op == Delete:
		return kindDeleted, nil
	case c.stubbed(change.Key):
		sum := sumOf(change.Value)
		return kindStub, sum[:]
	}
	return kindValue, change.Value
}

// carried returns the value of a stub that a snapshot brings, where it is held.
func (c *Copy) carried(key string, sum stubSum, seq uint64) (value []byte, ok bool, err error) {
	if c.stubbed(key) {
		return nil, false, nil
	}
	k := appendDataKey(nil, c.meta.gen, key, seq)
	p, closer, err := c.db.Get(k)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	v, err := parseVersion(k, p, c.meta.gen)
	if err == nil && v.kind == kindValue && sumOf(v.value) == sum {
		value, ok = bytes.Clone(v.value), true
	}
	return value, ok, errors.Join(err, closer.Close())
}

// piece is one row of a view.
type piece struct {
	key   string
	seq   uint64
	value []byte  // of its own
	stub  bool    // the value is not here
	sum   stubSum // of a stub's value
}

// view returns the rows with a prefix, or of the one key, as they are at one
// moment, and how many of them are stubs.
func (c *Copy) view(prefix string, exact bool) (rows []piece, stubs int, err error) {
	it, gen, err := c.iterator(func(gen uint32) ([]byte, []byte) { return rowBounds(gen, prefix, exact) })
	if err != nil {
		return nil, 0, err
	}
	defer func() { err = c.release(it, err) }()
	last := ""
	for it.First(); it.Valid(); it.Next() {
		v, err := decodeVersion(it, gen)
		if err != nil {
			return nil, 0, err
		}
		if v.key == last {
			continue
		}
		last = v.key
		switch v.kind {
		case kindValue:
			rows = append(rows, piece{key: v.key, seq: v.seq, value: bytes.Clone(v.value)})
		case kindStub:
			rows = append(rows, piece{key: v.key, seq: v.seq, stub: true, sum: stubSum(v.value)})
			stubs++
		}
	}
	return rows, stubs, it.Error()
}

// rowBounds are the bounds of all versions of the keys with a prefix, or of one
// key.
func rowBounds(gen uint32, prefix string, exact bool) (lower, upper []byte) {
	if !exact {
		return prefixBounds(gen, prefix)
	}
	return appendDataKey(nil, gen, prefix, ^uint64(0)), append(appendDataKey(nil, gen, prefix, 0), 0)
}

// errBehindAsked says that a copy has not reached a number yet.
var errBehindAsked = errors.New("feed: the copy stands before this number")

// rowsAt passes the values of the keys with a prefix, or of one, as they were at
// a number, as far back as versions are kept; errBehindAsked before it.
func (c *Copy) rowsAt(a ask, yield func(key string, value []byte, seq uint64) error) (err error) {
	c.mu.RLock()
	if c.db == nil {
		c.mu.RUnlock()
		return ErrBroken
	}
	m := c.meta
	if m.cursor.Seq < a.at {
		c.mu.RUnlock()
		return errBehindAsked
	}
	lower, upper := rowBounds(m.gen, a.prefix, a.exact)
	it, err := c.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err == nil {
		c.readers.Add(1)
	}
	c.mu.RUnlock()
	if err != nil {
		return err
	}
	defer func() { err = c.release(it, err) }()
	last := ""
	for it.First(); it.Valid(); it.Next() {
		v, err := decodeVersion(it, m.gen)
		if err != nil {
			return err
		}
		if v.seq > a.at || v.key == last {
			continue
		}
		last = v.key
		switch v.kind {
		case kindStub:
			return ErrElsewhere
		case kindValue:
			if err := yield(v.key, v.value, v.seq); err != nil {
				return err
			}
		}
	}
	return it.Error()
}

// fill stores values that were fetched, where the stubs that they are for still
// stand.
func (c *Copy) fill(rows []piece) error {
	c.write.Lock()
	defer c.write.Unlock()
	if err := c.writable(); err != nil {
		return err
	}
	next := c.meta
	b := c.db.NewBatch()
	defer func() { _ = b.Close() }()
	var filled []piece
	for _, r := range rows {
		key := appendDataKey(nil, next.gen, r.key, r.seq)
		old, closer, err := c.db.Get(key)
		if errors.Is(err, pebble.ErrNotFound) {
			continue
		}
		if err != nil {
			return fmt.Errorf("fill %s: %w", r.key, err)
		}
		if v, err := parseVersion(key, old, next.gen); err != nil || v.kind != kindStub || stubSum(v.value) != r.sum {
			if err = errors.Join(err, closer.Close()); err != nil {
				return fmt.Errorf("fill %s: %w", r.key, err)
			}
			continue
		}
		next.remove(old)
		stored := appendValue(nil, key, kindValue, r.value)
		next.add(stored)
		if err := errors.Join(closer.Close(), b.Set(key, stored, nil)); err != nil {
			return fmt.Errorf("fill %s: %w", r.key, err)
		}
		filled = append(filled, r)
	}
	if len(filled) == 0 {
		return nil
	}
	if err := c.finish(b, next, false); err != nil {
		return fmt.Errorf("fill: %w", err)
	}
	for _, r := range filled {
		c.counts(c.held, r.key, heldBytes(kindValue, r.value))
	}
	return nil
}

// dropBytes is about how many bytes of values become stubs in one batch.
const dropBytes = 4 << 20

// drop makes stubs of the values that were not used for longest, until no more
// than room bytes are held. It reports how many groups went, and whether there
// are more to go.
func (c *Copy) drop(room int64) (gone int, more bool, err error) {
	c.write.Lock()
	defer c.write.Unlock()
	groups := c.held.unused(room, dropBytes)
	if len(groups) == 0 {
		return 0, false, nil
	}
	if err := c.writable(); err != nil {
		return 0, false, err
	}
	next := c.meta
	b := c.db.NewBatch()
	defer func() { _ = b.Close() }()
	for _, g := range groups {
		if err := c.stub(b, &next, g); err != nil {
			return 0, false, fmt.Errorf("drop values of %s: %w", g, err)
		}
	}
	if err := c.finish(b, next, false); err != nil {
		return 0, false, fmt.Errorf("drop values: %w", err)
	}
	for _, g := range groups {
		c.held.forget(g)
	}
	return len(groups), true, nil
}

// stub makes stubs of a group's values, and deletes older versions.
func (c *Copy) stub(b *pebble.Batch, next *meta, group string) error {
	lower, upper := rowBounds(next.gen, group, !strings.HasSuffix(group, "/"))
	it, err := c.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return err
	}
	last := ""
	for it.First(); it.Valid() && err == nil; it.Next() {
		var v version
		if v, err = decodeVersion(it, next.gen); err != nil {
			break
		}
		newest := v.key != last
		last = v.key
		switch {
		case !newest:
			next.remove(v.stored)
			err = b.Delete(it.Key(), nil)
		case v.kind == kindValue:
			next.remove(v.stored)
			sum := sumOf(v.value)
			stored := appendValue(nil, it.Key(), kindStub, sum[:])
			next.add(stored)
			err = b.Set(it.Key(), stored, nil)
		}
	}
	return closeIterator(it, errors.Join(err, it.Error()))
}
