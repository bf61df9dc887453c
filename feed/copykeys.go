package feed

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/cockroachdb/pebble/v2"
)

// Keys in Pebble: metaKey, and for data 0x01, generation, key, NUL, inverted
// sequence number, so that a key's newest version comes first. See DESIGN.md.
const (
	dataSpace   = 0x01
	dataPrefix  = 1 + 4
	dataSuffix  = 1 + 8
	metaVersion = 1
	metaBytes   = 1 + 4 + 8 + 32 + 8 + 8 + 4
	valueHead   = 1 + 4
	kindValue   = 0
	kindDeleted = 1
	kindStub    = 2 // the value is elsewhere: a sum of it
)

var metaKey = []byte{0x00, 'm'}

func appendDataKey(dst []byte, gen uint32, key string, seq uint64) []byte {
	dst = append(dst, dataSpace)
	dst = binary.BigEndian.AppendUint32(dst, gen)
	dst = append(dst, key...)
	dst = append(dst, 0)
	return binary.BigEndian.AppendUint64(dst, ^seq)
}

// prefixBounds are the bounds of all keys of a generation with the prefix.
func prefixBounds(gen uint32, prefix string) (lower, upper []byte) {
	lower = binary.BigEndian.AppendUint32([]byte{dataSpace}, gen)
	lower = append(lower, prefix...)
	upper = bytes.Clone(lower)
	for i := len(upper) - 1; i >= 0; i-- {
		if upper[i]++; upper[i] != 0 {
			return lower, upper[:i+1]
		}
	}
	return lower, []byte{0xff} // not reached: dataSpace is not 0xff
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// appendValue writes a version's value with its own checksum, which covers the
// key as well: a value under another key is as wrong as a torn one.
func appendValue(dst, dataKey []byte, kind byte, value []byte) []byte {
	dst = append(dst, kind)
	dst = binary.BigEndian.AppendUint32(dst, valueSum(dataKey, kind, value))
	return append(dst, value...)
}

func valueSum(dataKey []byte, kind byte, value []byte) uint32 {
	sum := crc32.Update(0, castagnoli, dataKey[dataPrefix:])
	sum = crc32.Update(sum, castagnoli, []byte{kind})
	return crc32.Update(sum, castagnoli, value)
}

// version is one value of one key as it stands in Pebble.
type version struct {
	key    string
	seq    uint64
	kind   byte
	value  []byte // valid until the iterator moves; a stub's sum
	stored []byte // the same with its head
}

func decodeVersion(it *pebble.Iterator, gen uint32) (version, error) {
	p, err := it.ValueAndErr()
	if err != nil {
		return version{}, err
	}
	return parseVersion(it.Key(), p, gen)
}

func parseVersion(key, p []byte, gen uint32) (version, error) {
	if len(key) <= dataPrefix+dataSuffix || key[0] != dataSpace || key[len(key)-dataSuffix] != 0 {
		return version{}, fmt.Errorf("%w: key %x", ErrCorrupt, key)
	}
	v := version{
		key: string(key[dataPrefix : len(key)-dataSuffix]),
		seq: ^binary.BigEndian.Uint64(key[len(key)-8:]),
	}
	if got := binary.BigEndian.Uint32(key[1:]); got != gen {
		return v, fmt.Errorf("%w: %s: generation %d, want %d", ErrCorrupt, v.key, got, gen)
	}
	if len(p) < valueHead || p[0] > kindStub || p[0] == kindStub && len(p) != valueHead+len(stubSum{}) {
		return v, fmt.Errorf("%w: %s at %d: value of %d bytes", ErrCorrupt, v.key, v.seq, len(p))
	}
	v.kind, v.value, v.stored = p[0], p[valueHead:], p
	if valueSum(key, p[0], v.value) != binary.BigEndian.Uint32(p[1:]) {
		return v, fmt.Errorf("%w: %s at %d: checksum does not match", ErrCorrupt, v.key, v.seq)
	}
	return v, nil
}

// meta is the one row beside the data, written in the same batch: which
// generation is read, what it is the state at, and what must be there. The
// count and sum find versions that are gone without a trace, as when a torn
// manifest forgets a table while the log behind it still holds the cursor.
type meta struct {
	gen    uint32
	cursor Cursor
	tally
	kept kept // found anew when the copy is opened
}

// tally counts versions and adds up their checksums.
type tally struct{ count, sum uint64 }

func (t *tally) add(value []byte) {
	t.count++
	t.sum += uint64(binary.BigEndian.Uint32(value[1:]))
}

func (t *tally) remove(value []byte) { t.drop(binary.BigEndian.Uint32(value[1:])) }

func (t *tally) drop(sum uint32) {
	t.count--
	t.sum -= uint64(sum)
}

func (m meta) encode() []byte {
	p := append(make([]byte, 0, metaBytes), metaVersion)
	p = binary.BigEndian.AppendUint32(p, m.gen)
	p = appendCursor(p, m.cursor)
	p = binary.BigEndian.AppendUint64(p, m.count)
	p = binary.BigEndian.AppendUint64(p, m.sum)
	return binary.BigEndian.AppendUint32(p, crc32.Checksum(p, castagnoli))
}

func parseMeta(p []byte) (m meta, err error) {
	if len(p) != metaBytes || p[0] != metaVersion {
		return m, fmt.Errorf("%w: cursor of %d bytes", ErrCorrupt, len(p))
	}
	if crc32.Checksum(p[:metaBytes-4], castagnoli) != binary.BigEndian.Uint32(p[metaBytes-4:]) {
		return m, fmt.Errorf("%w: cursor's checksum does not match", ErrCorrupt)
	}
	m.gen = binary.BigEndian.Uint32(p[1:])
	m.cursor = Cursor{Seq: binary.BigEndian.Uint64(p[5:]), Hash: [32]byte(p[13:45])}
	m.count, m.sum = binary.BigEndian.Uint64(p[45:]), binary.BigEndian.Uint64(p[53:])
	return m, nil
}

func readMeta(db pebble.Reader) (meta, error) {
	p, closer, err := db.Get(metaKey)
	if errors.Is(err, pebble.ErrNotFound) {
		return meta{}, empty(db)
	}
	if err != nil {
		return meta{}, err
	}
	m, err := parseMeta(p)
	return m, errors.Join(err, closer.Close())
}

// empty refuses data without a cursor: a lost cursor is damage, and reading on
// from zero would serve keys that were deleted long ago. Rows of a first
// snapshot that was cut off are not data yet.
func empty(db pebble.Reader) error {
	lower, upper := prefixBounds(0, "")
	it, err := db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return err
	}
	if it.First() {
		err = fmt.Errorf("%w: data without a cursor", ErrCorrupt)
	}
	return errors.Join(err, it.Close())
}
