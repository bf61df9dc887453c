package feed

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"
)

// A frame is a length (4 bytes, of the payload alone), a type (1 byte) and a
// payload. Numbers are big-endian. See DESIGN.md for the payloads.
const (
	frameHello     = 1 // up
	frameWelcome   = 2 // down
	frameEntries   = 3
	frameHeartbeat = 4
	frameBegin     = 5
	frameRows      = 6
	frameEnd       = 7
	frameAck       = 8 // up
	frameRejected  = 9 // up
	frameError     = 10
	frameAnnounce  = 11 // up
	frameSignals   = 12 // up
	frameTaken     = 13 // down
	frameProgress  = 14 // up, by relays
	frameJoin      = 16 // up, on selvage-join/1
	frameJoined    = 17
	frameWait      = 20
	frameBelow     = 21 // up, by relays
	frameFetch     = 22 // up, on selvage-fetch/1
	frameValues    = 23
	frameFetched   = 24

	frameHead    = 5
	protoVersion = 2

	// maxDownFrame holds one entry of the largest size with a margin.
	maxDownFrame   = MaxEntryBytes + 64<<10
	maxHelloFrame  = 4 << 10
	maxUpFrame     = 64 << 10
	maxReasonBytes = 1 << 10
)

var errFrame = errors.New("malformed frame")

// readFrame reads one frame; the payload uses buf's memory where it is large
// enough. A frame over limit is refused before its payload is read.
func readFrame(r io.Reader, buf []byte, limit int) (kind byte, payload []byte, err error) {
	var head [frameHead]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > uint32(limit) {
		return 0, nil, fmt.Errorf("frame of type %d with %d bytes, at most %d: %w", head[4], n, limit, ErrLimit)
	}
	if uint32(cap(buf)) < n {
		buf = make([]byte, n)
	}
	payload = buf[:n]
	if _, err := io.ReadFull(r, payload); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return 0, nil, err
	}
	return head[4], payload, nil
}

func writeFrame(w io.Writer, kind byte, payload []byte) error {
	p := beginFrame(make([]byte, 0, frameHead+len(payload)), kind)
	_, err := w.Write(endFrame(append(p, payload...), 0))
	return err
}

// beginFrame starts a frame at the end of dst; endFrame, given the place where
// it began, fills the length in.
func beginFrame(dst []byte, kind byte) []byte { return append(dst, 0, 0, 0, 0, kind) }

func endFrame(p []byte, start int) []byte {
	binary.BigEndian.PutUint32(p[start:], uint32(len(p)-start-frameHead))
	return p
}

// hello is what a subscriber says first.
type hello struct {
	version uint16
	node    string
	colo    string
	cursor  Cursor
	partial partial
	thin    string // of a partial replica: rows with this prefix come as stubs
}

// partial is how much of a snapshot a subscriber has: all rows up to the key
// last, each as it was at base or later. The zero value is none.
type partial struct {
	base Cursor
	last string
}

func (h hello) append(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint16(dst, h.version)
	dst = appendCursor(dst, h.cursor)
	dst = appendText(dst, h.node)
	dst = appendText(dst, h.colo)
	dst = appendCursor(dst, h.partial.base)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(h.partial.last)))
	dst = append(dst, h.partial.last...)
	if h.thin == "" {
		return dst
	}
	return appendText(dst, h.thin)
}

func decodeHello(p []byte) (h hello, err error) {
	if len(p) < 2 {
		return h, errFrame
	}
	h.version = binary.BigEndian.Uint16(p)
	if h.version != protoVersion {
		return h, nil // what follows is not ours to read
	}
	if h.cursor, p, err = cutCursor(p[2:]); err != nil {
		return h, err
	}
	if h.node, p, err = cutText(p); err != nil {
		return h, err
	}
	if h.colo, p, err = cutText(p); err != nil {
		return h, err
	}
	if h.partial.base, p, err = cutCursor(p); err != nil {
		return h, err
	}
	if h.partial.last, p, err = cutKey(p); err != nil {
		return h, err
	}
	if len(p) > 0 {
		if h.thin, p, err = cutText(p); err != nil || h.thin == "" || len(p) > 0 {
			return h, errFrame
		}
	}
	if !ValidNodeID(h.node) || !ValidColo(h.colo) {
		return h, errFrame
	}
	return h, nil
}

