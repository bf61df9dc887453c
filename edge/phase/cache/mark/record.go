package mark

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"os"
)

var errDamaged = errors.New("the journal is damaged")

// load reads the journal and tells how many of its bytes are whole.
func (l *Ledger) load() (good int64, err error) {
	info, err := os.Stat(l.journal.path)
	if err != nil {
		return 0, err
	}
	if info.Size() > maxFile {
		return 0, errDamaged
	}
	b, err := os.ReadFile(l.journal.path)
	if err != nil {
		return 0, err
	}
	return l.replay(b)
}

// replay takes in the frames of b. One that ends at or beyond the end of b and
// does not check is a write that was cut off; one before that is damage.
func (l *Ledger) replay(b []byte) (good int64, err error) {
	for at := 0; at < len(b); at = int(good) {
		rest := b[at:]
		if len(rest) < frameHead {
			break
		}
		n := int64(binary.LittleEndian.Uint32(rest))
		whole := frameHead+n <= int64(len(rest))
		if !whole || crc32.Checksum(rest[frameHead:frameHead+n], castagnoli) != binary.LittleEndian.Uint32(rest[4:]) || n == 0 {
			if whole && frameHead+n < int64(len(rest)) && !blank(rest) {
				return 0, errDamaged
			}
			break
		}
		payload := rest[frameHead : frameHead+n]
		if at == 0 {
			if len(payload) < len(magic)+8 || string(payload[:len(magic)]) != magic {
				return 0, errDamaged
			}
			l.id = binary.LittleEndian.Uint64(payload[len(magic):])
			payload = payload[len(magic)+8:]
		}
		if !l.take(payload) {
			return 0, errDamaged
		}
		good += frameHead + n
	}
	if good == 0 {
		return 0, errDamaged
	}
	return good, nil
}

// blank reports bytes that were never written.
func blank(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// take applies the records of one payload.
func (l *Ledger) take(payload []byte) bool {
	r := recordReader{b: payload}
	for len(r.b) > 0 && !r.wrong {
		switch r.byte() {
		case opRestart:
			floor := r.number()
			l.base, l.life = r.number(), r.number()
			l.raiseFloor(floor)
			l.seq = max(l.seq, floor)
		case opMarks:
			l.takeZone(&r)
		default:
			return false
		}
	}
	return !r.wrong
}

func (l *Ledger) takeZone(r *recordReader) {
	z := l.zone(string(r.bytes(int(min(r.number(), maxZoneID)))))
	raise(&z.purged, r.number())
	z.all = z.all.join(r.mark())
	raise(&z.newest, z.all.Soft)
	l.seq = max(l.seq, z.purged.Load(), z.all.newest())
	before := z.count
	for range r.number() {
		k, name, m := kind(r.byte()), r.fixed(), r.mark()
		if r.wrong || k < tag || k >= kinds {
			r.wrong = true
			return
		}
		z.set(k, name, m)
		if k == page {
			raise(&z.page, m.newest())
		} else {
			raise(&z.newest, m.newest())
		}
		if m.Soft > 0 {
			raise(&z.newest, m.Soft)
		}
		l.seq = max(l.seq, m.newest())
	}
	l.marks += z.count - before
}

// maxZoneID bounds a zone's name in a journal.
const maxZoneID = 256

// recordWriter appends records.
type recordWriter struct{ b []byte }

func (w *recordWriter) restart(l *Ledger) {
	w.b = append(w.b, opRestart)
	w.number(l.floor)
	w.number(l.base)
	w.number(l.life)
}

func (w *recordWriter) zone(id string, purged uint64, all Mark, names int) {
	w.b = append(w.b, opMarks)
	w.number(uint64(len(id)))
	w.b = append(w.b, id...)
	w.number(purged)
	w.mark(all)
	w.number(uint64(names))
}

func (w *recordWriter) name(k kind, name uint64, m Mark) {
	w.b = binary.LittleEndian.AppendUint64(append(w.b, byte(k)), name)
	w.mark(m)
}

func (w *recordWriter) number(n uint64) { w.b = binary.AppendUvarint(w.b, n) }

func (w *recordWriter) mark(m Mark) {
	w.number(m.Hard)
	w.number(m.Soft)
	if m.Soft > 0 {
		w.number(uint64(m.At))
	}
}

// recordReader cuts records; wrong, once set, stays, and zeros come then.
type recordReader struct {
	b     []byte
	wrong bool
}

func (r *recordReader) bytes(n int) []byte {
	if r.wrong || n > len(r.b) {
		r.wrong, r.b = true, nil
		return nil
	}
	p := r.b[:n]
	r.b = r.b[n:]
	return p
}

func (r *recordReader) byte() byte {
	if p := r.bytes(1); p != nil {
		return p[0]
	}
	return 0
}

func (r *recordReader) fixed() uint64 {
	if p := r.bytes(8); p != nil {
		return binary.LittleEndian.Uint64(p)
	}
	return 0
}

func (r *recordReader) number() uint64 {
	n, size := binary.Uvarint(r.b)
	if size <= 0 {
		r.bytes(len(r.b) + 1)
		return 0
	}
	r.b = r.b[size:]
	return n
}

func (r *recordReader) mark() Mark {
	m := Mark{Hard: r.number(), Soft: r.number()}
	if m.Soft > 0 {
		m.At = int64(r.number())
	}
	return m
}
