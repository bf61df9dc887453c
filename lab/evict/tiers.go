package main

import (
	"fmt"
	"io"
	"math/rand/v2"
)

// The tiers of a small network: servers that share an upper tier and a reserve.
// Rooms are parts of all bytes that a trace asks for.
const (
	servers    = 4
	ramPart    = .02
	diskPart   = .10
	upperPart  = .20
	tierSeed   = 7
	tierRAM    = 0
	tierDisk   = 1
	tierUpper  = 2
	tierKept   = 3
	tierOrigin = 4
)

// tierNames are the tiers as logs and metrics call them, with what the
// requirements expect of each.
var tierNames = [...]struct{ name, wanted string }{
	{"ram", "40-60 %"}, {"ssd", "+20-30 %"}, {"region or upper", "+10-15 %"}, {"reserve", "+5 %"}, {"origin", "5-10 %"},
}

// network is what answers a request, nearest first. What misses is stored in
// each tier that was asked.
type network struct {
	ram, disk [servers]policy
	upper     policy
	reserve   map[uint64]bool // keeps everything
}

// newNetwork makes memory that the cache's own policy rules, and disks, which
// are first in, first out with a second chance for what was asked for.
func newNetwork(bytes int64) *network {
	part := func(p float64) int64 { return max(1, int64(float64(bytes)*p)) }
	own := policies[len(policies)-1].make
	n := &network{upper: newSIEVE(part(upperPart)), reserve: map[uint64]bool{}}
	for i := range servers {
		n.ram[i], n.disk[i] = own(part(ramPart)), newSIEVE(part(diskPart))
	}
	return n
}

// answer returns the tier that has the object.
func (n *network) answer(server int, r request) int {
	switch {
	case n.ram[server].access(r.id, r.size):
		return tierRAM
	case n.disk[server].access(r.id, r.size):
		return tierDisk
	case n.upper.access(r.id, r.size):
		return tierUpper
	case n.reserve[r.id]:
		return tierKept
	}
	n.reserve[r.id] = true
	return tierOrigin
}

// shares replays a trace, each request at one server by chance, and returns what
// part of the requests each tier answered.
func shares(trace []request) (part [len(tierNames)]float64) {
	seen, bytes := map[uint64]bool{}, int64(0)
	for _, r := range trace {
		if !seen[r.id] {
			seen[r.id] = true
			bytes += r.size
		}
	}
	n := newNetwork(bytes)
	at := rand.New(rand.NewPCG(tierSeed, tierSeed))
	for _, r := range trace {
		part[n.answer(at.IntN(servers), r)] += 1 / float64(len(trace))
	}
	return part
}

func printShares(out io.Writer, name string, trace []request) {
	fmt.Fprintf(out, "%s: %d servers, each with memory for %.0f %% and disk for %.0f %% of all bytes asked for, an upper tier for %.0f %%\n",
		name, servers, ramPart*100, diskPart*100, upperPart*100)
	for i, p := range shares(trace) {
		fmt.Fprintf(out, "  %-16s %5.1f %%   wanted %s\n", tierNames[i].name, p*100, tierNames[i].wanted)
	}
}
