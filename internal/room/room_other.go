//go:build !linux

package room

// Disk is not known here.
func Disk(string) (free, total uint64) { return 0, 0 }

// Memory is not known here.
func Memory() (used, free uint64) { return 0, 0 }
