package frame

import (
	"bytes"
	"testing"

	"golang.org/x/net/http2"
)

func TestPayloadsThatAreRefused(t *testing.T) {
	five, eight := make([]byte, 5), make([]byte, 8)
	self := []byte{0, 0, 0, 3, 9}
	setting := func(name byte, value ...byte) []byte { return append([]byte{0, name}, value...) }
	for name, c := range map[string]struct {
		h      Header
		p      []byte
		code   Code
		stream uint32
	}{
		"DATA on 0":                 {Header{Type: Data}, nil, ProtocolError, 0},
		"DATA all padding":          {Header{Type: Data, Flags: Padded, Stream: 1}, []byte{2, 0}, ProtocolError, 0},
		"DATA padded, empty":        {Header{Type: Data, Flags: Padded, Stream: 1}, nil, FrameSizeError, 0},
		"HEADERS on 0":              {Header{Type: Headers}, nil, ProtocolError, 0},
		"HEADERS all padding":       {Header{Type: Headers, Flags: Padded, Stream: 1}, []byte{1}, ProtocolError, 0},
		"HEADERS without priority":  {Header{Type: Headers, Flags: Prioritized, Stream: 1}, five[:4], FrameSizeError, 0},
		"HEADERS on itself":         {Header{Type: Headers, Flags: Prioritized, Stream: 3}, self, ProtocolError, 3},
		"PRIORITY on 0":             {Header{Type: Priority}, five, ProtocolError, 0},
		"PRIORITY of 4":             {Header{Type: Priority, Stream: 3}, five[:4], FrameSizeError, 3},
		"PRIORITY on itself":        {Header{Type: Priority, Stream: 3}, self, ProtocolError, 3},
		"RST_STREAM on 0":           {Header{Type: RSTStream}, five[:4], ProtocolError, 0},
		"RST_STREAM of 5":           {Header{Type: RSTStream, Stream: 1}, five, FrameSizeError, 0},
		"SETTINGS on 1":             {Header{Type: Settings, Stream: 1}, nil, ProtocolError, 0},
		"SETTINGS of 5":             {Header{Type: Settings}, five, FrameSizeError, 0},
		"SETTINGS ack with payload": {Header{Type: Settings, Flags: Ack}, setting(1, 0, 0, 0, 0), FrameSizeError, 0},
		"push of 2":                 {Header{Type: Settings}, setting(2, 0, 0, 0, 2), ProtocolError, 0},
		"window of 2^31":            {Header{Type: Settings}, setting(4, 0x80, 0, 0, 0), FlowControlError, 0},
		"frame too small":           {Header{Type: Settings}, setting(5, 0, 0, 0x3f, 0xff), ProtocolError, 0},
		"frame too large":           {Header{Type: Settings}, setting(5, 1, 0, 0, 0), ProtocolError, 0},
		"connect of 2":              {Header{Type: Settings}, setting(8, 0, 0, 0, 2), ProtocolError, 0},
		"PING on 1":                 {Header{Type: Ping, Stream: 1}, eight, ProtocolError, 0},
		"PING of 5":                 {Header{Type: Ping}, five, FrameSizeError, 0},
		"GOAWAY on 1":               {Header{Type: GoAway, Stream: 1}, eight, ProtocolError, 0},
		"GOAWAY of 5":               {Header{Type: GoAway}, five, FrameSizeError, 0},
		"WINDOW_UPDATE of 5":        {Header{Type: WindowUpdate}, five, FrameSizeError, 0},
		"WINDOW_UPDATE by 0":        {Header{Type: WindowUpdate}, []byte{0x80, 0, 0, 0}, ProtocolError, 0},
		"WINDOW_UPDATE by 0 on 1":   {Header{Type: WindowUpdate, Stream: 1}, five[:4], ProtocolError, 1},
		"CONTINUATION on 0":         {Header{Type: Continuation}, nil, ProtocolError, 0},
		"PRIORITY_UPDATE on 1":      {Header{Type: PriorityUpdate, Stream: 1}, five, ProtocolError, 0},
		"PRIORITY_UPDATE of 3":      {Header{Type: PriorityUpdate}, five[:3], FrameSizeError, 0},
		"PRIORITY_UPDATE of 0":      {Header{Type: PriorityUpdate}, five, ProtocolError, 0},
	} {
		err := read(c.h, c.p)
		if err == nil || err.Code != c.code || err.Stream != c.stream {
			t.Errorf("%s: %v, want %v on %d", name, err, c.code, c.stream)
		}
	}
}

// read is the reader of h's type.
func read(h Header, p []byte) (err *Error) {
	switch h.Type {
	case Data:
		_, err = ReadData(h, p)
	case Headers:
		_, err = ReadHeaders(h, p)
	case Priority:
		_, err = ReadPriority(h, p)
	case RSTStream:
		_, err = ReadReset(h, p)
	case Settings:
		err = ReadSettings(h, p)
	case Ping:
		_, err = ReadPing(h, p)
	case GoAway:
		_, _, _, err = ReadGoAway(h, p)
	case WindowUpdate:
		_, err = ReadWindowUpdate(h, p)
	case Continuation:
		_, err = ReadContinuation(h, p)
	case PriorityUpdate:
		_, _, err = ReadPriorityUpdate(h, p)
	}
	return err
}

