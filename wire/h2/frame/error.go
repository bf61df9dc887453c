package frame

import "strconv"

// Code is an error code (RFC 9113 §7).
type Code uint32

const (
	NoError            Code = 0x0
	ProtocolError      Code = 0x1
	InternalError      Code = 0x2
	FlowControlError   Code = 0x3
	SettingsTimeout    Code = 0x4
	StreamClosed       Code = 0x5
	FrameSizeError     Code = 0x6
	RefusedStream      Code = 0x7
	Cancel             Code = 0x8
	CompressionError   Code = 0x9
	ConnectError       Code = 0xa
	EnhanceYourCalm    Code = 0xb
	InadequateSecurity Code = 0xc
	HTTP11Required     Code = 0xd
)

var codes = [...]string{
	"NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT", "STREAM_CLOSED",
	"FRAME_SIZE_ERROR", "REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR", "CONNECT_ERROR", "ENHANCE_YOUR_CALM",
	"INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED",
}

func (c Code) String() string {
	if int(c) < len(codes) {
		return codes[c]
	}
	return "0x" + strconv.FormatUint(uint64(c), 16)
}

// Error is what a peer did wrong: on one stream, which ends by RST_STREAM, or
// with Stream 0 on the connection, which ends by GOAWAY (RFC 9113 §5.4).
type Error struct {
	Code   Code
	Stream uint32
	Reason string // constant; what was wrong
}

func (e *Error) Error() string {
	if e.Stream != 0 {
		return "h2: stream " + strconv.FormatUint(uint64(e.Stream), 10) + ": " + e.Code.String() + ": " + e.Reason
	}
	return "h2: " + e.Code.String() + ": " + e.Reason
}

// ConnError makes an error of the connection.
func ConnError(code Code, reason string) *Error { return &Error{Code: code, Reason: reason} }

// StreamError makes an error of one stream.
func StreamError(stream uint32, code Code, reason string) *Error {
	return &Error{Code: code, Stream: stream, Reason: reason}
}
