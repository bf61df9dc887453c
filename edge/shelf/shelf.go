// Package shelf is where an edge's zones are: all of them on disk, in the copy,
// and compiled those that were asked for lately.
//
// It promises that a zone in memory is found without a lock and without
// waiting; that one that is not is compiled once, however many ask, within a
// bound of time and of how many are compiled at once; that what is found is a
// zone's state at one sequence, and from the moment that an entry has taken
// effect not an older one; that a state which cannot be compiled is never used,
// the last one that could be is, over restarts too, as far as the copy still has
// it; and that memory stays under its bound. What is unknown costs no disk, once
// the names of the copy were read through.
package shelf

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/selvage-edge/selvage/edge/dns"
	"github.com/selvage-edge/selvage/edge/hot"
	"github.com/selvage-edge/selvage/edge/snapshot"
	"github.com/selvage-edge/selvage/fault"
	"github.com/selvage-edge/selvage/feed"
	"github.com/selvage-edge/selvage/zone"
)

// Reader reads the state that an edge serves. Safe for concurrent use.
type Reader interface {
	Cursor() feed.Cursor
	Get(key string) (value []byte, seq uint64, ok bool, err error)
	Scan(prefix string, row func(key string, value []byte, seq uint64) error) error
}

// Historian reads what it was before, see feed.Copy.
type Historian interface {
	History(prefix string, f func(key string, value []byte, seq uint64, deleted bool) error) error
}

// Plans is where DNS keeps what it answers from: dns.Server.
type Plans interface {
	Set(zoneName string, p *dns.Plan)
	Remove(zoneName string)
	Hot(zoneName string) bool
	Each(f func(p *dns.Plan))
}

// Config of a Shelf.
type Config struct {
	Copy   Reader // nil: all zones there are were Published
	Older  Historian
	Fill   func(*zone.Spec) error // private keys
	Shared *zone.Shared
	// Lost reports that the copy lacks what there is to serve, so that a name
	// that is not in it may be a zone's all the same. Nil: never.
	Lost func() bool
	// Lacks reports that rows under a prefix are not all here, so that reading
	// them waits for a parent. Nil: never.
	Lacks func(prefix string) (bool, error)
	State string // the file of what is held; "" = none
	Bytes int64  // of compiled zones, without DNS [DefaultBytes]
	// AtOnce is how many zones are read and compiled at once, for requests and
	// again for DNS [as many as there are processors, at least 2].
	AtOnce int
	Log    *slog.Logger
}

// DefaultBytes and MinBytes bound what compiled zones may have of memory.
const (
	DefaultBytes = 256 << 20
	MinBytes     = 16 << 20
)

// Shelf is an edge's zones. Find, Load, LoadID and Plan are safe for concurrent
// use; Touch, Named and Reload are called by one goroutine at a time, after what
// they speak of was stored in the copy.
type Shelf struct {
	Config
	Names hot.Names
	Plans Plans // set before use; nil: no DNS

	zones  *hot.Table[snapshot.Zone]
	fronts loads[snapshot.Zone]
	plans  loads[dns.Plan]
	held   held
	bases  atomic.Pointer[base] // the newest that was read
	dirty  chan struct{}        // capacity 1: names changed
	count  atomic.Int64         // of names
	metrics
}

