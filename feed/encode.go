package feed

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strings"
	"time"
)

const (
	entryVersion = 1
	// version, length, seq, time, prev, count
	entryHead   = 1 + 4 + 8 + 8 + 32 + 2
	entryPrefix = 1 + 4
	changeHead  = 1 + 2 + 4
	minEntry    = entryHead + sha256.Size
)

// Seal makes the entry that follows prev. It does not check limits; Check does.
// The changes are kept, not copied.
func Seal(prev [32]byte, seq uint64, at time.Time, changes []Change) Entry {
	e := Entry{Seq: seq, Time: time.Unix(0, at.UnixNano()).UTC(), Changes: changes, Prev: prev}
	e.Hash = sha256.Sum256(appendBody(make([]byte, 0, e.Size()), &e))
	return e
}

// Size is the number of bytes that AppendEntry adds.
func (e *Entry) Size() int {
	n := minEntry
	for i := range e.Changes {
		n += changeHead + len(e.Changes[i].Key) + len(e.Changes[i].Value)
	}
	return n
}

// Check refuses an entry that DecodeEntry would refuse, naming the change.
func (e *Entry) Check() error {
	if e.Seq == 0 {
		return fmt.Errorf("feed entry: number 0 is not an entry's")
	}
	if len(e.Changes) > MaxChanges {
		return fmt.Errorf("feed entry %d: %d changes of at most %d: %w", e.Seq, len(e.Changes), MaxChanges, ErrLimit)
	}
	for i := range e.Changes {
		if err := e.Changes[i].check(); err != nil {
			return fmt.Errorf("feed entry %d, change %d: %w", e.Seq, i, err)
		}
	}
	if n := e.Size(); n > MaxEntryBytes {
		return fmt.Errorf("feed entry %d: %d bytes of at most %d: %w", e.Seq, n, MaxEntryBytes, ErrLimit)
	}
	return nil
}

func (c *Change) check() error {
	switch {
	case c.Op < Set || c.Op > Signal:
		return fmt.Errorf("unknown operation %d", c.Op)
	case c.Key == "":
		return fmt.Errorf("empty key")
	case len(c.Key) > MaxKeyBytes:
		return fmt.Errorf("key of %d bytes, at most %d: %w", len(c.Key), MaxKeyBytes, ErrLimit)
	case strings.IndexByte(c.Key, 0) >= 0:
		return fmt.Errorf("NUL in key %q", c.Key)
	case len(c.Value) > MaxValueBytes:
		return fmt.Errorf("%s: value of %d bytes, at most %d: %w", c.Key, len(c.Value), MaxValueBytes, ErrLimit)
	case c.Op == Delete && len(c.Value) > 0:
		return fmt.Errorf("%s: delete with a value", c.Key)
	}
	return nil
}

// AppendEntry adds e's encoding to dst. The entry must come from Seal or
// DecodeEntry (its Hash is written as it is) and pass Check.
func AppendEntry(dst []byte, e *Entry) []byte {
	dst = appendBody(dst, e)
	return append(dst, e.Hash[:]...)
}

func appendBody(dst []byte, e *Entry) []byte {
	dst = append(dst, entryVersion)
	dst = binary.BigEndian.AppendUint32(dst, uint32(e.Size()-entryPrefix))
	dst = binary.BigEndian.AppendUint64(dst, e.Seq)
	dst = binary.BigEndian.AppendUint64(dst, uint64(e.Time.UnixNano()))
	dst = append(dst, e.Prev[:]...)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(e.Changes)))
	for i := range e.Changes {
		c := &e.Changes[i]
		dst = append(dst, byte(c.Op))
		dst = binary.BigEndian.AppendUint16(dst, uint16(len(c.Key)))
		dst = binary.BigEndian.AppendUint32(dst, uint32(len(c.Value)))
		dst = append(dst, c.Key...)
		dst = append(dst, c.Value...)
	}
	return dst
}

