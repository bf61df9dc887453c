package qpack

import (
	"bytes"
	"errors"
	"io"
	"strconv"
	"strings"
	"testing"

	other "github.com/quic-go/qpack"

	"github.com/selvage-edge/selvage/internal/prefixint"
	"github.com/selvage-edge/selvage/wire/head"
	"github.com/selvage-edge/selvage/wire/msg"
)

type line struct{ name, value string }

// read decodes a section by this package.
func read(section []byte) (lines []line, err error) {
	var r Reader
	if err := r.Start(section); err != nil {
		return nil, err
	}
	for r.More() {
		name, value, err := r.Next()
		if err != nil {
			return nil, err
		}
		lines = append(lines, line{string(name), string(value)})
	}
	return lines, nil
}

// readOther decodes it by somebody else's.
func readOther(section []byte) (lines []line, err error) {
	next := other.NewDecoder().Decode(section)
	for {
		f, err := next()
		if err == io.EOF {
			return lines, nil
		}
		if err != nil {
			return nil, err
		}
		lines = append(lines, line{f.Name, f.Value})
	}
}

func same(a, b []line) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

func TestStaticTable(t *testing.T) {
	for i := range static {
		section := prefixint.Append(AppendPrefix(nil), repIndexed, 6, i)
		want, err := readOther(section)
		if err != nil {
			t.Fatal(i, err)
		}
		if got, err := read(section); err != nil || !same(got, want) {
			t.Errorf("line %d: %v %v, want %v", i, got, err, want)
		}
	}
	if _, err := read(prefixint.Append(AppendPrefix(nil), repIndexed, 6, len(static))); !errors.Is(err, errIndex) {
		t.Errorf("line %d: %v", len(static), err)
	}
}

func TestStatus(t *testing.T) {
	for status := 100; status < 600; status++ {
		want := []line{{":status", strconv.Itoa(status)}}
		section := AppendStatus(AppendPrefix(nil), status)
		for _, decode := range []func([]byte) ([]line, error){read, readOther} {
			if got, err := decode(section); err != nil || !same(got, want) {
				t.Errorf("%d: %v %v", status, got, err)
			}
		}
	}
}

func TestFields(t *testing.T) {
	var f msg.Fields
	want := []line{}
	for id := msg.Unknown + 1; int(id) < msg.Count; id++ {
		if head.OfConnection(id) {
			continue
		}
		f.AddID(id, []byte("value of "+id.String()))
		want = append(want, line{strings.ToLower(id.String()), "value of " + id.String()})
	}
	for _, l := range []line{
		{"x-a", ""}, {"x-frame-options", "deny"}, {"x-frame-options", "none"}, {"x-very-long-name-of-a-field", strings.Repeat("long ", 100) + "end"},
		{"content-type", "text/css"}, {"cache-control", "public, max-age=31536000"}, {"accept-ranges", "bytes"}, {"x-bytes", "\x80\xff\t\x01"},
	} {
		f.Add([]byte(strings.ToUpper(l.name)), []byte(l.value))
		want = append(want, l)
	}
	plain := AppendPrefix(nil)
	for i := range f.Len() {
		plain = AppendField(plain, f.At(i))
	}
	coded := AppendStatic(AppendPrefix(nil), &f)
	if len(coded) >= len(plain) {
		t.Errorf("%d bytes coded, %d plain", len(coded), len(plain))
	}
	for name, section := range map[string][]byte{"plain": plain, "coded": coded} {
		for _, decode := range []func([]byte) ([]line, error){read, readOther} {
			if got, err := decode(section); err != nil || !same(got, want) {
				t.Errorf("%s: %v\n%v\nwant\n%v", name, err, got, want)
			}
		}
	}
}

func TestNumber(t *testing.T) {
	for _, n := range []int64{0, 7, 1024, 1<<62 + 1} {
		got, err := readOther(AppendNumber(AppendPrefix(nil), msg.ContentLength, n))
		if err != nil || !same(got, []line{{"content-length", strconv.FormatInt(n, 10)}}) {
			t.Errorf("%d: %v %v", n, got, err)
		}
	}
}

