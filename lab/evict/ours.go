package main

import (
	"hash/maphash"
	"unsafe"

	"github.com/selvage-edge/selvage/edge/phase/cache/evict"
)

// ours is the cache's own policy, as each of its shards runs it.
type ours struct {
	room   int64
	seed   maphash.Seed
	queues evict.Queues
	at     map[uint64]*item
}

type item struct {
	evict.Item // first, so that it has the item's address
	id         uint64
	size       int64
}

func newOurs(room int64, ghosts int) policy {
	c := &ours{room: room, seed: maphash.MakeSeed(), at: map[uint64]*item{}}
	c.queues.Size = func(it *evict.Item) int64 { return itemOf(it).size }
	c.queues.Ghost = func(it *evict.Item) uint64 { return maphash.Comparable(c.seed, itemOf(it).id) }
	c.queues.Open(ghosts)
	return c
}

func itemOf(it *evict.Item) *item { return (*item)(unsafe.Pointer(it)) }

func (c *ours) access(id uint64, size int64) bool {
	if it := c.at[id]; it != nil {
		it.Hit()
		return true
	}
	if size > c.room {
		return false
	}
	for c.queues.Bytes()+size > c.room {
		delete(c.at, itemOf(c.queues.Victim()).id)
	}
	it := &item{id: id, size: size}
	c.at[id] = it
	c.queues.Insert(&it.Item, c.queues.Known(c.queues.Ghost(&it.Item)))
	return false
}