// DecodeEntry reads the entry at the start of p and returns the number of bytes
// that it takes. Values alias p. An entry that ends early or does not match its
// hash is ErrTorn; one over a limit is ErrLimit.
func DecodeEntry(p []byte) (Entry, int, error) {
	if len(p) < minEntry {
		return Entry{}, 0, fmt.Errorf("feed entry: %d bytes: %w", len(p), ErrTorn)
	}
	if p[0] != entryVersion {
		return Entry{}, 0, fmt.Errorf("feed entry: version %d is not known here (%d is)", p[0], entryVersion)
	}
	rest := binary.BigEndian.Uint32(p[1:])
	if rest > MaxEntryBytes-entryPrefix {
		return Entry{}, 0, fmt.Errorf("feed entry: %d bytes: %w", rest, ErrLimit)
	}
	size := int(rest) + entryPrefix
	if size < minEntry || size > len(p) {
		return Entry{}, 0, fmt.Errorf("feed entry: says %d bytes, has %d: %w", size, len(p), ErrTorn)
	}
	body, sum := p[:size-sha256.Size], p[size-sha256.Size:size]
	e := Entry{
		Seq:  binary.BigEndian.Uint64(p[5:]),
		Time: time.Unix(0, int64(binary.BigEndian.Uint64(p[13:]))).UTC(),
		Prev: [32]byte(p[21:53]),
		Hash: sha256.Sum256(body),
	}
	if e.Hash != [32]byte(sum) {
		return Entry{}, 0, fmt.Errorf("feed entry %d: hash does not match: %w", e.Seq, ErrTorn)
	}
	if e.Seq == 0 {
		return Entry{}, 0, fmt.Errorf("feed entry: number 0 is not an entry's")
	}
	var err error
	if e.Changes, err = decodeChanges(int(binary.BigEndian.Uint16(p[53:])), body[entryHead:]); err != nil {
		return Entry{}, 0, fmt.Errorf("feed entry %d: %w", e.Seq, err)
	}
	return e, size, nil
}

func decodeChanges(count int, p []byte) ([]Change, error) {
	if count > MaxChanges {
		return nil, fmt.Errorf("%d changes: %w", count, ErrLimit)
	}
	if count*changeHead > len(p) {
		return nil, fmt.Errorf("%d changes in %d bytes: %w", count, len(p), ErrTorn)
	}
	changes := make([]Change, count)
	for i := range changes {
		if len(p) < changeHead {
			return nil, fmt.Errorf("change %d: %w", i, ErrTorn)
		}
		keyLen, valueLen := int(binary.BigEndian.Uint16(p[1:])), int(binary.BigEndian.Uint32(p[3:]))
		if len(p)-changeHead < keyLen || len(p)-changeHead-keyLen < valueLen {
			return nil, fmt.Errorf("change %d: %w", i, ErrTorn)
		}
		end := changeHead + keyLen + valueLen
		c := Change{Op: Op(p[0]), Key: string(p[changeHead : changeHead+keyLen])}
		if valueLen > 0 {
			c.Value = p[changeHead+keyLen : end : end]
		}
		if err := c.check(); err != nil {
			return nil, fmt.Errorf("change %d: %w", i, err)
		}
		changes[i], p = c, p[end:]
	}
	if len(p) > 0 {
		return nil, fmt.Errorf("%d bytes after the last change: %w", len(p), ErrTorn)
	}
	return changes, nil
}

// Follows says whether e is the entry right after c: nil, ErrGap or ErrFork
// with the numbers.
func (e *Entry) Follows(c Cursor) error {
	if e.Seq != c.Seq+1 {
		return fmt.Errorf("%w: entry %d after %d", ErrGap, e.Seq, c.Seq)
	}
	if e.Prev != c.Hash {
		return fmt.Errorf("%w: entry %d says %x before it, the cursor is %x", ErrFork, e.Seq, e.Prev[:6], c.Hash[:6])
	}
	return nil
}
