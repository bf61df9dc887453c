package cache

import (
	"bytes"

	"github.com/selvage-edge/selvage/edge/request"
	"github.com/selvage-edge/selvage/wire/msg"
	"github.com/selvage-edge/selvage/zone"
)

// variants are the extensions of which the origin has several image types, in
// lower case.
type variants map[string]imageChoice

type imageChoice struct {
	own   string // what the extension stands for
	types []string
	room  int // of all types in one line
}

// anyType is the Accept of who names none of an image's types: the origin then
// sends what the extension says.
var anyType = []byte("*/*")

func variantsOf(s zone.Settings) variants {
	var all variants
	for extension, types := range s.Variants() {
		if len(types) == 0 {
			continue
		}
		c := imageChoice{own: zone.ImageType(extension), types: types}
		for _, t := range types {
			c.room += len(t) + len(",")
		}
		if all == nil {
			all = variants{}
		}
		all[extension] = c
	}
	return all
}

// of returns the choice that a path has.
func (v variants) of(path []byte) (imageChoice, bool) {
	var small [longest]byte
	extension := request.Extension(path)
	if len(v) == 0 || len(extension) == 0 || len(extension) > longest {
		return imageChoice{}, false
	}
	for i, c := range extension {
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		small[i] = c
	}
	c, ok := v[string(small[:len(extension)])]
	return c, ok
}

// narrow leaves of a request's Accept what chooses among the variants of an
// image: those types that it names, in the zone's order, or anything. Key, other
// edges and origin see that, so all browsers that can show the same share an object.
func (v variants) narrow(r *request.Request) {
	c, ok := v.of(r.In.Path)
	if !ok || r.In.Method != msg.GET && r.In.Method != msg.HEAD {
		return
	}
	f := &r.In.Fields
	value := r.Arena.Alloc(c.room)[:0]
	for _, t := range c.types {
		if !names(f, t) {
			continue
		}
		if len(value) > 0 {
			value = append(value, ',')
		}
		value = append(value, t...)
	}
	if len(value) == 0 {
		value = anyType
	}
	if f.Count(msg.Accept) != 1 || !bytes.Equal(f.Get(msg.Accept), value) {
		f.Set(msg.Accept, value)
	}
}

// names reports whether Accept has a media type, with a weight above nothing.
// Wildcards name none: who sends them may still not be able to show it.
func names(f *msg.Fields, mediaType string) bool {
	for i := range f.Len() {
		l := f.At(i)
		if l.ID != msg.Accept {
			continue
		}
		for t, rest := msg.NextToken(l.Value); t != nil; t, rest = msg.NextToken(rest) {
			name, params, _ := bytes.Cut(t, []byte{';'})
			if msg.EqualFold(bytes.TrimSpace(name), mediaType) {
				return !unwanted(params)
			}
		}
	}
	return false
}

// unwanted reports a weight of nothing (RFC 9110 §12.4.2).
func unwanted(params []byte) bool {
	for len(params) > 0 {
		var p []byte
		p, params, _ = bytes.Cut(params, []byte{';'})
		if p = bytes.TrimSpace(p); len(p) > 2 && p[0]|0x20 == 'q' && p[1] == '=' {
			return len(bytes.Trim(p[2:], "0.")) == 0
		}
	}
	return false
}

// broken reports an answer that was chosen by Accept and is not of a type that was
// asked for. It is not stored, as Cloudflare documents: what is wrong at the origin
// is not to be given to all who accept the same.
func (v variants) broken(path []byte, in *msg.Fields, out *msg.Response) bool {
	c, ok := v.of(path)
	if !ok || out.Status != 200 || !out.Fields.HasToken(msg.Vary, "accept") {
		return false
	}
	got, _, _ := bytes.Cut(out.Fields.Get(msg.ContentType), []byte{';'})
	got = bytes.TrimSpace(got)
	if bytes.Equal(in.Get(msg.Accept), anyType) {
		return !msg.EqualFold(got, c.own)
	}
	return !names(in, string(bytes.ToLower(got)))
}
