package huffman

import (
	"bytes"
	"testing"

	"golang.org/x/net/http2/hpack"
)

func TestEachOctetIsCodedAsOthersDo(t *testing.T) {
	for c := range 256 {
		for _, s := range []string{string([]byte{byte(c)}), string([]byte{byte(c), 'a', byte(c), byte(c)})} {
			want := hpack.AppendHuffmanString(nil, s)
			got := Append(nil, s)
			if !bytes.Equal(got, want) || Len(s) != len(want) {
				t.Errorf("%q is coded %x in %d, want %x", s, got, Len(s), want)
			}
			back, ok := Decode([]byte("x"), got)
			if !ok || string(back) != "x"+s {
				t.Errorf("%x decodes to %q, %v", got, back, ok)
			}
		}
	}
}

func TestRefused(t *testing.T) {
	for _, p := range []string{
		"\xff",             // eight bits of padding
		"\x1f\xff",         // a code, then eleven
		"\x18",             // padding of zeros
		"\xff\xff\xff\xff", // the end of string
		"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
		"\xff\xff\xff\xe0", // a code cut short
	} {
		if got, ok := Decode([]byte("kept"), []byte(p)); ok || string(got) != "kept" {
			t.Errorf("%x decodes to %q, %v", p, got, ok)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte("\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff"))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, p []byte) {
		want, err := hpack.HuffmanDecodeToString(p)
		got, ok := Decode(nil, p)
		if ok != (err == nil) || ok && string(got) != want {
			t.Fatalf("%x: got %q %v, want %q %v", p, got, ok, want, err)
		}
		coded := Append(nil, p)
		if !bytes.Equal(coded, hpack.AppendHuffmanString(nil, string(p))) {
			t.Fatalf("%x is coded %x", p, coded)
		}
		if back, ok := Decode(nil, coded); !ok || !bytes.Equal(back, p) {
			t.Fatalf("%x comes back as %x", p, back)
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	text := "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36"
	coded := Append(nil, text)
	buf := make([]byte, 0, 256)
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		buf, _ = Decode(buf[:0], coded)
	}
}

func BenchmarkAppend(b *testing.B) {
	text := "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36"
	buf := make([]byte, 0, 256)
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		buf = Append(buf[:0], text)
	}
}
