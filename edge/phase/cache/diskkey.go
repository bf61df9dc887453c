package cache

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"sync"
	"time"

	"github.com/selvage-edge/selvage/edge/phase/cache/ssd"
)

// hashKey is the key of a record, from parts that are told apart.
func hashKey(parts ...[]byte) ssd.Key {
	h := sha256.New()
	var n [4]byte
	for _, p := range parts {
		binary.LittleEndian.PutUint32(n[:], uint32(len(p)))
		h.Write(n[:])
		h.Write(p)
	}
	var sum [sha256.Size]byte
	h.Sum(sum[:0])
	return ssd.Key{Hi: binary.LittleEndian.Uint64(sum[:]), Lo: binary.LittleEndian.Uint64(sum[8:])}
}

// recordKey is where an object with this key text, or its Vary, is.
func recordKey(text []byte) ssd.Key {
	sum := sha256.Sum256(text)
	return ssd.Key{Hi: binary.LittleEndian.Uint64(sum[:]), Lo: binary.LittleEndian.Uint64(sum[8:])}
}

// bodyKey is where the body of a head at k is.
func bodyKey(k ssd.Key) ssd.Key { return ssd.Key{Hi: k.Hi, Lo: ^k.Lo} }

// variantKey is where the variant is that has these values for the names of a
// Vary record.
func variantKey(text []byte, epoch uint64, names []varyField, value func(*varyField) []byte) ssd.Key {
	var e [8]byte
	binary.LittleEndian.PutUint64(e[:], epoch)
	parts := make([][]byte, 0, 2+2*len(names))
	parts = append(parts, e[:], text)
	for i := range names {
		v := value(&names[i])
		if v == nil {
			parts = append(parts, names[i].fieldName(), nil, nil)
		} else {
			parts = append(parts, names[i].fieldName(), v)
		}
	}
	return hashKey(parts...)
}

// sortedNames are the fields of a Vary in one order, each once.
func sortedNames(list []varyField) []varyField {
	names := slices.Clone(list)
	slices.SortFunc(names, func(a, b varyField) int { return bytes.Compare(a.fieldName(), b.fieldName()) })
	return slices.CompactFunc(names, func(a, b varyField) bool { return bytes.Equal(a.fieldName(), b.fieldName()) })
}

// epochs are the numbers under which the variants of keys are stored, as far as
// their Vary records were seen or written lately.
type epochs struct {
	mu    sync.Mutex
	known map[ssd.Key]epoch // guarded by mu
}

type epoch struct {
	number uint64
	names  uint64 // hash of the fields by which the answers are chosen
	since  time.Time
}

func newEpochs() epochs { return epochs{known: make(map[ssd.Key]epoch)} }

// of returns the number under which variants of a key are stored that are chosen by
// these fields; made says that it is a new one.
func (l *epochs) of(k ssd.Key, names []varyField) (number uint64, made bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	hash := hashNames(names)
	if e, ok := l.known[k]; ok && e.names == hash {
		return e.number, false
	}
	number = randomStamp()
	l.set(k, epoch{number, hash, time.Now()})
	return number, true
}

// remember notes what a Vary record says.
func (l *epochs) remember(k ssd.Key, number uint64, names []varyField) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, known := l.known[k]; !known {
		l.set(k, epoch{number, hashNames(names), time.Now()})
	}
}

func (l *epochs) set(k ssd.Key, e epoch) {
	if len(l.known) >= maxEpochs {
		for old := range l.known {
			delete(l.known, old)
			break
		}
	}
	l.known[k] = e
}

func (l *epochs) forget(k ssd.Key) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.known, k)
}

// clear forgets all.
func (l *epochs) clear() {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.known)
}

// missing notes that there is no Vary record where one may have been written
// lately.
func (l *epochs) missing(k ssd.Key) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e, ok := l.known[k]; ok && time.Since(e.since) > onTheWay {
		delete(l.known, k)
	}
}

// onTheWay is how long a record may take to where it is found.
const onTheWay = 5 * time.Minute

func hashNames(names []varyField) uint64 {
	parts := make([][]byte, len(names))
	for i := range names {
		parts[i] = names[i].fieldName()
	}
	return hashKey(parts...).Hi
}

func randomStamp() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return binary.LittleEndian.Uint64(b[:])
}
