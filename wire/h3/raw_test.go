package h3

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/selvage-edge/selvage/wire/h3/qpack"
	"github.com/selvage-edge/selvage/wire/msg"
)

// peer is a client that may break every rule.
type peer struct {
	t  testing.TB
	qc *quic.Conn
}

const peerWait = 10 * time.Second

func (r *running) peer(t testing.TB) *peer {
	t.Helper()
	return r.peerWith(t, &quic.Config{})
}

func (r *running) peerWith(t testing.TB, config *quic.Config) *peer {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), peerWait)
	defer cancel()
	qc, err := quic.DialAddr(ctx, r.addr.String(), clientTLS(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = qc.CloseWithError(0, "") })
	return &peer{t, qc}
}

// until polls: what is waited for happens in another process, as far as we know.
func until(t testing.TB, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(peerWait)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if <-tick.C; time.Now().After(deadline) {
			t.Fatal("waited in vain")
		}
	}
}

// uni opens a unidirectional stream and writes to it.
func (p *peer) uni(text string) *quic.SendStream {
	p.t.Helper()
	st, err := p.qc.OpenUniStream()
	if err != nil {
		p.t.Fatal(err)
	}
	if _, err := st.Write([]byte(text)); err != nil {
		p.t.Fatal(err)
	}
	return st
}

// request opens a request stream and writes to it.
func (p *peer) request(text string) *quic.Stream {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), peerWait)
	defer cancel()
	st, err := p.qc.OpenStreamSync(ctx)
	if err != nil {
		p.t.Fatal(err)
	}
	if _, err := st.Write([]byte(text)); err != nil {
		p.t.Fatal(err)
	}
	_ = st.SetReadDeadline(time.Now().Add(peerWait))
	return st
}

// whole is request with the end of the stream.
func (p *peer) whole(text string) *quic.Stream {
	st := p.request(text)
	_ = st.Close()
	return st
}

// ended waits for the connection's end and returns its code.
func (p *peer) ended() code {
	p.t.Helper()
	select {
	case <-p.qc.Context().Done():
	case <-time.After(peerWait):
		p.t.Error("the connection goes on")
		return 0
	}
	e, ok := errors.AsType[*quic.ApplicationError](context.Cause(p.qc.Context()))
	if !ok || !e.Remote {
		p.t.Errorf("the connection ended with %v", context.Cause(p.qc.Context()))
		return 0
	}
	return code(e.ErrorCode)
}

// reset reads until the stream is reset and returns the code.
func reset(t testing.TB, st *quic.Stream) code {
	t.Helper()
	_, err := io.ReadAll(st)
	e, ok := errors.AsType[*quic.StreamError](err)
	if !ok {
		t.Errorf("the stream ended with %v", err)
		return 0
	}
	return code(e.ErrorCode)
}

// answer reads a whole answer: fields with :status, and body.
func answer(t testing.TB, st *quic.Stream) (fields map[string]string, body string) {
	t.Helper()
	all, err := io.ReadAll(st)
	if err != nil {
		t.Errorf("answer: %v", err)
		return nil, ""
	}
	fields = map[string]string{}
	for len(all) > 0 {
		kind, length, n := readFrame(all)
		if n == 0 || uint64(len(all)-n) < length {
			t.Fatalf("frame %d of %d bytes is cut short", kind, length)
		}
		payload := all[n : n+int(length)]
		all = all[n+int(length):]
		switch kind {
		case frameData:
			body += string(payload)
		case frameHeaders:
			lines, err := readSection(payload)
			if err != nil {
				t.Fatal(err)
			}
			for _, l := range lines {
				fields[l[0]] = l[1]
			}
		}
	}
	return fields, body
}

func readSection(p []byte) (lines [][2]string, err error) {
	var r qpack.Reader
	if err := r.Start(p); err != nil {
		return nil, err
	}
	for r.More() {
		name, value, err := r.Next()
		if err != nil {
			return nil, err
		}
		lines = append(lines, [2]string{string(name), string(value)})
	}
	return lines, nil
}

// frame is a frame as it goes on the wire.
func frame(kind uint64, payload string) string {
	return string(appendVarint(appendVarint(nil, kind), uint64(len(payload)))) + payload
}

// section is a field section of names and values.
func section(lines ...string) string {
	p := qpack.AppendPrefix(nil)
	for i := 0; i+1 < len(lines); i += 2 {
		p = qpack.AppendField(p, &msg.Field{Name: []byte(lines[i]), Value: []byte(lines[i+1])})
	}
	return string(p)
}

// head is the HEADERS frame of a request with more lines.
func head3(method, path string, more ...string) string {
	return frame(frameHeaders, section(append([]string{":method", method, ":scheme", "https", ":authority", "h3.test", ":path", path}, more...)...))
}

func control(frames string) string { return "\x00" + frame(frameSettings, "") + frames }

func varints(v ...uint64) string {
	var p []byte
	for _, n := range v {
		p = appendVarint(p, n)
	}
	return string(p)
}
