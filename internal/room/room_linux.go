package room

import (
	"bytes"
	"os"
	"strconv"
	"syscall"
)

// Disk returns what is free for this user, and how much there is in all, on the
// disk below a path.
func Disk(path string) (free, total uint64) {
	var s syscall.Statfs_t
	if syscall.Statfs(path, &s) != nil || s.Bsize < 0 {
		return 0, 0
	}
	return s.Bavail * uint64(s.Bsize), s.Blocks * uint64(s.Bsize)
}

// Memory returns how much this process has in memory, and how much the machine
// could give without swapping.
func Memory() (used, free uint64) {
	return field("/proc/self/status", "VmRSS:"), field("/proc/meminfo", "MemAvailable:")
}

// field reads a line such as "VmRSS:   123 kB".
func field(file, name string) uint64 {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	for line := range bytes.Lines(text) {
		words := bytes.Fields(line)
		if len(words) >= 2 && string(words[0]) == name {
			kib, err := strconv.ParseUint(string(words[1]), 10, 50)
			if err != nil {
				return 0
			}
			return kib << 10
		}
	}
	return 0
}
