//go:build race

package cache

// heapSlab lets the race detector see what is stored.
const heapSlab = true
