package frame

import "encoding/binary"

// The readers below judge a whole payload p of a frame whose head was h. A nil
// *Error means that it is as RFC 9113 §6 wants it. The slices they return are
// p's.

// ReadData returns the data without padding. For flow control all of h.Length
// counts (RFC 9113 §6.9.1).
func ReadData(h Header, p []byte) ([]byte, *Error) {
	if h.Stream == 0 {
		return nil, ConnError(ProtocolError, "DATA on stream 0")
	}
	return unpad(h, p)
}

// Dependency is the priority of RFC 7540 §5.3, which RFC 9113 wants to be read
// and ignored.
type Dependency struct {
	On        uint32
	Exclusive bool
	Weight    uint8 // one less than meant
}

// ReadHeaders returns the fragment of a field block. A stream that depends on
// itself is an error of the stream; the fragment is returned with it, since the
// table needs it.
func ReadHeaders(h Header, p []byte) (fragment []byte, err *Error) {
	if h.Stream == 0 {
		return nil, ConnError(ProtocolError, "HEADERS on stream 0")
	}
	if p, err = unpad(h, p); err != nil {
		return nil, err
	}
	if !h.Flags.Has(Prioritized) {
		return p, nil
	}
	if len(p) < 5 {
		return nil, ConnError(FrameSizeError, "HEADERS too short for its priority")
	}
	if dependency(p).On == h.Stream {
		return p[5:], StreamError(h.Stream, ProtocolError, "stream depends on itself")
	}
	return p[5:], nil
}

// ReadPriority reads a PRIORITY frame.
func ReadPriority(h Header, p []byte) (Dependency, *Error) {
	switch {
	case h.Stream == 0:
		return Dependency{}, ConnError(ProtocolError, "PRIORITY on stream 0")
	case len(p) != 5:
		return Dependency{}, StreamError(h.Stream, FrameSizeError, "PRIORITY not of 5 bytes")
	}
	d := dependency(p)
	if d.On == h.Stream {
		return d, StreamError(h.Stream, ProtocolError, "stream depends on itself")
	}
	return d, nil
}

func dependency(p []byte) Dependency {
	on := binary.BigEndian.Uint32(p)
	return Dependency{On: on & MaxStream, Exclusive: on>>31 == 1, Weight: p[4]}
}

// ReadReset reads a RST_STREAM frame.
func ReadReset(h Header, p []byte) (Code, *Error) {
	switch {
	case h.Stream == 0:
		return 0, ConnError(ProtocolError, "RST_STREAM on stream 0")
	case len(p) != 4:
		return 0, ConnError(FrameSizeError, "RST_STREAM not of 4 bytes")
	}
	return Code(binary.BigEndian.Uint32(p)), nil
}

// ReadSettings judges a SETTINGS frame. Its parameters, in order, are
// ParamAt(p, i) for i below len(p)/6; an acknowledgement has none.
func ReadSettings(h Header, p []byte) *Error {
	switch {
	case h.Stream != 0:
		return ConnError(ProtocolError, "SETTINGS on a stream")
	case h.Flags.Has(Ack) && len(p) != 0:
		return ConnError(FrameSizeError, "SETTINGS acknowledgement with a payload")
	case len(p)%6 != 0:
		return ConnError(FrameSizeError, "SETTINGS not of whole parameters")
	}
	for i := range len(p) / 6 {
		if err := ParamAt(p, i).check(); err != nil {
			return err
		}
	}
	return nil
}

// ParamAt returns the i-th parameter of a SETTINGS payload.
func ParamAt(p []byte, i int) Param {
	p = p[6*i:]
	return Param{Name: Setting(binary.BigEndian.Uint16(p)), Value: binary.BigEndian.Uint32(p[2:])}
}

func (p Param) check() *Error {
	switch p.Name {
	case EnablePush, EnableConnect, NoPriorities:
		if p.Value > 1 {
			return ConnError(ProtocolError, "setting that is neither 0 nor 1")
		}
	case InitialWindowSize:
		if p.Value > MaxWindow {
			return ConnError(FlowControlError, "initial window too large")
		}
	case MaxFrameSize:
		if p.Value < MinFrame || p.Value > MaxFrame {
			return ConnError(ProtocolError, "frame size out of range")
		}
	}
	return nil
}

// ReadPing reads a PING frame.
func ReadPing(h Header, p []byte) (data [8]byte, err *Error) {
	switch {
	case h.Stream != 0:
		return data, ConnError(ProtocolError, "PING on a stream")
	case len(p) != 8:
		return data, ConnError(FrameSizeError, "PING not of 8 bytes")
	}
	return [8]byte(p), nil
}

// ReadGoAway reads a GOAWAY frame.
func ReadGoAway(h Header, p []byte) (last uint32, code Code, debug []byte, err *Error) {
	switch {
	case h.Stream != 0:
		return 0, 0, nil, ConnError(ProtocolError, "GOAWAY on a stream")
	case len(p) < 8:
		return 0, 0, nil, ConnError(FrameSizeError, "GOAWAY too short")
	}
	return binary.BigEndian.Uint32(p) & MaxStream, Code(binary.BigEndian.Uint32(p[4:])), p[8:], nil
}

// ReadWindowUpdate reads a WINDOW_UPDATE frame; by is at least 1.
func ReadWindowUpdate(h Header, p []byte) (by uint32, err *Error) {
	if len(p) != 4 {
		return 0, ConnError(FrameSizeError, "WINDOW_UPDATE not of 4 bytes")
	}
	if by = binary.BigEndian.Uint32(p) & MaxWindow; by == 0 {
		return 0, &Error{Code: ProtocolError, Stream: h.Stream, Reason: "WINDOW_UPDATE by 0"}
	}
	return by, nil
}

// ReadContinuation returns the fragment of a field block.
func ReadContinuation(h Header, p []byte) ([]byte, *Error) {
	if h.Stream == 0 {
		return nil, ConnError(ProtocolError, "CONTINUATION on stream 0")
	}
	return p, nil
}

// ReadPriorityUpdate returns the stream that is meant and its priority field
// value (RFC 9218 §7.1).
func ReadPriorityUpdate(h Header, p []byte) (stream uint32, value []byte, err *Error) {
	switch {
	case h.Stream != 0:
		return 0, nil, ConnError(ProtocolError, "PRIORITY_UPDATE on a stream")
	case len(p) < 4:
		return 0, nil, ConnError(FrameSizeError, "PRIORITY_UPDATE too short")
	}
	if stream = binary.BigEndian.Uint32(p) & MaxStream; stream == 0 {
		return 0, nil, ConnError(ProtocolError, "PRIORITY_UPDATE of stream 0")
	}
	return stream, p[4:], nil
}

func unpad(h Header, p []byte) ([]byte, *Error) {
	if !h.Flags.Has(Padded) {
		return p, nil
	}
	if len(p) == 0 {
		return nil, ConnError(FrameSizeError, "padded frame without a payload")
	}
	n := int(p[0])
	if n >= len(p) {
		return nil, ConnError(ProtocolError, "padding longer than its frame")
	}
	return p[1 : len(p)-n], nil
}
