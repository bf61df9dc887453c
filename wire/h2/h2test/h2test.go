// Package h2test is a visitor for measuring HTTP/2: it asks for the same again
// and again. It promises well-formed frames and that a read is one batch.
package h2test

import (
	"bytes"
	"io"
	"net"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/selvage-edge/selvage/wire/h2/frame"
)

// Feeder is a connection on which the same requests come again and again,
// stream numbers apart, each read one batch. What is written to it is counted.
type Feeder struct {
	Written int // bytes; both are read when the connection has ended
	Writes  int // calls

	first  []byte // read once
	batch  []byte // of HEADERS frames
	next   uint32 // stream
	rounds int
}

// New makes a Feeder that asks once, then rounds times n at a time, with the
// field lines given, name and value. They are in the dynamic table from the
// second request on, as a browser's are. answer is how many bytes each answer
// has at most, by which the connection's window is opened again.
func New(lines [][2]string, n, rounds, answer int) *Feeder {
	var first, batch, block bytes.Buffer
	first.WriteString(frame.Preface)
	fr := http2.NewFramer(&first, nil)
	// Framers over a buffer do not fail.
	_ = fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 30})
	_ = fr.WriteWindowUpdate(0, 1<<30)
	enc := hpack.NewEncoder(&block)
	write := func(to *http2.Framer, id uint32) {
		block.Reset()
		for _, l := range lines {
			_ = enc.WriteField(hpack.HeaderField{Name: l[0], Value: l[1]})
		}
		_ = to.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: true})
	}
	write(fr, 1)
	fr = http2.NewFramer(&batch, nil)
	for i := range n {
		write(fr, uint32(2*i+1))
	}
	_ = fr.WriteWindowUpdate(0, uint32(n*answer))
	return &Feeder{first: first.Bytes(), batch: batch.Bytes(), next: 3, rounds: rounds}
}

func (f *Feeder) Read(p []byte) (int, error) {
	if len(f.first) > 0 {
		n := copy(p, f.first)
		f.first = f.first[n:]
		return n, nil
	}
	if f.rounds--; f.rounds < 0 {
		return 0, io.EOF
	}
	for at := 0; at < len(f.batch); {
		h := frame.Parse(f.batch[at:])
		if h.Type == frame.Headers {
			h.Stream = f.next
			frame.Append(f.batch[:at], h)
			f.next += 2
		}
		at += frame.HeaderLen + int(h.Length)
	}
	return copy(p, f.batch), nil
}

func (f *Feeder) Write(p []byte) (int, error) {
	f.Written += len(p)
	f.Writes++
	return len(p), nil
}

func (*Feeder) Close() error                     { return nil }
func (*Feeder) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (*Feeder) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (*Feeder) SetDeadline(time.Time) error      { return nil }
func (*Feeder) SetReadDeadline(time.Time) error  { return nil }
func (*Feeder) SetWriteDeadline(time.Time) error { return nil }
