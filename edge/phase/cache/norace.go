//go:build !race

package cache

// heapSlab is on under the race detector, which sees the Go heap alone.
const heapSlab = false
