package cache

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"slices"

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

// epochOf returns the number under which variants of a key are stored; made
// says that it is a new one.
func (d *disk) epochOf(k ssd.Key) (epoch uint64, made bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if e, ok := d.epochs[k]; ok {
		return e, false
	}
	epoch = randomStamp()
	d.rememberLocked(k, epoch)
	return epoch, true
}

func (d *disk) remember(k ssd.Key, epoch uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, known := d.epochs[k]; !known {
		d.rememberLocked(k, epoch)
	}
}

func (d *disk) rememberLocked(k ssd.Key, epoch uint64) {
	if len(d.epochs) >= maxEpochs {
		for old := range d.epochs {
			delete(d.epochs, old)
			break
		}
	}
	d.epochs[k] = epoch
}

func randomStamp() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return binary.LittleEndian.Uint64(b[:])
}