func TestRefused(t *testing.T) {
	for _, c := range []struct {
		name    string
		section string
		want    error
	}{
		{"empty", "", errInteger},
		{"no base", "\x00", errInteger},
		{"insert count", "\x02\x00\xd1", errDynamic},
		{"negative base", "\x00\x80\xd1", errBase},
		{"dynamic index", "\x00\x00\x80", errDynamic},
		{"dynamic name", "\x00\x00\x40\x00", errDynamic},
		{"index after base", "\x00\x00\x10", errDynamic},
		{"name after base", "\x00\x00\x00\x00", errDynamic},
		{"index too large", "\x00\x00\xff\x24", errIndex},
		{"index cut short", "\x00\x00\xff", errInteger},
		{"integer without end", "\x00\x00\xff\xff\xff\xff\xff\xff\xff\x7f", errInteger},
		{"name longer than the section", "\x00\x00\x23ab", errString},
		{"no value", "\x00\x00\x51", errString},
		{"value longer than the section", "\x00\x00\x51\x05abc", errString},
		{"bad Huffman padding", "\x00\x00\x51\x81\x00", errHuffman},
		{"end of string in Huffman", "\x00\x00\x51\x84\xff\xff\xff\xff", errHuffman},
	} {
		if got, err := read([]byte(c.section)); !errors.Is(err, c.want) {
			t.Errorf("%s: %v %v, want %v", c.name, got, err, c.want)
		}
	}
}

// FuzzReader: both decoders take the same sections for the same lines.
func FuzzReader(f *testing.F) {
	f.Add(AppendStatus(AppendPrefix(nil), 404))
	f.Add([]byte("\x00\x00\x51\x81\x63\xd7\xc1\x23abc\x02xy"))
	f.Add([]byte("\x00\x00\x2f\x01\x41\x83\x41\x42\x43\x82\x44\x45"))
	f.Fuzz(func(t *testing.T, section []byte) {
		if len(section) > 1 && section[1] != 0 {
			return // a base that means nothing here; the other one refuses it
		}
		got, err := read(section)
		want, otherErr := readOther(section)
		if err != nil {
			// Where we are stricter: a base without meaning, lengths that no
			// section has.
			if otherErr == nil && !errors.Is(err, errBase) && !errors.Is(err, errInteger) {
				t.Fatalf("%x: %v; the other reads %v", section, err, want)
			}
			return
		}
		if otherErr != nil || !same(got, want) {
			t.Fatalf("%x: %v; the other %v %v", section, got, want, otherErr)
		}
	})
}

// FuzzAppend: what we write is read back, by both.
func FuzzAppend(f *testing.F) {
	f.Add("Content-Type", "text/html")
	f.Add("X-Other", "\x00\xff")
	f.Fuzz(func(t *testing.T, name, value string) {
		var fields msg.Fields
		fields.Add([]byte(name), []byte(value))
		if head.OfConnection(fields.At(0).ID) {
			return
		}
		want := []line{{string(appendLower(nil, []byte(name))), value}}
		for _, section := range [][]byte{AppendStatic(AppendPrefix(nil), &fields), AppendField(AppendPrefix(nil), fields.At(0))} {
			got, err := read(section)
			if err != nil || !same(got, want) {
				t.Fatalf("%q: %q gives %v %v", want, section, got, err)
			}
			if got, err := readOther(section); err != nil || !same(got, want) {
				t.Fatalf("%q: %q gives the other %v %v", want, section, got, err)
			}
		}
	})
}

func section() []byte {
	var b bytes.Buffer
	e := other.NewEncoder(&b)
	for _, l := range []line{
		{":method", "GET"}, {":authority", "www.example.com"}, {":scheme", "https"}, {":path", "/assets/app.3f9ab1.js"},
		{"user-agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36"},
		{"accept", "*/*"}, {"referer", "https://www.example.com/"}, {"accept-encoding", "gzip, deflate, br, zstd"}, {"accept-language", "en-US,en;q=0.9"},
		{"cookie", "session=0123456789abcdef0123456789abcdef"},
	} {
		if err := e.WriteField(other.HeaderField{Name: l.name, Value: l.value}); err != nil {
			panic(err)
		}
	}
	return b.Bytes()
}

func BenchmarkReader(b *testing.B) {
	p := section()
	var r Reader
	b.ReportAllocs()
	for b.Loop() {
		if err := r.Start(p); err != nil {
			b.Fatal(err)
		}
		for r.More() {
			if _, _, err := r.Next(); err != nil {
				b.Fatal(err)
			}
		}
	}
}

func BenchmarkAppend(b *testing.B) {
	var f msg.Fields
	f.AddID(msg.ContentType, []byte("text/html; charset=utf-8"))
	f.AddID(msg.CacheControl, []byte("public, max-age=3600"))
	f.AddID(msg.ETag, []byte(`"33a64df551425fcc55e4d42a148795d9f25f89d4"`))
	var p []byte
	b.ReportAllocs()
	for b.Loop() {
		p = AppendStatus(AppendPrefix(p[:0]), 200)
		for i := range f.Len() {
			p = AppendField(p, f.At(i))
		}
	}
}