// New returns a Shelf of zones that nobody has asked for yet.
func New(c Config) *Shelf {
	if c.Bytes == 0 {
		c.Bytes = DefaultBytes
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	s := &Shelf{Config: c, zones: hot.NewTable[snapshot.Zone](c.Bytes), dirty: make(chan struct{}, 1), metrics: newMetrics()}
	atOnce := cmp.Or(c.AtOnce, max(2, runtime.GOMAXPROCS(0)))
	s.fronts.init(atOnce)
	s.plans.init(atOnce)
	return s
}

// Find returns the zone that a host belongs to, when it is compiled: the one
// with the longest name that is the host or ends it at a label. host is
// lower-case, without port and final dot. cold reports that Load has to say; nil
// without it is a host of no zone.
func (s *Shelf) Find(host []byte) (z *snapshot.Zone, cold bool) {
	var names hot.Suffixes
	names.Set(host)
	for i := range names.Len() {
		name, hash := names.At(i)
		if z := s.zones.Find(hash, name); z != nil {
			return z, false
		}
		if s.Copy != nil && s.Names.May(hash) {
			return nil, true
		}
	}
	return nil, false
}

// Load is Find that compiles the zone where it has to, within LoadTime; nil is
// a host of no zone.
func (s *Shelf) Load(ctx context.Context, host []byte) (*snapshot.Zone, error) {
	ctx, cancel := context.WithTimeout(ctx, LoadTime)
	defer cancel()
	var names hot.Suffixes
	names.Set(host)
	for i := range names.Len() {
		name, hash := names.At(i)
		if z := s.zones.Find(hash, name); z != nil {
			return z, nil
		}
		if s.Copy == nil || !s.Names.May(hash) {
			continue
		}
		z, err := s.fronts.get(ctx, string(name), s.loadFront)
		if z != nil || err != nil {
			return z, err
		}
	}
	return nil, nil
}

// LoadID is Load of a zone by its id.
func (s *Shelf) LoadID(ctx context.Context, id string) (*snapshot.Zone, error) {
	name, err := s.nameOf(id)
	if name == "" || err != nil {
		return nil, err
	}
	z, err := s.Load(ctx, []byte(name))
	if z != nil && z.ID != id {
		return nil, err
	}
	return z, err
}

// Plan returns what DNS answers with for a zone of this name, and gives it to
// Plans; nil when there is none.
func (s *Shelf) Plan(ctx context.Context, name string) (*dns.Plan, error) {
	return s.plans.get(ctx, name, s.loadPlan)
}

// Publish makes z a zone that is always found.
func (s *Shelf) Publish(z *snapshot.Zone) {
	s.zones.Put(hot.HashOf(z.Name), z.Name, z, 0, true)
}

// errRead says that nothing is known of a zone's state, good or bad.
var errRead = errors.New("the copy cannot be read")

// errLost is told instead of "no such zone" by an edge whose copy is not whole.
var errLost = errors.New("the configuration of this edge is on its way")

// lookup finds the id of a zone by its name, "" when there is none.
func (s *Shelf) lookup(name string) (id string, err error) {
	changes := s.Names.Changes()
	value, _, ok, err := s.Copy.Get(zone.NameKey(name))
	if err != nil {
		return "", &fault.Error{Op: "zone.find", Side: fault.Edge, Kind: fault.Limit, Err: err}
	}
	if ok {
		return string(value), nil
	}
	if s.Lost != nil && s.Lost() {
		return "", &fault.Error{Op: "zone.find", Side: fault.Edge, Kind: fault.Limit, Err: errLost}
	}
	s.Names.Missed(hot.HashOf(name), changes)
	return "", nil
}

// nameOf reads a zone's name, "" when there is no such zone.
func (s *Shelf) nameOf(id string) (string, error) {
	if s.Copy == nil {
		return "", nil
	}
	value, _, ok, err := s.Copy.Get(zone.MetaKey(id))
	if err != nil || !ok {
		return "", err
	}
	var meta zone.Meta
	if err := json.Unmarshal(value, &meta); err != nil {
		return "", fmt.Errorf("zone %s: meta: %w", id, err)
	}
	return meta.Name, nil
}

// loadFront compiles the zone of a name and puts it on the shelf.
func (s *Shelf) loadFront(ld *load[snapshot.Zone]) (*snapshot.Zone, error) {
	start := time.Now()
	for range loadTries {
		s.fronts.begin(ld)
		id, err := s.lookup(ld.name)
		if err != nil || id == "" {
			return nil, err
		}
		s.fronts.identify(ld, id)
		made, err := s.newest(id)
		if err == nil && (made == nil || made.zone.Name != ld.name) {
			continue // it was renamed or deleted meanwhile
		}
		if err != nil {
			s.failures.WithLabelValues("http").Inc()
			s.Log.Error("a zone cannot be compiled; its visitors are answered 503", "zone", ld.name, "id", id, "error", err)
			return nil, &fault.Error{Op: "zone.compile", Side: fault.Edge, Kind: fault.Limit, Err: err}
		}
		if s.fronts.publish(ld, func() {
			s.zones.Put(hot.HashOf(ld.name), ld.name, made.zone, made.bytes, made.held)
		}) {
			s.seconds.WithLabelValues("http").Observe(time.Since(start).Seconds())
			return made.zone, nil
		}
	}
	return nil, errUnsteady
}

// loadPlan compiles what DNS answers with for a name, and hands it over.
func (s *Shelf) loadPlan(ld *load[dns.Plan]) (*dns.Plan, error) {
	start := time.Now()
	for range loadTries {
		s.plans.begin(ld)
		id, err := s.lookup(ld.name)
		if err != nil || id == "" {
			return nil, err
		}
		s.plans.identify(ld, id)
		p, name, err := s.newestRecords(id)
		if err == nil && name != ld.name {
			continue
		}
		if err != nil {
			s.failures.WithLabelValues("dns").Inc()
			s.Log.Error("a zone's records cannot be compiled; its names are answered SERVFAIL", "zone", ld.name, "id", id, "error", err)
			return nil, err
		}
		if s.plans.publish(ld, func() { s.Plans.Set(name, p) }) {
			s.seconds.WithLabelValues("dns").Observe(time.Since(start).Seconds())
			return p, nil
		}
	}
	return nil, errUnsteady
}

// made is a zone as it was compiled.
type made struct {
	zone  *snapshot.Zone
	bytes int64
	held  bool // at an older state than the newest
}

// newest compiles the newest state of a zone that can be; nil when there is no
// such zone.
func (s *Shelf) newest(id string) (*made, error) {
	if !s.held.has(id) {
		spec, err := s.read(zone.Prefix(id), id)
		if spec == nil && err == nil {
			return nil, nil
		}
		if err == nil {
			err = s.fill(spec)
		}
		var z *snapshot.Zone
		if err == nil {
			z, err = snapshot.Front(nil, spec)
		}
		if err == nil {
			return &made{z, frontBytes(spec), false}, nil
		}
		if errors.Is(err, errRead) || errors.Is(err, errUnsteady) || !s.hold(id, err) {
			return nil, err
		}
	}
	good, err := s.lastGood(id)
	if err != nil {
		return nil, err
	}
	good.zone.DNS = nil
	return good, nil
}

// newestRecords is newest for DNS.
func (s *Shelf) newestRecords(id string) (p *dns.Plan, name string, err error) {
	if !s.held.has(id) {
		spec, err := s.records(id)
		if spec == nil && err == nil {
			return nil, "", nil
		}
		if err == nil {
			p, err = snapshot.Records(spec, s.Shared)
		}
		if err == nil {
			return p, spec.Name, nil
		}
		if errors.Is(err, errRead) || errors.Is(err, errUnsteady) || !s.hold(id, err) {
			return nil, "", err
		}
	}
	good, err := s.lastGood(id)
	if err != nil {
		return nil, "", err
	}
	return good.zone.DNS, good.zone.Name, nil
}

// read assembles a zone of the rows under a prefix, with the defaults below its
// settings; nil when there are none. The defaults are read before and after, so
// that they are of the same moment.
func (s *Shelf) read(prefix, id string) (*zone.Spec, error) {
	for range loadTries {
		under, err := s.base()
		if err != nil {
			return nil, err
		}
		var rows []zone.Row
		if err := s.Copy.Scan(prefix, func(key string, value []byte, seq uint64) error {
			rows = append(rows, zone.Row{Key: key, Value: append([]byte{}, value...), Seq: seq})
			return nil
		}); err != nil {
			return nil, fmt.Errorf("%w: zone %s: %w", errRead, id, err)
		}
		if again, err := s.base(); err != nil {
			return nil, err
		} else if !again.same(under) {
			continue
		}
		if len(rows) == 0 {
			return nil, nil
		}
		spec, err := zone.Assemble(id, rows)
		if err == nil {
			under.under(spec)
		}
		return spec, err
	}
	return nil, errUnsteady
}

// records assembles of a zone what DNS needs. Meta is read before and after, so
// that it is of the same moment.
func (s *Shelf) records(id string) (*zone.Spec, error) {
	for range loadTries {
		meta, seq, ok, err := s.Copy.Get(zone.MetaKey(id))
		if err != nil {
			return nil, fmt.Errorf("%w: zone %s: %w", errRead, id, err)
		}
		if !ok {
			return nil, nil
		}
		rows := []zone.Row{{Key: zone.MetaKey(id), Value: meta, Seq: seq}}
		if err := s.Copy.Scan(zone.RecordsPrefix(id), func(key string, value []byte, seq uint64) error {
			rows = append(rows, zone.Row{Key: key, Value: append([]byte{}, value...), Seq: seq})
			return nil
		}); err != nil {
			return nil, fmt.Errorf("%w: records of zone %s: %w", errRead, id, err)
		}
		if _, again, ok, err := s.Copy.Get(zone.MetaKey(id)); err != nil || !ok || again != seq {
			if err != nil {
				return nil, fmt.Errorf("%w: zone %s: %w", errRead, id, err)
			}
			continue
		}
		return zone.Assemble(id, rows)
	}
	return nil, errUnsteady
}

func (s *Shelf) fill(spec *zone.Spec) error {
	if s.Fill == nil {
		return nil
	}
	return s.Fill(spec)
}
