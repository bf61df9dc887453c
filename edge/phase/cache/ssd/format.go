package ssd

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
)

// What the files look like. All numbers are little-endian; checksums are
// CRC-32C (Castagnoli).
//
//	file     header (64 bytes), records, footer
//	record   header (64 bytes), meta, body, table; padded to whole units
//	table    a checksum for each block of the body, where it has several
//	footer   a line (32 bytes) for each record, then a tail (32 bytes)
//
// A log segment, NNNNNNNN.log, has many records and a footer, which is written
// when the segment is full and at Close. A single, NNNNNNNN.one, has one record
// whose header is written last, and no footer.
const (
	unit       = 16
	fileHead   = 64
	recordHead = 64
	lineBytes  = 32
	tailBytes  = 32
	// blockBytes of body have one checksum: what has to be read to answer for
	// one byte.
	blockBytes = 128 << 10

	fileMagic   = 0x31474553534c5653 // "SVLSSEG1"
	recordMagic = 0x43455253         // "SREC"
	tailMagic   = 0x4c494154534c5653 // "SVLSTAIL"

	flagDeleted = 1 // the record says that its key has none
)

// Bounds of a record.
const (
	MaxMeta   = 256 << 10
	maxRecord = 1<<36 - unit // what an offset in units can reach
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func sum(p []byte) uint32 { return crc32.Checksum(p, castagnoli) }

// Why bytes are not what was written.
var (
	errDamaged = errors.New("the bytes do not match their checksum")
	errFormat  = errors.New("not of a format that is known here")
)

// header is a record's first 64 bytes.
type header struct {
	key     Key
	deleted bool
	meta    uint32 // bytes
	body    int64  // bytes
	sum     uint32 // of the body, or of the table where there is one
}

// blocks counts the checksums of a body; one that has a single block has no
// table.
func blocks(body int64) int64 { return (body + blockBytes - 1) / blockBytes }

func tableBytes(body int64) int64 {
	if n := blocks(body); n > 1 {
		return 4 * n
	}
	return 0
}

// length is that of the whole record, padding included.
func (h *header) length() int64 {
	n := recordHead + int64(h.meta) + h.body + tableBytes(h.body)
	return (n + unit - 1) / unit * unit
}

// encode writes the header that goes before meta.
func (h *header) encode(b *[recordHead]byte, meta []byte) {
	*b = [recordHead]byte{}
	le := binary.LittleEndian
	le.PutUint32(b[0:], recordMagic)
	if h.deleted {
		b[4] = flagDeleted
	}
	le.PutUint64(b[8:], h.key.Hi)
	le.PutUint64(b[16:], h.key.Lo)
	le.PutUint64(b[24:], uint64(h.body))
	le.PutUint32(b[32:], h.meta)
	le.PutUint32(b[36:], h.sum)
	le.PutUint32(b[60:], crc32.Update(sum(b[:60]), castagnoli, meta))
}

// decodeHeader reads a record's first bytes without judging its meta.
func decodeHeader(b []byte) (h header, err error) {
	le := binary.LittleEndian
	if len(b) < recordHead || le.Uint32(b) != recordMagic || b[4]&^flagDeleted != 0 {
		return h, errFormat
	}
	h = header{
		key: Key{le.Uint64(b[8:]), le.Uint64(b[16:])}, deleted: b[4] == flagDeleted,
		body: int64(le.Uint64(b[24:])), meta: le.Uint32(b[32:]), sum: le.Uint32(b[36:]),
	}
	if h.body < 0 || h.meta > MaxMeta || h.body > maxRecord || h.length() > maxRecord {
		return header{}, errFormat
	}
	return h, nil
}

// checkHead compares a header and its meta, b[:recordHead+h.meta], with their
// checksum.
func checkHead(b []byte) error {
	if crc32.Update(sum(b[:60]), castagnoli, b[recordHead:]) != binary.LittleEndian.Uint32(b[60:]) {
		return errDamaged
	}
	return nil
}

// bodySum makes what the header says of a body, and the table if there is one.
func bodySum(body []byte) (total uint32, table []byte) {
	if len(body) <= blockBytes {
		return sum(body), nil
	}
	table = make([]byte, 0, tableBytes(int64(len(body))))
	for len(body) > 0 {
		n := min(blockBytes, len(body))
		table = binary.LittleEndian.AppendUint32(table, sum(body[:n]))
		body = body[n:]
	}
	return sum(table), table
}

func encodeFileHead(no uint32, single bool) []byte {
	b := make([]byte, fileHead)
	binary.LittleEndian.PutUint64(b, fileMagic)
	binary.LittleEndian.PutUint32(b[8:], no)
	if single {
		b[12] = 1
	}
	binary.LittleEndian.PutUint32(b[60:], sum(b[:60]))
	return b
}

func checkFileHead(b []byte, no uint32, single bool) error {
	le := binary.LittleEndian
	if len(b) < fileHead || le.Uint64(b) != fileMagic || le.Uint32(b[8:]) != no || (b[12] == 1) != single {
		return errFormat
	}
	if sum(b[:60]) != le.Uint32(b[60:]) {
		return errDamaged
	}
	return nil
}

// line is what a footer says of a record.
type line struct {
	key     Key
	off, n  uint32 // units
	deleted bool
}

func (l *line) append(b []byte) []byte {
	le := binary.LittleEndian
	b = le.AppendUint64(le.AppendUint64(b, l.key.Hi), l.key.Lo)
	b = le.AppendUint32(le.AppendUint32(b, l.off), l.n)
	var flags uint64
	if l.deleted {
		flags = flagDeleted
	}
	return le.AppendUint64(b, flags)
}

func decodeLine(b []byte) line {
	le := binary.LittleEndian
	return line{
		key: Key{le.Uint64(b), le.Uint64(b[8:])}, off: le.Uint32(b[16:]), n: le.Uint32(b[20:]),
		deleted: b[24] == flagDeleted,
	}
}

// encodeFooter makes the footer that begins at byte from of its file.
func encodeFooter(lines []line, from int64) []byte {
	b := make([]byte, 0, len(lines)*lineBytes+tailBytes)
	for i := range lines {
		b = lines[i].append(b)
	}
	le := binary.LittleEndian
	tail := len(b)
	b = le.AppendUint64(b, tailMagic)
	b = le.AppendUint64(b, uint64(from))
	b = le.AppendUint32(b, uint32(len(lines)))
	b = le.AppendUint32(b, sum(b[:tail]))
	b = le.AppendUint32(b, 0)
	return le.AppendUint32(b, sum(b[tail:]))
}

// decodeTail reads the last 32 bytes of a file of size bytes: where its footer
// begins, how many lines that has and their checksum.
func decodeTail(b []byte, size int64) (from int64, count int64, lines uint32, err error) {
	le := binary.LittleEndian
	if len(b) < tailBytes || le.Uint64(b) != tailMagic {
		return 0, 0, 0, errFormat
	}
	if sum(b[:tailBytes-4]) != le.Uint32(b[tailBytes-4:]) {
		return 0, 0, 0, errDamaged
	}
	from, count = int64(le.Uint64(b[8:])), int64(le.Uint32(b[16:]))
	if from < fileHead || from > maxRecord || from+count*lineBytes+tailBytes != size {
		return 0, 0, 0, errFormat
	}
	return from, count, le.Uint32(b[20:]), nil
}
