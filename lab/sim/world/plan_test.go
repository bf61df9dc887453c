package world

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/selvage-edge/selvage/lab/sim/wan"
)

// plan is everything that a seed fixes.
type plan struct {
	seed     uint64
	machines []machine
	zones    int
	writes   []write
	faults   []fault
	span     time.Duration // of the writes
	retain   int           // entries that the control planes keep; 0 = all
	kept     int           // entries that relays keep
	gather   time.Duration // of the control planes
	age      time.Duration // that the log and relays keep entries; 0 = any
	light    bool          // many machines: disks do not remember what was synced, nobody visits
	wrong    mutations
}

// database is the name by which the database's clock is meant.
const database = "database"

type role string

const (
	control role = "control"
	relay   role = "relay"
	edge    role = "edge"
)

// machine is one host.
type machine struct {
	name    string
	role    role
	place   wan.Place
	parents []string
}

// write is one change that a client makes.
type write struct {
	at   time.Duration
	zone int
	kind string // "state", "remove", "purge"
	pad  int    // bytes
	via  int    // which control plane is asked first
}

// fault is one thing that goes wrong.
type fault struct {
	at    time.Duration
	kind  string
	name  string // of the machine
	other string // of the one at the other end, where it is about a line
	lasts time.Duration
	n     int    // what the kind makes of it
	seed  uint64 // of what it decides while it runs
}

func (f fault) String() string {
	return fmt.Sprintf("%s %s %s for %s, %d", f.kind, f.name, f.other, f.lasts, f.n)
}

const changes = 2000

func newPlan(seed uint64, places []wan.Place, changes int) plan {
	r := rand.New(rand.NewPCG(seed, 1))
	p := plan{seed: seed, zones: 3 + r.IntN(6), span: time.Duration(12+r.IntN(10)) * time.Second, kept: 1 << 20}
	if r.IntN(3) == 0 {
		p.retain = 300 + r.IntN(700)
	}
	p.gather = []time.Duration{2 * time.Millisecond, 20 * time.Millisecond, 50 * time.Millisecond}[r.IntN(3)]
	if r.IntN(3) == 0 {
		p.kept = 64 + r.IntN(400)
	}
	if r.IntN(3) == 0 {
		p.age = 10 * time.Minute
	}
	p.people(r, places)
	for range changes {
		w := write{at: span(r, 0, p.span), zone: r.IntN(p.zones), kind: pick(r, writeKinds), via: r.IntN(4), pad: r.IntN(200)}
		if r.IntN(200) == 0 {
			w.pad = r.IntN(30_000)
		}
		p.writes = append(p.writes, w)
	}
	slices.SortFunc(p.writes, func(a, b write) int { return int(a.at - b.at) })
	p.trouble(r)
	return p
}

// people puts machines at places: up to ten.
func (p *plan) people(r *rand.Rand, places []wan.Place) {
	at := r.Perm(len(places))
	add := func(role role, n int) (names []string) {
		for i := range n {
			m := machine{name: fmt.Sprintf("%s%d", role, i+1), role: role, place: places[at[len(p.machines)]]}
			p.machines = append(p.machines, m)
			names = append(names, m.name)
		}
		return names
	}
	roots := add(control, 1+r.IntN(2))
	relays := add(relay, 1+r.IntN(3))
	add(edge, 2+r.IntN(4))
	for i := range p.machines {
		m := &p.machines[i]
		switch m.role {
		case relay:
			m.parents = slices.Clone(roots)
			if len(relays) > 1 && r.IntN(3) == 0 { // a relay below another, which may be below this one
				other := relays[r.IntN(len(relays))]
				if other != m.name {
					m.parents = append([]string{other}, m.parents...)
				}
			}
		case edge:
			m.parents = slices.Clone(relays)
			r.Shuffle(len(m.parents), func(a, b int) { m.parents[a], m.parents[b] = m.parents[b], m.parents[a] })
			m.parents = append(m.parents[:1+r.IntN(len(m.parents))], roots...)
		case control:
		}
	}
}

// choice is one of several, as often as its weight says.
type choice struct {
	what   string
	weight int
}

var writeKinds = []choice{{"state", 65}, {"remove", 8}, {"purge", 27}}

var faultKinds = []choice{
	{"cut", 6}, {"isolate", 3}, {"delay", 4}, {"twist", 8}, {"reset", 3}, {"crash", 8}, {"full", 3},
	{"slow", 3}, {"leader", 4}, {"detach", 3}, {"mute", 2}, {"clock", 4},
}

func pick(r *rand.Rand, from []choice) string {
	sum := 0
	for _, c := range from {
		sum += c.weight
	}
	n := r.IntN(sum)
	for _, c := range from {
		if n -= c.weight; n < 0 {
			return c.what
		}
	}
	return from[0].what
}

func span(r *rand.Rand, from, to time.Duration) time.Duration {
	return from + time.Duration(r.Int64N(int64(to-from)))
}

// trouble orders the faults.
func (p *plan) trouble(r *rand.Rand) {
	roots, nodes := p.names(control), append(p.names(relay), p.names(edge)...)
	for range 5 + r.IntN(15) {
		f := fault{at: span(r, 0, p.span), kind: pick(r, faultKinds), lasts: span(r, 100*time.Millisecond, 8*time.Second), n: r.IntN(1000), seed: r.Uint64()}
		f.name = nodes[r.IntN(len(nodes))]
		parents := p.machine(f.name).parents
		f.other = parents[r.IntN(len(parents))]
		switch f.kind {
		case "leader", "detach", "mute":
			f.name, f.other = roots[r.IntN(len(roots))], ""
		case "clock": // anybody's, the database's too
			all := append([]string{database}, append(roots, nodes...)...)
			f.name, f.other = all[r.IntN(len(all))], ""
		case "isolate", "crash", "full", "slow", "reset":
			f.other = ""
		}
		p.faults = append(p.faults, f)
	}
	slices.SortFunc(p.faults, func(a, b fault) int { return int(a.at - b.at) })
}

func (p *plan) names(of role) (all []string) {
	for _, m := range p.machines {
		if m.role == of {
			all = append(all, m.name)
		}
	}
	return all
}

func (p *plan) machine(name string) *machine {
	for i := range p.machines {
		if p.machines[i].name == name {
			return &p.machines[i]
		}
	}
	return nil
}
