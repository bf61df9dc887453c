package client

import (
	"bytes"
	"io"
	"net"
	"sync"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/selvage-edge/selvage/wire/h2/frame"
	"github.com/selvage-edge/selvage/wire/msg"
)

// origin is the other end of a connection, of which each frame is said.
type origin struct {
	nc     net.Conn
	frames chan http2.Frame // that the client sent, but for its first SETTINGS, WINDOW_UPDATE and acknowledgements
	enc    *hpack.Encoder
	block  bytes.Buffer
}

// against connects a client with an origin.
func against(t testing.TB, l Limits) (*Conn, *origin) {
	t.Helper()
	near, far := net.Pipe()
	o := &origin{nc: far, frames: make(chan http2.Frame, 1<<16)}
	o.enc = hpack.NewEncoder(&o.block)
	var work sync.WaitGroup
	work.Go(func() {
		defer close(o.frames)
		if _, err := io.ReadFull(far, make([]byte, len(http2.ClientPreface))); err != nil {
			return
		}
		fr := http2.NewFramer(nil, far)
		fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
		for first := true; ; {
			x, err := fr.ReadFrame()
			if err != nil {
				return
			}
			switch x := x.(type) {
			case *http2.SettingsFrame:
				continue
			case *http2.WindowUpdateFrame:
				if first && x.StreamID == 0 {
					first = false
					continue
				}
			}
			o.frames <- x
		}
	})
	c := New(near, l)
	t.Cleanup(func() {
		_ = c.Close()
		_ = far.Close()
		work.Wait()
	})
	return c, o
}

func (o *origin) write(p []byte) { _, _ = o.nc.Write(p) } // a client that has left does not read

func (o *origin) head(lines ...string) []byte {
	o.block.Reset()
	for i := 0; i < len(lines); i += 2 {
		_ = o.enc.WriteField(hpack.HeaderField{Name: lines[i], Value: lines[i+1]}) // to memory: never fails
	}
	return bytes.Clone(o.block.Bytes())
}

func (o *origin) headers(stream uint32, flags frame.Flags, lines ...string) []byte {
	b := o.head(lines...)
	return append(frame.Append(nil, frame.Header{Length: uint32(len(b)), Type: frame.Headers, Flags: flags | frame.EndHeaders, Stream: stream}), b...)
}

func raw(typ frame.Type, flags frame.Flags, stream uint32, payload string) []byte {
	return append(frame.Append(nil, frame.Header{Length: uint32(len(payload)), Type: typ, Flags: flags, Stream: stream}), payload...)
}

// next returns the next frame of a kind, passing over others.
func next[T http2.Frame](t testing.TB, o *origin) T {
	t.Helper()
	for x := range o.frames {
		if x, ok := x.(T); ok {
			return x
		}
	}
	t.Fatal("the client has left")
	panic("not reached")
}

// fetch does a request and reads its answer to the end.
func fetch(t testing.TB, c *Conn, req *msg.Request) (status int, body string, err error) {
	var res msg.Response
	if err := c.Do(t.Context(), req, nil, &res); err != nil {
		return 0, "", err
	}
	defer res.Close()
	if res.Body != nil {
		var p []byte
		p, err = io.ReadAll(res.Body)
		body = string(p)
	}
	return res.Status, body, err
}
