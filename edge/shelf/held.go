package shelf

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"sync"

	"github.com/selvage-edge/selvage/edge/snapshot"
	"github.com/selvage-edge/selvage/feed"
	"github.com/selvage-edge/selvage/internal/atomicfile"
	"github.com/selvage-edge/selvage/zone"
)

// held are the zones whose newest state cannot be compiled. They are on disk, so
// that after a restart no part of such a state is used, not even for DNS, which
// might have liked its own part.
type held struct {
	path string

	mu    sync.Mutex
	zones map[string]uint64 // id → number of the last good state, 0 = not found yet; guarded by mu
	base  uint64            // the copy's history begins here; guarded by mu
}

// maxHeld bounds zones that are held: more than that are a fault of ours, and are
// found out again when they are asked for.
const maxHeld = 65_536

type heldFile struct {
	Base  uint64            `json:"base"`
	Zones map[string]uint64 `json:"zones"`
}

// Open reads what was held when the edge ended. It is called before anything is
// asked for.
func (s *Shelf) Open() error {
	h := &s.held
	h.path = s.State
	f := heldFile{Base: s.Copy.Cursor().Seq}
	text, err := os.ReadFile(h.path)
	if err == nil {
		err = json.Unmarshal(text, &f)
	}
	h.zones, h.base = f.Zones, f.Base
	if h.zones == nil {
		h.zones = map[string]uint64{}
	}
	if err != nil {
		// Without it the copy's history counts as unknown: it is written now.
		if !errors.Is(err, fs.ErrNotExist) {
			s.Log.Warn("what was held at an older state is not known any more", "file", h.path, "error", err)
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.write()
	}
	return nil
}

// write runs under mu.
func (h *held) write() error {
	if h.path == "" {
		return nil
	}
	text, err := json.Marshal(heldFile{h.base, h.zones})
	if err == nil {
		err = atomicfile.Write(h.path, append(text, '\n'), 0o600)
	}
	if err != nil {
		return fmt.Errorf("note the zones that are held: %w", err)
	}
	return nil
}

// Held are the ids of the zones that are held.
func (s *Shelf) Held() []string {
	h := &s.held
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Sorted(maps.Keys(h.zones))
}

func (h *held) has(id string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	_, ok := h.zones[id]
	return ok
}

// reset begins the copy's history anew.
func (h *held) reset(base uint64) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.zones, h.base = map[string]uint64{}, base
	return h.write()
}

// hold notes that the newest state of a zone cannot be compiled. It reports
// whether there is a history to go back in.
func (s *Shelf) hold(id string, why error) bool {
	h := &s.held
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, ok := h.zones[id]; !ok {
		if len(h.zones) >= maxHeld || h.zones == nil {
			return false
		}
		h.zones[id] = 0
		s.Log.Error("the newest state of a zone cannot be used; the last good one is", "id", id, "error", why)
		if err := h.write(); err != nil {
			s.Log.Error("after a restart it may be tried again", "id", id, "error", err)
		}
	}
	return s.Older != nil
}

// release notes that the newest state of a zone is good, or gone.
func (s *Shelf) release(id string) error {
	h := &s.held
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, ok := h.zones[id]; !ok {
		return nil
	}
	delete(h.zones, id)
	return h.write()
}

// goodTries is how many states of a zone are tried, the newest first.
const goodTries = 32

var errNoGood = errors.New("no state of the zone that the copy still has can be used")

// lastGood compiles the newest state of a zone that can be, whole, of those that
// the copy still knows for sure, over the defaults of now.
func (s *Shelf) lastGood(id string) (*made, error) {
	if s.Older == nil {
		return nil, errNoGood
	}
	under, err := s.base()
	if err != nil {
		return nil, err
	}
	past, err := s.past(id)
	if err != nil {
		return nil, err
	}
	s.held.mu.Lock()
	known, base := s.held.zones[id], s.held.base
	s.held.mu.Unlock()
	var why error
	tries := 0
	for _, at := range past.seqs() {
		if at < base {
			at = base // what it was when the history began
		}
		if known != 0 && at > known {
			continue
		}
		rows, ok := past.at(at)
		if tries++; !ok || tries > goodTries {
			break
		}
		spec, err := zone.Assemble(id, rows)
		if err == nil {
			under.under(spec)
			err = s.fill(spec)
		}
		var z *snapshot.Zone
		if err == nil {
			z, err = snapshot.Recompile(nil, spec, s.Shared)
		}
		if err == nil {
			s.held.mu.Lock()
			if _, ok := s.held.zones[id]; ok && known == 0 {
				s.held.zones[id] = at
				err = s.held.write()
			}
			s.held.mu.Unlock()
			return &made{z, frontBytes(spec), true}, err
		}
		why = errors.Join(errNoGood, err)
		if at == base {
			break
		}
	}
	return nil, fmt.Errorf("zone %s: %w", id, errors.Join(errNoGood, why))
}

// past is what the copy still has of a zone: of each key its versions, the newest
// first.
type past map[string][]version

type version struct {
	value   []byte
	seq     uint64
	deleted bool
}

func (s *Shelf) past(id string) (past, error) {
	p := past{}
	err := s.Older.History(zone.Prefix(id), func(key string, value []byte, seq uint64, deleted bool) error {
		p[key] = append(p[key], version{append([]byte{}, value...), seq, deleted})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read history of zone %s: %w", id, err)
	}
	return p, nil
}

// seqs are the numbers at which the zone changed, the newest first.
func (p past) seqs() []uint64 {
	set := map[uint64]bool{}
	for _, versions := range p {
		for _, v := range versions {
			set[v.seq] = true
		}
	}
	all := slices.Sorted(maps.Keys(set))
	slices.Reverse(all)
	return all
}

// at returns the zone's rows at a number, false when one of them may be gone.
func (p past) at(seq uint64) (rows []zone.Row, ok bool) {
	for _, key := range slices.Sorted(maps.Keys(p)) {
		versions := p[key]
		i := slices.IndexFunc(versions, func(v version) bool { return v.seq <= seq })
		if i < 0 {
			if len(versions) >= feed.KeptVersions {
				return nil, false
			}
			continue // it did not exist yet
		}
		if v := versions[i]; !v.deleted {
			rows = append(rows, zone.Row{Key: key, Value: v.value, Seq: v.seq})
		}
	}
	return rows, len(rows) > 0
}