// welcome answers a hello: where the head is and how the state will come.
type welcome struct {
	head   Cursor
	at     time.Time
	resume Resume
}

// Resume says how a subscriber continues from its cursor.
type Resume uint8

const (
	// ResumeTail: entries after the cursor follow.
	ResumeTail Resume = 1
	// ResumeFresh: the cursor was zero and the log has history; a snapshot follows.
	ResumeFresh Resume = 2
	// ResumeCompacted: the cursor is below the retained floor; a snapshot follows.
	ResumeCompacted Resume = 3
	// ResumeFork: the log has another entry at the cursor; a snapshot follows.
	ResumeFork Resume = 4
	// ResumeAhead: the cursor is past the log's end, which was restored from an
	// older backup; a snapshot follows.
	ResumeAhead Resume = 5
)

func (r Resume) String() string {
	if r < ResumeTail || r > ResumeAhead {
		return "unknown"
	}
	return [...]string{"", "tail", "fresh", "compacted", "fork", "ahead"}[r]
}

func (w welcome) append(dst []byte) []byte {
	dst = append(dst, byte(w.resume))
	return heartbeat{w.head, w.at}.append(dst)
}

func decodeWelcome(p []byte) (w welcome, err error) {
	if len(p) < 1 {
		return w, errFrame
	}
	w.resume = Resume(p[0])
	if w.resume < ResumeTail || w.resume > ResumeAhead {
		return w, errFrame
	}
	h, err := decodeHeartbeat(p[1:])
	w.head, w.at = h.head, h.at
	return w, err
}

type heartbeat struct {
	head Cursor
	at   time.Time
}

func (h heartbeat) append(dst []byte) []byte {
	dst = appendCursor(dst, h.head)
	return binary.BigEndian.AppendUint64(dst, uint64(h.at.UnixNano()))
}

func decodeHeartbeat(p []byte) (h heartbeat, err error) {
	if h.head, p, err = cutCursor(p); err != nil {
		return h, err
	}
	if len(p) != 8 {
		return h, errFrame
	}
	h.at = time.Unix(0, int64(binary.BigEndian.Uint64(p))).UTC()
	return h, nil
}

// snapshotBegin opens a snapshot: why it comes, whether it goes on from the
// subscriber's partial one, and what its rows are the state of.
type snapshotBegin struct {
	why       Resume
	continued bool
	at        Cursor
}

func (s snapshotBegin) append(dst []byte) []byte {
	dst = append(dst, byte(s.why), 0)
	if s.continued {
		dst[len(dst)-1] = 1
	}
	return appendCursor(dst, s.at)
}

func decodeSnapshotBegin(p []byte) (s snapshotBegin, err error) {
	if len(p) < 2 || p[1] > 1 {
		return s, errFrame
	}
	s.why, s.continued = Resume(p[0]), p[1] == 1
	if s.at, p, err = cutCursor(p[2:]); err == nil && len(p) > 0 {
		err = errFrame
	}
	return s, err
}

// row is one key and value of a snapshot; of a stub the value is the sum alone.
type row struct {
	key   string
	value []byte
	seq   uint64
	stub  bool
}

// stubBit in a row's length of the value says that it is a stub.
const stubBit = 1 << 31

const rowHead = 8 + 2 + 4

func appendRow(dst []byte, key string, value []byte, seq uint64) []byte {
	dst = binary.BigEndian.AppendUint64(dst, seq)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(key)))
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(value)))
	dst = append(dst, key...)
	return append(dst, value...)
}

// appendStub is appendRow without the value.
func appendStub(dst []byte, key string, value []byte, seq uint64) []byte {
	at, sum := len(dst)+10, sumOf(value)
	dst = appendRow(dst, key, sum[:], seq)
	binary.BigEndian.PutUint32(dst[at:], stubBit|uint32(len(sum)))
	return dst
}

