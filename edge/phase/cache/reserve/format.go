package reserve

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
)

// What an object begins with: magic, length of the meta, length of the body, a
// random stamp, checksum of all that and of the meta; then the meta. The body
// follows in blocks, each with a checksum behind it, which is also about the stamp
// and the block's number: a block of another object, or from another place, does
// not match. So a body can be written without its length being known before, and
// any part of it read alone. Numbers are little-endian, checksums CRC-32C.
const (
	headBytes = 28
	magic     = 0x33565253 // "SRV3"
	sumBytes  = 4
	// MaxMeta bounds a meta, in bytes.
	MaxMeta = 256 << 10
	// MaxBody bounds a body, in bytes.
	MaxBody = 1 << 36
	// blockBytes of a body have one checksum.
	blockBytes = 64 << 10
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var errDamaged = errors.New("not as it was written")

func sum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// blocks counts the blocks of a body.
func blocks(body int64) int64 { return (body + blockBytes - 1) / blockBytes }

// stored is how many bytes an object is stored in.
func stored(meta int, body int64) int64 {
	return headBytes + int64(meta) + body + sumBytes*blocks(body)
}

// appendHead appends what goes before a body of size bytes.
func appendHead(b, meta []byte, size int64, stamp uint64) []byte {
	le := binary.LittleEndian
	from := len(b)
	b = le.AppendUint32(b, magic)
	b = le.AppendUint32(b, uint32(len(meta)))
	b = le.AppendUint64(b, uint64(size))
	b = le.AppendUint64(b, stamp)
	b = append(b, 0, 0, 0, 0)
	b = append(b, meta...)
	le.PutUint32(b[from+headBytes-sumBytes:], headSum(b[from:]))
	return b
}

// headSum is the checksum of all that goes before a body.
func headSum(b []byte) uint32 {
	return crc32.Update(sum(b[:headBytes-sumBytes]), castagnoli, b[headBytes:])
}

// blockSum is the checksum of a body's block.
func blockSum(stamp uint64, number int64, block []byte) uint32 {
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:], stamp)
	binary.LittleEndian.PutUint64(b[8:], uint64(number))
	return crc32.Update(sum(b[:]), castagnoli, block)
}

// encode reads as an object of a body in memory.
func encode(meta, body []byte, stamp uint64) io.Reader {
	parts := []io.Reader{bytes.NewReader(appendHead(make([]byte, 0, headBytes+len(meta)), meta, int64(len(body)), stamp))}
	sums := make([]byte, 0, sumBytes*blocks(int64(len(body))))
	for i := int64(0); len(body) > 0; i++ {
		n := min(len(body), blockBytes)
		sums = binary.LittleEndian.AppendUint32(sums, blockSum(stamp, i, body[:n]))
		parts = append(parts, bytes.NewReader(body[:n]), bytes.NewReader(sums[len(sums)-sumBytes:]))
		body = body[n:]
	}
	return io.MultiReader(parts...)
}

// head is what goes before a body, decoded.
type head struct {
	meta  []byte
	size  int64
	stamp uint64
}

// readHead reads what goes before a body.
func readHead(src io.Reader) (h head, err error) {
	b := make([]byte, headBytes)
	if err := readFull(src, b); err != nil {
		return h, err
	}
	le := binary.LittleEndian
	meta, size := int64(le.Uint32(b[4:])), le.Uint64(b[8:])
	if le.Uint32(b) != magic || meta > MaxMeta || size > MaxBody {
		return h, errDamaged
	}
	// The numbers are not proven yet: what they say is not claimed but grows.
	rest, err := io.ReadAll(io.LimitReader(src, meta))
	if err != nil {
		return h, err
	}
	if b = append(b, rest...); int64(len(rest)) != meta || headSum(b) != le.Uint32(b[headBytes-sumBytes:]) {
		return h, errDamaged
	}
	return head{meta: b[headBytes:], size: int64(size), stamp: le.Uint64(b[16:])}, nil
}

// readFull takes an end that comes too early for damage; a connection that breaks
// ends with another error.
func readFull(src io.Reader, p []byte) error {
	for n := 0; n < len(p); {
		more, err := src.Read(p[n:])
		n += more
		if err == io.EOF && n < len(p) {
			return errDamaged
		}
		if err != nil && err != io.EOF {
			return err
		}
	}
	return nil
}

// span is where the blocks are stored that have bytes from..to of a body.
func (h *head) span(from, to int64) (at, n int64) {
	first, last := from/blockBytes, blocks(to)
	at = headBytes + int64(len(h.meta)) + first*(blockBytes+sumBytes)
	return at, min(last*blockBytes, h.size) - first*blockBytes + (last-first)*sumBytes
}

// checked reads blocks one after the other, each compared with its checksum.
type checked struct {
	src   io.Reader
	stamp uint64
	next  int64  // number of the block to be loaded
	left  int64  // bytes of the body that are not loaded
	buf   []byte // room for a block and its checksum
}

// load reads the next block; io.EOF when there is none. The block is valid until
// the next load.
func (c *checked) load() ([]byte, error) {
	if c.left == 0 {
		return nil, io.EOF
	}
	n := min(c.left, blockBytes)
	if c.buf == nil {
		c.buf = make([]byte, n+sumBytes)
	}
	b := c.buf[:n+sumBytes]
	if err := readFull(c.src, b); err != nil {
		return nil, err
	}
	if blockSum(c.stamp, c.next, b[:n]) != binary.LittleEndian.Uint32(b[n:]) {
		return nil, errDamaged
	}
	c.next++
	c.left -= n
	return b[:n], nil
}
