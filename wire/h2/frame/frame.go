// Package frame is the framing of HTTP/2 (RFC 9113 §4, §6) without I/O: heads
// of frames, what each type's payload has to be, and functions that append
// frames. Payloads are judged by themselves; what depends on a stream's or the
// connection's state is the caller's.
package frame

import "encoding/binary"

// HeaderLen is the length in bytes of each frame's head.
const HeaderLen = 9

// Limits and initial values of RFC 9113 §6.5.2 and §6.9.
const (
	MinFrame      = 1 << 14   // smallest SETTINGS_MAX_FRAME_SIZE, and what holds before any
	MaxFrame      = 1<<24 - 1 // largest
	InitialWindow = 1<<16 - 1
	MaxWindow     = 1<<31 - 1
	MaxStream     = 1<<31 - 1
)

// Preface is what a client sends first (RFC 9113 §3.4).
const Preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// Type is a frame's type; unknown ones are to be ignored (RFC 9113 §5.5).
type Type uint8

const (
	Data           Type = 0x0
	Headers        Type = 0x1
	Priority       Type = 0x2
	RSTStream      Type = 0x3
	Settings       Type = 0x4
	PushPromise    Type = 0x5
	Ping           Type = 0x6
	GoAway         Type = 0x7
	WindowUpdate   Type = 0x8
	Continuation   Type = 0x9
	PriorityUpdate Type = 0x10 // RFC 9218 §7.1
)

// Flags is a set; what a bit means depends on the type.
type Flags uint8

const (
	EndStream   Flags = 0x1  // DATA, HEADERS
	Ack         Flags = 0x1  // SETTINGS, PING
	EndHeaders  Flags = 0x4  // HEADERS, PUSH_PROMISE, CONTINUATION
	Padded      Flags = 0x8  // DATA, HEADERS, PUSH_PROMISE
	Prioritized Flags = 0x20 // HEADERS
)

// Has reports whether all of these are set.
func (f Flags) Has(of Flags) bool { return f&of == of }

// Header is a frame's head.
type Header struct {
	Length uint32 // of the payload in bytes, 24 bits
	Type   Type
	Flags  Flags
	Stream uint32 // 31 bits, 0 for the connection
}

// Parse reads a head; p has at least HeaderLen bytes.
func Parse(p []byte) Header {
	_ = p[HeaderLen-1]
	return Header{
		Length: uint32(p[0])<<16 | uint32(p[1])<<8 | uint32(p[2]),
		Type:   Type(p[3]),
		Flags:  Flags(p[4]),
		Stream: binary.BigEndian.Uint32(p[5:9]) & MaxStream,
	}
}

// Append appends a head; the payload of h.Length bytes follows it.
func Append(dst []byte, h Header) []byte {
	return append(dst, byte(h.Length>>16), byte(h.Length>>8), byte(h.Length), byte(h.Type), byte(h.Flags),
		byte(h.Stream>>24), byte(h.Stream>>16), byte(h.Stream>>8), byte(h.Stream))
}

// Setting is the name of a parameter (RFC 9113 §6.5.2); unknown ones are to be
// ignored.
type Setting uint16

const (
	HeaderTableSize      Setting = 0x1
	EnablePush           Setting = 0x2
	MaxConcurrentStreams Setting = 0x3
	InitialWindowSize    Setting = 0x4
	MaxFrameSize         Setting = 0x5
	MaxHeaderListSize    Setting = 0x6
	EnableConnect        Setting = 0x8 // RFC 8441 §3
	NoPriorities         Setting = 0x9 // RFC 9218 §2.1
)

// Param is one parameter with its value.
type Param struct {
	Name  Setting
	Value uint32
}

// AppendSettings appends a whole SETTINGS frame.
func AppendSettings(dst []byte, params ...Param) []byte {
	dst = Append(dst, Header{Length: uint32(6 * len(params)), Type: Settings})
	for _, p := range params {
		dst = binary.BigEndian.AppendUint16(dst, uint16(p.Name))
		dst = binary.BigEndian.AppendUint32(dst, p.Value)
	}
	return dst
}

// AppendSettingsAck appends the acknowledgement of a SETTINGS frame.
func AppendSettingsAck(dst []byte) []byte {
	return Append(dst, Header{Type: Settings, Flags: Ack})
}

// AppendPing appends a whole PING frame.
func AppendPing(dst []byte, ack bool, data [8]byte) []byte {
	h := Header{Length: 8, Type: Ping}
	if ack {
		h.Flags = Ack
	}
	return append(Append(dst, h), data[:]...)
}

// AppendReset appends a whole RST_STREAM frame.
func AppendReset(dst []byte, stream uint32, code Code) []byte {
	dst = Append(dst, Header{Length: 4, Type: RSTStream, Stream: stream})
	return binary.BigEndian.AppendUint32(dst, uint32(code))
}

// AppendGoAway appends a whole GOAWAY frame; why is for people, may be empty,
// and is cut at 256 bytes.
func AppendGoAway(dst []byte, last uint32, code Code, why string) []byte {
	why = why[:min(len(why), 256)]
	dst = Append(dst, Header{Length: uint32(8 + len(why)), Type: GoAway})
	dst = binary.BigEndian.AppendUint32(dst, last)
	dst = binary.BigEndian.AppendUint32(dst, uint32(code))
	return append(dst, why...)
}

// AppendWindowUpdate appends a whole WINDOW_UPDATE frame; by is 1 to MaxWindow.
func AppendWindowUpdate(dst []byte, stream, by uint32) []byte {
	dst = Append(dst, Header{Length: 4, Type: WindowUpdate, Stream: stream})
	return binary.BigEndian.AppendUint32(dst, by)
}

// AppendHeaders appends a whole field block as HEADERS and, where it is longer
// than limit bytes, CONTINUATION frames. limit is the peer's SETTINGS_MAX_FRAME_SIZE.
func AppendHeaders(dst []byte, stream uint32, block []byte, limit int, end bool) []byte {
	h := Header{Type: Headers, Stream: stream}
	if end {
		h.Flags = EndStream
	}
	for {
		n := min(len(block), limit)
		h.Length = uint32(n)
		if n == len(block) {
			h.Flags |= EndHeaders
			return append(Append(dst, h), block...)
		}
		dst = append(Append(dst, h), block[:n]...)
		block = block[n:]
		h.Type, h.Flags = Continuation, 0
	}
}
