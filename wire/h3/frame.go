package h3

import (
	"encoding/binary"

	"github.com/quic-go/quic-go"
)

// Frame types (RFC 9114 §7.2, RFC 9218 §7.2).
const (
	frameData            = 0x0
	frameHeaders         = 0x1
	frameCancelPush      = 0x3
	frameSettings        = 0x4
	framePushPromise     = 0x5
	frameGoAway          = 0x7
	frameMaxPushID       = 0xd
	framePriorityRequest = 0xf0700
	framePriorityPush    = 0xf0701
)

// Types of unidirectional streams (RFC 9114 §6.2, RFC 9204 §4.2).
const (
	streamControl = 0x0
	streamPush    = 0x1
	streamEncoder = 0x2
	streamDecoder = 0x3
)

// Settings (RFC 9114 §7.2.4.1, RFC 9204 §5, RFC 9220 §3, RFC 9297 §2.1.1).
const (
	settingTableCapacity  = 0x1
	settingSectionSize    = 0x6
	settingBlockedStreams = 0x7
	settingConnect        = 0x8
	settingDatagram       = 0x33
)

// code is an error code (RFC 9114 §8.1, RFC 9204 §6).
type code uint64

const (
	codeNone             code = 0x100
	codeProtocol         code = 0x101
	codeInternal         code = 0x102
	codeStreamCreation   code = 0x103
	codeClosedCritical   code = 0x104
	codeFrameUnexpected  code = 0x105
	codeFrame            code = 0x106
	codeExcessiveLoad    code = 0x107
	codeID               code = 0x108
	codeSettings         code = 0x109
	codeMissingSettings  code = 0x10a
	codeRequestRejected  code = 0x10b
	codeRequestCancelled code = 0x10c
	codeIncomplete       code = 0x10d
	codeMessage          code = 0x10e
	codeConnect          code = 0x10f
	codeDecompression    code = 0x200
	codeEncoderStream    code = 0x201
	codeDecoderStream    code = 0x202
)

func (c code) stream() quic.StreamErrorCode { return quic.StreamErrorCode(c) }

// readVarint returns an integer and its length, 0 when p does not hold all of it.
func readVarint(p []byte) (v uint64, n int) {
	if len(p) == 0 {
		return 0, 0
	}
	switch n = 1 << (p[0] >> 6); {
	case len(p) < n:
		return 0, 0
	case n == 1:
		return uint64(p[0]), 1
	case n == 2:
		return uint64(binary.BigEndian.Uint16(p) & 0x3fff), 2
	case n == 4:
		return uint64(binary.BigEndian.Uint32(p) & 0x3fffffff), 4
	}
	return binary.BigEndian.Uint64(p) & (1<<62 - 1), 8
}

// appendVarint appends v, below 2^62, in its shortest form.
func appendVarint(dst []byte, v uint64) []byte {
	switch {
	case v < 1<<6:
		return append(dst, byte(v))
	case v < 1<<14:
		return append(dst, byte(v>>8)|0x40, byte(v))
	case v < 1<<30:
		return binary.BigEndian.AppendUint32(dst, uint32(v)|0x80000000)
	}
	return binary.BigEndian.AppendUint64(dst, v|0xc000000000000000)
}

// putLength writes v in the form of 4 bytes.
func putLength(p []byte, v int) { binary.BigEndian.PutUint32(p, uint32(v)|0x80000000) }

// readFrame returns the head of a frame and its length, 0 when p does not hold
// all of it.
func readFrame(p []byte) (kind, length uint64, n int) {
	kind, a := readVarint(p)
	if a == 0 {
		return 0, 0, 0
	}
	length, b := readVarint(p[a:])
	if b == 0 {
		return 0, 0, 0
	}
	return kind, length, a + b
}

// known reports frame types that have a meaning somewhere, or had one in
// HTTP/2 (RFC 9114 §7.2.8): out of place they are an error, others are not.
func known(kind uint64) bool {
	switch kind {
	case framePriorityRequest, framePriorityPush:
		return true
	case 0xa, 0xb, 0xc:
		return false
	}
	return kind <= frameMaxPushID
}

// settings is what the visitor's SETTINGS say, as far as it concerns us.
type settings struct {
	sectionSize uint64 // of what it accepts; 0 = it did not say
}

// parseSettings reads the payload of a SETTINGS frame (RFC 9114 §7.2.4).
func parseSettings(p []byte) (s settings, err *failure) {
	var seen [64]uint64 // the limit of one frame's settings, see maxSettings
	for n := 0; len(p) > 0; n++ {
		id, a := readVarint(p)
		if a == 0 {
			return s, errSettingsFrame
		}
		value, b := readVarint(p[a:])
		if b == 0 {
			return s, errSettingsFrame
		}
		p = p[a+b:]
		if n == len(seen) {
			return s, errSettingsMany
		}
		for _, other := range seen[:n] {
			if other == id {
				return s, errSettingsTwice
			}
		}
		seen[n] = id
		switch id {
		case 0, 2, 3, 4, 5: // of HTTP/2 (RFC 9114 §11.2.2)
			return s, errSettingsOld
		case settingConnect, settingDatagram:
			if value > 1 {
				return s, errSettingsValue
			}
		case settingSectionSize:
			s.sectionSize = value
		}
	}
	return s, nil
}