// Another implementation reads what is appended here.
func TestFramesThatAreAppended(t *testing.T) {
	block := bytes.Repeat([]byte{0x82}, 40)
	p := AppendSettings(nil, Param{EnablePush, 0}, Param{InitialWindowSize, 1 << 20})
	p = AppendSettingsAck(p)
	p = AppendPing(p, true, [8]byte{1, 2, 3})
	p = AppendReset(p, 3, Cancel)
	p = AppendGoAway(p, 7, EnhanceYourCalm, "calm")
	p = AppendWindowUpdate(p, 5, 1000)
	p = AppendHeaders(p, 9, block, 16, true)
	p = append(Append(p, Header{Length: 2, Type: Data, Flags: EndStream, Stream: MaxStream}), "ab"...)
	fr := http2.NewFramer(nil, bytes.NewReader(p))
	for i, want := range []string{
		"[FrameHeader SETTINGS len=12]", "[FrameHeader SETTINGS flags=ACK len=0]", "[FrameHeader PING flags=ACK len=8]",
		"[FrameHeader RST_STREAM stream=3 len=4]", "[FrameHeader GOAWAY len=12]", "[FrameHeader WINDOW_UPDATE stream=5 len=4]",
		"[FrameHeader HEADERS flags=END_STREAM stream=9 len=16]", "[FrameHeader CONTINUATION stream=9 len=16]",
		"[FrameHeader CONTINUATION flags=END_HEADERS stream=9 len=8]", "[FrameHeader DATA flags=END_STREAM stream=2147483647 len=2]",
	} {
		f, err := fr.ReadFrame()
		if err != nil {
			t.Fatalf("%d: %v", i, err)
		}
		if f.Header().String() != want {
			t.Errorf("%d: %s, want %s", i, f.Header(), want)
		}
		switch f := f.(type) {
		case *http2.SettingsFrame:
			if v, ok := f.Value(http2.SettingInitialWindowSize); !f.IsAck() && (!ok || v != 1<<20) {
				t.Errorf("window %d, %v", v, ok)
			}
		case *http2.GoAwayFrame:
			if f.LastStreamID != 7 || f.ErrCode != http2.ErrCodeEnhanceYourCalm || string(f.DebugData()) != "calm" {
				t.Errorf("GOAWAY %v", f)
			}
		case *http2.WindowUpdateFrame:
			if f.Increment != 1000 {
				t.Errorf("by %d", f.Increment)
			}
		}
	}
}

// FuzzPayload compares what is taken and refused with another implementation's
// framer, frame by frame.
func FuzzPayload(f *testing.F) {
	for _, h := range []Header{{Type: Data, Flags: Padded, Stream: 1}, {Type: Headers, Flags: Prioritized | EndHeaders, Stream: 3}, {Type: Settings}, {Type: GoAway}, {Type: WindowUpdate, Stream: 1}} {
		f.Add(byte(h.Type), byte(h.Flags), h.Stream, []byte{1, 0, 0, 0, 1, 0, 0, 0, 0})
	}
	f.Fuzz(func(t *testing.T, typ, flags byte, stream uint32, p []byte) {
		h := Header{Length: uint32(len(p)), Type: Type(typ), Flags: Flags(flags), Stream: stream & MaxStream}
		raw := append(Append(nil, h), p...)
		if got := Parse(raw); got != h {
			t.Fatalf("%+v comes back as %+v", h, got)
		}
		err := read(h, p)
		if h.Type == PriorityUpdate || h.Type == Continuation {
			return // the other knows no PRIORITY_UPDATE, and wants HEADERS before CONTINUATION
		}
		fr := http2.NewFramer(nil, bytes.NewReader(raw))
		fr.SetMaxReadFrameSize(MaxFrame)
		theirs, other := fr.ReadFrame()
		switch {
		case err == nil && other != nil:
			t.Fatalf("%+v %x: the other says %v", h, p, other)
		case err != nil && other == nil && !stricter(h, p):
			t.Fatalf("%+v %x: %v, the other says nothing", h, p, err)
		case err != nil || other != nil:
			return
		}
		switch theirs := theirs.(type) {
		case *http2.DataFrame:
			if got, _ := ReadData(h, p); !bytes.Equal(got, theirs.Data()) {
				t.Fatalf("data %x, want %x", got, theirs.Data())
			}
		case *http2.HeadersFrame:
			if got, _ := ReadHeaders(h, p); !bytes.Equal(got, theirs.HeaderBlockFragment()) {
				t.Fatalf("fragment %x, want %x", got, theirs.HeaderBlockFragment())
			}
		}
	})
}

// stricter lists what is judged here and by others above the framing.
func stricter(h Header, p []byte) bool {
	switch h.Type {
	case Headers, Priority:
		return true // streams that depend on themselves
	case Settings:
		return ReadSettings(Header{Flags: h.Flags}, p) != nil // values
	case Data:
		return h.Flags.Has(Padded) && len(p) > 0 && int(p[0]) == len(p)
	case PushPromise:
		return true // which nobody reads
	}
	return false
}
