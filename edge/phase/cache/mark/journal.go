package mark

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
)

// journal keeps a ledger's marks in a file that is only ever appended to, until
// it is written anew. A file is a run of frames:
//
//	uint32 length of the payload, uint32 CRC-32C of it, payload
//
// in little-endian order. The first payload is the head; each further one is
// what one Sync brought: records, one after the other. A write that was cut off
// is the last frame and is forgotten; it was never acknowledged.
type journal struct {
	path string

	pending []byte // records that are not in the file; guarded by Ledger.mu
	whole   bool   // pending does not tell all: the file is to be written anew; guarded by Ledger.mu

	mu   sync.Mutex // one Sync at a time; taken before Ledger.mu
	file *os.File   // nil after a failure
	size int64      // of the file as far as it is whole
	base int64      // size after it was written anew
}

const (
	fileName  = "purges"
	magic     = "selvage purges 1\n"
	frameHead = 8
	// maxFile is what a journal may have at start: larger ones are not ours.
	maxFile = 1 << 30
	// slack is how much is appended before the file is written anew.
	slack = 1 << 20
	// maxPending is how much is kept for appending; more means writing anew.
	maxPending = 4 << 20
)

// The records of a frame.
const (
	opMarks   byte = 1 + iota // of one zone: zone, purged, all, names
	opRestart                 // floor, base, life
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Open returns a ledger that lives in folder dir, made where it does not exist.
// A journal that is missing or damaged gives a ledger with a new ID: what was
// stored before may have missed purges. newLife says so.
func Open(dir string) (l *Ledger, newLife bool, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, false, fmt.Errorf("mark: folder of the purge journal: %w", err)
	}
	l = NewLasting()
	l.journal = &journal{path: filepath.Join(dir, fileName)}
	good, err := l.load()
	if err != nil && !errors.Is(err, errDamaged) && !errors.Is(err, fs.ErrNotExist) {
		return nil, false, fmt.Errorf("mark: read the purge journal: %w", err)
	}
	if err == nil {
		return l, false, l.journal.resume(good)
	}
	fresh := NewLasting()
	fresh.journal = l.journal
	fresh.journal.whole = true
	return fresh, true, fresh.Sync()
}

func newID() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:])                      // never fails (crypto/rand)
	return binary.LittleEndian.Uint64(b[:]) | 1 // never 0
}

// Close gives the file back. What was not synced is not kept.
func (l *Ledger) Close() error {
	if l.journal == nil {
		return nil
	}
	l.journal.mu.Lock()
	defer l.journal.mu.Unlock()
	if l.journal.file == nil {
		return nil
	}
	f := l.journal.file
	l.journal.file = nil
	return f.Close()
}

// purge keeps the marks of one purge for the next Sync; Ledger.mu is held.
func (j *journal) purge(z *Zone, p *Purge, m Mark) {
	if j == nil || j.whole {
		return
	}
	var all Mark
	if p.Everything {
		all = m
	}
	w := recordWriter{b: j.pending}
	names := len(p.Tags) + len(p.Hosts) + len(p.Prefixes) + len(p.Pages)
	if p.Reserve {
		names++
	}
	w.zone(z.id, z.purged.Load(), all, names)
	if p.Reserve {
		w.name(reserve, 0, m)
	}
	for _, t := range p.Tags {
		w.name(tag, TagHash(t), m)
	}
	for _, list := range [...]struct {
		kind  kind
		names []string
	}{{host, p.Hosts}, {prefix, p.Prefixes}, {page, p.Pages}} {
		for _, name := range list.names {
			w.name(list.kind, Hash(name), m)
		}
	}
	j.keep(w.b)
}

func (j *journal) restart(l *Ledger) {
	if j == nil || j.whole {
		return
	}
	w := recordWriter{b: j.pending}
	w.restart(l)
	j.keep(w.b)
}

func (j *journal) keep(pending []byte) {
	j.pending = pending
	if len(pending) > maxPending {
		j.pending, j.whole = nil, true
	}
}

// Sync makes everything noted so far hold after a restart. When it fails, the
// next Sync tries again; until then nothing new may be acknowledged.
func (l *Ledger) Sync() error {
	j := l.journal
	if j == nil {
		return nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	l.mu.Lock()
	records, whole := j.pending, j.whole || j.size-j.base > max(slack, j.base)
	j.pending = nil
	if whole {
		records = l.dump()
		j.whole = false
	}
	l.mu.Unlock()
	if len(records) == 0 {
		return nil
	}
	var err error
	if whole {
		err = j.rewrite(records)
	} else {
		err = j.append(records)
	}
	if err != nil {
		l.mu.Lock()
		j.pending, j.whole = nil, true
		l.mu.Unlock()
		return fmt.Errorf("mark: write the purge journal: %w", err)
	}
	return nil
}

// dump is the whole ledger as records, the head first; mu is held.
func (l *Ledger) dump() []byte {
	w := recordWriter{b: binary.LittleEndian.AppendUint64([]byte(magic), l.id)}
	w.restart(l)
	for _, id := range slices.Sorted(maps.Keys(l.zones)) {
		z := l.zones[id]
		if z.newest.Load() == 0 && z.page.Load() == 0 && z.purged.Load() <= l.floor {
			continue
		}
		w.zone(id, z.purged.Load(), z.all, z.count)
		for k := tag; k < kinds; k++ {
			for name, m := range z.names[k] {
				w.name(k, name, m)
			}
		}
	}
	return w.b
}

// rewrite replaces the file by one with these records in one frame.
func (j *journal) rewrite(records []byte) error {
	if j.file != nil {
		err := j.file.Close()
		j.file = nil
		if err != nil {
			return err
		}
	}
	f, err := os.CreateTemp(filepath.Dir(j.path), fileName+"-*")
	if err != nil {
		return err
	}
	if err := errors.Join(writeFrame(f, 0, records), f.Sync(), os.Rename(f.Name(), j.path), syncFolder(j.path)); err != nil {
		return errors.Join(err, f.Close(), ignoreMissing(os.Remove(f.Name())))
	}
	j.file, j.size = f, frameHead+int64(len(records))
	j.base = j.size
	return nil
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func (j *journal) append(records []byte) error {
	if j.file == nil {
		return fs.ErrClosed
	}
	if err := errors.Join(writeFrame(j.file, j.size, records), j.file.Sync()); err != nil {
		return err
	}
	j.size += frameHead + int64(len(records))
	return nil
}

func writeFrame(f *os.File, at int64, payload []byte) error {
	b := make([]byte, frameHead, frameHead+len(payload))
	binary.LittleEndian.PutUint32(b, uint32(len(payload)))
	binary.LittleEndian.PutUint32(b[4:], crc32.Checksum(payload, castagnoli))
	_, err := f.WriteAt(append(b, payload...), at)
	return err
}

// syncFolder makes a rename hold.
func syncFolder(path string) error {
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// resume opens the file for appending after its good bytes.
func (j *journal) resume(good int64) error {
	f, err := os.OpenFile(j.path, os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("mark: open the purge journal: %w", err)
	}
	if err := errors.Join(f.Truncate(good), f.Sync()); err != nil {
		return errors.Join(fmt.Errorf("mark: cut the purge journal: %w", err), f.Close())
	}
	j.file, j.size, j.base = f, good, good
	return nil
}
