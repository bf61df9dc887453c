package shelf

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/selvage-edge/selvage/edge/dns"
	"github.com/selvage-edge/selvage/edge/hot"
	"github.com/selvage-edge/selvage/edge/snapshot"
	"github.com/selvage-edge/selvage/zone"
)

// Touch makes true what an entry changed of a zone: it is judged, and replaced
// where it is in memory. gone reports that there is no such zone any more. An
// error means that the last good state is served on.
func (s *Shelf) Touch(id string) (gone bool, err error) {
	return s.touch(id, func(prev *snapshot.Zone, spec *zone.Spec) (*snapshot.Zone, error) {
		return snapshot.Recompile(prev, spec, s.Shared)
	})
}

// touch is Touch by a compile of the caller's, which may leave DNS out. Of several
// zones it may run at once.
func (s *Shelf) touch(id string, compile func(prev *snapshot.Zone, spec *zone.Spec) (*snapshot.Zone, error)) (gone bool, err error) {
	match := func(_, of string) bool { return of == id }
	s.fronts.spoil(match)
	s.plans.spoil(match)
	spec, err := s.read(zone.Prefix(id), id)
	if err == nil && spec == nil {
		s.drop(id, "")
		return true, s.release(id)
	}
	var z *snapshot.Zone
	if err == nil {
		err = s.fill(spec)
	}
	if err == nil {
		z, err = compile(s.hot(spec.Name, id), spec)
	}
	if errors.Is(err, errRead) {
		return false, err
	}
	if err != nil {
		s.keep(id, err)
		return false, fmt.Errorf("compile zone %s: %w", id, err)
	}
	err = s.release(id)
	s.replace(&made{z, frontBytes(spec), false})
	return false, err
}

// Forget makes true that a zone changed whose rows are not all here: what is in
// memory goes, and who asks for it has it compiled. It is not judged.
func (s *Shelf) Forget(id string) error {
	match := func(_, of string) bool { return of == id }
	s.fronts.spoil(match)
	s.plans.spoil(match)
	s.drop(id, "")
	return s.release(id)
}

// replace puts what was compiled in the place of what is in memory.
func (s *Shelf) replace(m *made) {
	name, records := m.zone.Name, m.zone.DNS
	front := *m.zone
	front.DNS = nil
	s.zones.Replace(hot.HashOf(name), name, &front, m.bytes, m.held)
	if s.Plans != nil && records != nil && s.Plans.Hot(name) {
		s.Plans.Set(name, records)
	}
}

// hot returns a zone that is in memory under its name, nil when it is not.
func (s *Shelf) hot(name, id string) *snapshot.Zone {
	if z := s.zones.Find(hot.HashOf(name), []byte(name)); z != nil && z.ID == id {
		return z
	}
	return nil
}

// drop takes a zone out of memory under all names but one.
func (s *Shelf) drop(id, but string) {
	s.zones.Each(func(name string, z *snapshot.Zone) {
		if z.ID == id && name != but {
			s.zones.Remove(hot.HashOf(name), name)
		}
	})
	if s.Plans == nil {
		return
	}
	s.Plans.Each(func(p *dns.Plan) {
		if p.ID == id && p.Name != but {
			s.Plans.Remove(p.Name)
		}
	})
}

// keep holds a zone at its last good state: the newest that the copy still knows
// and that can be compiled, or what is in memory.
func (s *Shelf) keep(id string, why error) {
	s.hold(id, why)
	if good, err := s.lastGood(id); err == nil {
		s.replace(good)
		return
	}
	s.zones.Each(func(name string, z *snapshot.Zone) {
		if z.ID == id {
			s.zones.Pin(hot.HashOf(name), name, true)
		}
	})
}

// Named makes true that entries changed what zone has a name.
func (s *Shelf) Named(name string) error {
	hash := hot.HashOf(name)
	s.Names.Added(hash) // also when it is gone: the next reading of all names knows
	match := func(of, _ string) bool { return of == name }
	s.fronts.spoil(match)
	s.plans.spoil(match)
	select {
	case s.dirty <- struct{}{}:
	default:
	}
	id, err := s.lookup(name)
	if err != nil {
		return err
	}
	if z := s.zones.Find(hash, []byte(name)); z != nil && z.ID != id {
		s.zones.Remove(hash, name)
	}
	if s.Plans != nil && s.Plans.Hot(name) {
		s.Plans.Remove(name) // read anew when it is asked for
	}
	return nil
}

// Refresh makes true that what a zone needs beside its rows has changed: where it
// is in memory it is compiled anew. touch is Touch, or calls it.
func (s *Shelf) Refresh(id string, touch func() error) error {
	match := func(_, of string) bool { return of == id }
	s.fronts.spoil(match)
	name, err := s.nameOf(id)
	if err != nil || s.hot(name, id) == nil {
		return err
	}
	return touch()
}

// Reload makes true that the copy was replaced as a whole: what is in memory is
// compiled anew, and what can not is served as it was; the error names it. What
// the copy was before cannot be read any more. touch is Touch, or calls it.
func (s *Shelf) Reload(touch func(id string) error) error {
	all := func(string, string) bool { return true }
	s.Names.Reset()
	s.fronts.spoil(all)
	s.plans.spoil(all)
	ids := map[string]bool{}
	for _, id := range s.Held() {
		ids[id] = true
	}
	failed := []error{s.held.reset(s.Copy.Cursor().Seq)}
	s.zones.Each(func(name string, z *snapshot.Zone) { ids[z.ID] = true })
	if s.Plans != nil {
		s.Plans.Each(func(p *dns.Plan) { ids[p.ID] = true })
	}
	for id := range ids {
		name, err := s.nameOf(id)
		if s.drop(id, name); err == nil {
			if now, err := s.lookup(name); err == nil && now != id { // another zone has it now
				s.drop(id, "")
			}
		}
		failed = append(failed, touch(id))
	}
	select {
	case s.dirty <- struct{}{}:
	default:
	}
	return errors.Join(failed...)
}

// restEach is how many times as long as it took the shelf rests after it has
// read all names, at least restLeast.
const (
	restEach  = 20
	restLeast = 100 * time.Millisecond
)

// Run reads all names of the copy now and when they changed, until ctx ends; then
// it waits for zones that are being compiled.
func (s *Shelf) Run(ctx context.Context) {
	defer s.fronts.close()
	defer s.plans.close()
	for {
		start := time.Now()
		if err := s.readNames(ctx); err != nil && ctx.Err() == nil {
			s.Log.Error("the names of zones cannot be read; each host that is not known is looked for on disk", "error", err)
		}
		select {
		case <-time.After(max(restLeast, restEach*time.Since(start))):
		case <-ctx.Done():
			return
		}
		select {
		case <-s.dirty:
		case <-ctx.Done():
			return
		}
	}
}

// readNames builds the filter of names, twice as large as it has to be now.
func (s *Shelf) readNames(ctx context.Context) error {
	pass := func(each func(name string)) (count int, err error) {
		err = s.Copy.Scan(zone.PrefixName, func(key string, _ []byte, _ uint64) error {
			count++
			each(key[len(zone.PrefixName):])
			return ctx.Err()
		})
		return count, err
	}
	count, err := pass(func(string) {})
	if err != nil {
		return err
	}
	s.count.Store(int64(count))
	return s.Names.Build(2*count, func(add func(hash uint64)) error {
		_, err := pass(func(name string) { add(hot.HashOf(name)) })
		return err
	})
}
