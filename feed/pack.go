package feed

import (
	"encoding/binary"
	"fmt"

	"github.com/klauspost/compress/zstd"

	"github.com/selvage-edge/selvage/internal/must"
)

// Entries and rows travel packed: their length (4 bytes) and then zstd frames
// (RFC 8878) one after the other, so that packed batches can be joined as they
// are. What does not get smaller by it costs 13 bytes and a copy.

const packHead = 4

// packer packs; many goroutines may share it.
type packer struct{ enc *zstd.Encoder }

func newPacker() *packer {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(2),
		zstd.WithWindowSize(1<<20), zstd.WithLowerEncoderMem(true), zstd.WithEncoderCRC(false)) // TLS and the chain have sums
	must.That(err == nil, "options of zstd that go together")
	return &packer{enc}
}

// frame appends a whole frame whose payload is raw, packed.
func (p *packer) frame(dst []byte, kind byte, raw []byte) []byte {
	start := len(dst)
	dst = beginFrame(dst, kind)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(raw)))
	return endFrame(p.enc.EncodeAll(raw, dst), start)
}

// joinPacked appends the packed frame next to the frame at the start of dst.
func joinPacked(dst, next []byte) []byte {
	n := rawLen(dst) + rawLen(next)
	dst = append(dst, next[frameHead+packHead:]...)
	binary.BigEndian.PutUint32(dst[frameHead:], uint32(n))
	return endFrame(dst, 0)
}

// rawLen is how long the payload of a packed frame is when it is unpacked.
func rawLen(frame []byte) int { return int(binary.BigEndian.Uint32(frame[frameHead:])) }

// unpacker unpacks; it is used by one goroutine at a time.
type unpacker struct{ dec *zstd.Decoder }

func newUnpacker() *unpacker {
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxMemory(maxDownFrame), zstd.WithDecodeAllCapLimit(true))
	must.That(err == nil, "options of zstd that go together")
	return &unpacker{dec}
}

// unpack returns the payload of a packed one, in memory of its own, of which
// never more is taken than it says and is allowed.
func (u *unpacker) unpack(p []byte) ([]byte, error) {
	if len(p) < packHead {
		return nil, errFrame
	}
	n := binary.BigEndian.Uint32(p)
	if n > maxDownFrame {
		return nil, fmt.Errorf("payload of %d bytes, at most %d: %w", n, maxDownFrame, ErrLimit)
	}
	raw, err := u.dec.DecodeAll(p[packHead:], make([]byte, 0, n))
	if err != nil {
		return nil, fmt.Errorf("unpack payload: %w: %w", errFrame, err)
	}
	if len(raw) != int(n) {
		return nil, fmt.Errorf("payload says %d bytes and has %d: %w", n, len(raw), errFrame)
	}
	return raw, nil
}