// cutRow reads the row at the start of p; its value aliases p.
func cutRow(p []byte) (row, []byte, error) {
	if len(p) < rowHead {
		return row{}, nil, errFrame
	}
	size := binary.BigEndian.Uint32(p[10:])
	keyLen, valueLen, stub := int(binary.BigEndian.Uint16(p[8:])), int(size&^stubBit), size&stubBit != 0
	if stub && valueLen != len(stubSum{}) {
		return row{}, nil, errFrame
	}
	if len(p)-rowHead < keyLen || len(p)-rowHead-keyLen < valueLen {
		return row{}, nil, errFrame
	}
	end := rowHead + keyLen + valueLen
	r := row{
		seq:   binary.BigEndian.Uint64(p),
		key:   string(p[rowHead : rowHead+keyLen]),
		value: p[rowHead+keyLen : end : end],
		stub:  stub,
	}
	c := Change{Op: Set, Key: r.key, Value: r.value}
	if err := c.check(); err != nil {
		return row{}, nil, err
	}
	return r, p[end:], nil
}

// snapshotEnd closes a snapshot: what it is the state of, and what must have
// arrived.
type snapshotEnd struct {
	cursor Cursor
	rows   uint64
	sum    [32]byte // SHA-256 over the payloads of the Rows frames
}

func (s snapshotEnd) append(dst []byte) []byte {
	dst = appendCursor(dst, s.cursor)
	dst = binary.BigEndian.AppendUint64(dst, s.rows)
	return append(dst, s.sum[:]...)
}

func decodeSnapshotEnd(p []byte) (s snapshotEnd, err error) {
	if s.cursor, p, err = cutCursor(p); err != nil {
		return s, err
	}
	if len(p) != 8+32 {
		return s, errFrame
	}
	s.rows = binary.BigEndian.Uint64(p)
	s.sum = [32]byte(p[8:])
	return s, nil
}

func appendAck(dst []byte, seq uint64) []byte { return binary.BigEndian.AppendUint64(dst, seq) }

func decodeAck(p []byte) (uint64, error) {
	if len(p) != 8 {
		return 0, errFrame
	}
	return binary.BigEndian.Uint64(p), nil
}

func appendRejected(dst []byte, seq uint64, reason string) []byte {
	dst = binary.BigEndian.AppendUint64(dst, seq)
	return append(dst, reason[:min(len(reason), maxReasonBytes)]...)
}

func decodeRejected(p []byte) (uint64, string, error) {
	if len(p) < 8 || len(p) > 8+maxReasonBytes {
		return 0, "", errFrame
	}
	return binary.BigEndian.Uint64(p), string(p[8:]), nil
}

func appendCursor(dst []byte, c Cursor) []byte {
	dst = binary.BigEndian.AppendUint64(dst, c.Seq)
	return append(dst, c.Hash[:]...)
}

func cutCursor(p []byte) (Cursor, []byte, error) {
	if len(p) < 40 {
		return Cursor{}, nil, errFrame
	}
	return Cursor{Seq: binary.BigEndian.Uint64(p), Hash: [32]byte(p[8:40])}, p[40:], nil
}

// cutKey reads a length of 2 bytes and a key, which may be none.
func cutKey(p []byte) (string, []byte, error) {
	if len(p) < 2 {
		return "", nil, errFrame
	}
	n := int(binary.BigEndian.Uint16(p))
	if p = p[2:]; n > len(p) || n > MaxKeyBytes {
		return "", nil, errFrame
	}
	return string(p[:n]), p[n:], nil
}

func appendText(dst []byte, s string) []byte {
	dst = append(dst, byte(min(len(s), 255)))
	return append(dst, s[:min(len(s), 255)]...)
}

func cutText(p []byte) (string, []byte, error) {
	if len(p) < 1 || len(p) < 1+int(p[0]) {
		return "", nil, errFrame
	}
	n := 1 + int(p[0])
	return string(p[1:n]), p[n:], nil
}
