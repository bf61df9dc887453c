package coding

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"

	"compress/gzip"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"

	"github.com/selvage-edge/selvage/wire/msg"
)

func accepts(lines ...string) *msg.Fields {
	f := new(msg.Fields)
	for _, l := range lines {
		f.Add([]byte("Accept-Encoding"), []byte(l))
	}
	return f
}

func TestChoose(t *testing.T) {
	for _, c := range []struct {
		lines []string
		want  Coding
	}{
		{nil, Identity},
		{[]string{""}, Identity},
		{[]string{"gzip, deflate, br, zstd"}, Brotli},
		{[]string{"gzip, deflate, zstd"}, Zstd},
		{[]string{"gzip"}, Gzip},
		{[]string{"X-GZIP"}, Gzip},
		{[]string{"deflate"}, Identity},
		{[]string{"br;q=0.5, gzip"}, Gzip},
		{[]string{"br; q=0.5, gzip;q=0.4"}, Brotli},
		{[]string{"br;q=0, *"}, Zstd},
		{[]string{"*;q=0"}, Identity},
		{[]string{"gzip;q=0"}, Identity},
		{[]string{"gzip;q=0.000, br;q=0.001"}, Brotli},
		{[]string{"identity, gzip;q=0.5"}, Identity},
		{[]string{"identity;q=0"}, Identity},
		{[]string{"gzip;q=2"}, Identity},
		{[]string{"gzip;q=1.001"}, Identity},
		{[]string{"gzip;q=x", "br;q=1.000"}, Brotli},
		{[]string{"gzip;level=9"}, Identity},
		{[]string{strings.Repeat("a,", 40) + "br"}, Identity},
		{[]string{"gzip", "br"}, Brotli},
	} {
		if got := Choose(accepts(c.lines...), Stored); got != c.want {
			t.Errorf("%q: %s, want %s", c.lines, got, c.want)
		}
	}
	all := accepts("gzip, br, zstd")
	if got := Choose(all, Passed); got != Zstd {
		t.Errorf("passed: %s", got)
	}
	if got := Choose(all, Stored.Without(Brotli)); got != Zstd {
		t.Errorf("without br: %s", got)
	}
	if got := Choose(all, nil); got != Identity {
		t.Errorf("none: %s", got)
	}
}

func FuzzChoose(f *testing.F) {
	f.Add("gzip;q=0.5, br;q=1, *;q=0")
	f.Add(";q=,,=;")
	f.Fuzz(func(t *testing.T, line string) {
		c := Choose(accepts(line), Stored)
		low := strings.ToLower(line)
		if c != Identity && !strings.Contains(low, c.String()) && !strings.Contains(low, "*") {
			t.Errorf("%q: %s was not accepted", line, c)
		}
	})
}

func TestCompressible(t *testing.T) {
	for kind, want := range map[string]bool{
		"text/html; charset=utf-8": true, "TEXT/CSS": true, "application/json": true, "application/vnd.api+json;v=1": true,
		"image/svg+xml": true, "application/wasm": true, "text/event-stream": false, "image/png": false, "video/mp4": false,
		"application/zip": false, "": false, "text/": false, "font/woff2": false,
	} {
		if got := Compressible([]byte(kind)); got != want {
			t.Errorf("%q: %t", kind, got)
		}
	}
}

func page(n int) []byte {
	r := rand.New(rand.NewPCG(1, uint64(n)))
	var b bytes.Buffer
	for b.Len() < n {
		b.WriteString([]string{"<p>selvage ", "edge ", "cloth </p>", "weft\n", "warp "}[r.IntN(5)])
	}
	return b.Bytes()[:n]
}

func decode(t testing.TB, c Coding, coded io.Reader) []byte {
	t.Helper()
	var r io.Reader
	switch c {
	case Gzip:
		z, err := gzip.NewReader(coded)
		if err != nil {
			t.Fatal(err)
		}
		r = z
	case Brotli:
		r = brotli.NewReader(coded)
	case Zstd:
		z, err := zstd.NewReader(coded)
		if err != nil {
			t.Fatal(err)
		}
		defer z.Close()
		r = z
	}
	body, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("%s: %v", c, err)
	}
	return body
}

func TestEncodedIsTheSame(t *testing.T) {
	for _, c := range Stored {
		for _, n := range []int{MinBytes, 50_000, 3 << 20} {
			body := page(n)
			coded, err := Encode(c, body)
			if err != nil || coded == nil || len(coded) > n*3/4 {
				t.Fatalf("%s of %d: %d bytes, %v", c, n, len(coded), err)
			}
			if !bytes.Equal(decode(t, c, bytes.NewReader(coded)), body) {
				t.Errorf("%s of %d: another body", c, n)
			}
		}
		noise := make([]byte, 20_000)
		for i := range noise {
			noise[i] = byte(rand.Uint32())
		}
		if coded, err := Encode(c, noise); coded != nil || err != nil {
			t.Errorf("%s: noise became %d bytes, %v", c, len(coded), err)
		}
	}
}

func TestStreamIsTheSame(t *testing.T) {
	body := page(300_000)
	for _, c := range Passed {
		for name, src := range map[string]io.Reader{
			"whole": bytes.NewReader(body), "halves": iotest.HalfReader(bytes.NewReader(body)), "last with the end": iotest.DataErrReader(bytes.NewReader(body)),
		} {
			r := NewReader(c, io.NopCloser(src))
			if !bytes.Equal(decode(t, c, r), body) {
				t.Errorf("%s, %s: another body", c, name)
			}
			if err := r.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

// TestNothingIsHeldBack: what the origin has sent reaches the visitor while the
// origin thinks about the rest.
func TestNothingIsHeldBack(t *testing.T) {
	for _, c := range Passed {
		from, to := io.Pipe()
		r := NewReader(c, from)
		go func() { _, _ = to.Write([]byte("first words")) }() // ends with the pipe
		b := make([]byte, 1<<10)
		n, err := r.Read(b)
		if n == 0 || err != nil {
			t.Fatalf("%s: %d, %v", c, n, err)
		}
		go func() { _ = to.Close() }() // never fails
		rest, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if got := decode(t, c, bytes.NewReader(append(b[:n:n], rest...))); string(got) != "first words" {
			t.Errorf("%s: %q", c, got)
		}
		_ = r.Close() // a pipe's never fails
	}
}

func TestBrokenSourceBreaksTheStream(t *testing.T) {
	broken := errors.New("broken")
	for _, c := range Passed {
		r := NewReader(c, io.NopCloser(io.MultiReader(bytes.NewReader(page(5000)), iotest.ErrReader(broken))))
		if _, err := io.ReadAll(r); !errors.Is(err, broken) {
			t.Errorf("%s: %v", c, err)
		}
		_ = r.Close() // never fails
		if _, err := r.Read(make([]byte, 1)); err == nil {
			t.Errorf("%s: a closed stream can be read", c)
		}
	}
}

func BenchmarkChoose(b *testing.B) {
	f := accepts("gzip, deflate, br, zstd")
	b.ReportAllocs()
	for b.Loop() {
		Choose(f, Stored)
	}
}

func BenchmarkEncode(b *testing.B) {
	body := page(32 << 10)
	for _, c := range Stored {
		b.Run(c.String(), func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Encode(c, body); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
