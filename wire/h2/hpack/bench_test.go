package hpack

import (
	"bytes"
	"testing"

	"golang.org/x/net/http2/hpack"

	"github.com/selvage-edge/selvage/wire/msg"
)

var browser = [][2]string{
	{":method", "GET"}, {":authority", "www.example.com"}, {":scheme", "https"}, {":path", "/assets/app.3f9ab1.js"},
	{"sec-ch-ua-platform", `"Linux"`},
	{"user-agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36"},
	{"accept", "*/*"}, {"sec-fetch-site", "same-origin"}, {"sec-fetch-mode", "cors"}, {"sec-fetch-dest", "script"},
	{"referer", "https://www.example.com/"}, {"accept-encoding", "gzip, deflate, br, zstd"}, {"accept-language", "en-US,en;q=0.9"},
	{"cookie", "session=0123456789abcdef0123456789abcdef"},
}

// blocks are a first request and one that follows, as another encoder writes them.
func blocks(tb testing.TB) (first, next []byte) {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	for range 2 {
		first = next
		b.Reset()
		for _, l := range browser {
			if err := e.WriteField(hpack.HeaderField{Name: l[0], Value: l[1]}); err != nil {
				tb.Fatal(err)
			}
		}
		next = bytes.Clone(b.Bytes())
	}
	return first, next
}

func BenchmarkDecode(b *testing.B) {
	first, next := blocks(b)
	for name, block := range map[string][]byte{"first": first, "next": next} {
		b.Run(name, func(b *testing.B) {
			d := NewDecoder()
			s := section(1 << 14)
			if err := d.Decode(first, s); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				s.Reset()
				if err := d.Decode(block, s); err != nil || s.Err != nil {
					b.Fatal(err, s.Err)
				}
			}
		})
	}
}

func answer() *msg.Fields {
	var f msg.Fields
	f.AddID(msg.ContentType, []byte("text/html; charset=utf-8"))
	f.AddID(msg.CacheControl, []byte("public, max-age=3600"))
	f.AddID(msg.ETag, []byte(`"33a64df551425fcc55e4d42a148795d9f25f89d4"`))
	f.AddID(msg.LastModified, []byte("Mon, 21 Oct 2013 20:13:21 GMT"))
	return &f
}

func BenchmarkAppend(b *testing.B) {
	f := answer()
	var p []byte
	b.Run("static", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			p = AppendStatic(AppendStatus(p[:0], 200), f)
		}
	})
	b.Run("plain", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			p = AppendStatus(p[:0], 200)
			for i := range f.Len() {
				p = AppendField(p, f.At(i))
			}
		}
	})
	b.Run("encoder", func(b *testing.B) {
		e := NewEncoder()
		b.ReportAllocs()
		for b.Loop() {
			p = e.Begin(p[:0])
			for i := range f.Len() {
				p = e.Field(p, f.At(i))
			}
		}
	})
}
