package cache

import (
	"bytes"
	"time"

	"github.com/selvage-edge/selvage/wire/msg"
)

// unchanged evaluates If-None-Match, else If-Modified-Since, against the
// object (RFC 9110 §13.2.2, RFC 9111 §4.3.2).
func (o *object) unchanged(f *msg.Fields, clock func() time.Time) bool {
	if f.Has(msg.IfNoneMatch) {
		return o.tagListed(f)
	}
	since := f.Get(msg.IfModifiedSince)
	if since == nil {
		return false
	}
	if o.lastMod() != nil && bytes.Equal(since, o.lastMod()) {
		return true
	}
	t, ok := readDate(since, clock())
	return ok && !o.modified(clock()).After(t)
}

// tagListed compares weakly: W/ does not count.
func (o *object) tagListed(f *msg.Fields) bool {
	for i := range f.Len() {
		l := f.At(i)
		if l.ID != msg.IfNoneMatch {
			continue
		}
		if string(l.Value) == "*" {
			return true
		}
		if o.etag() == nil {
			continue
		}
		for t, rest := nextTag(l.Value); t != nil; t, rest = nextTag(rest) {
			if bytes.Equal(opaque(t), opaque(o.etag())) {
				return true
			}
		}
	}
	return false
}

// nextTag cuts the next entity-tag of a list. A tag has no escapes, unlike a
// quoted string, so a backslash is an ordinary character.
func nextTag(list []byte) (tag, rest []byte) {
	list = bytes.TrimLeft(list, " \t,")
	open := bytes.IndexByte(list, '"')
	if open < 0 {
		return nil, nil
	}
	end := bytes.IndexByte(list[open+1:], '"')
	if end < 0 {
		return nil, nil
	}
	end += open + 2
	return list[:end], list[end:]
}

func opaque(tag []byte) []byte { return bytes.TrimPrefix(tag, []byte("W/")) }

// validTag reports whether b is one entity-tag (RFC 9110 §8.8.3).
func validTag(b []byte) bool {
	b = opaque(b)
	return len(b) >= 2 && b[0] == '"' && b[len(b)-1] == '"' && bytes.IndexByte(b[1:len(b)-1], '"') < 0
}

// confirmedBy reports whether a 304 is about this object: its ETag, where it
// has one, is the object's (RFC 9111 §4.3.4).
func (o *object) confirmedBy(f *msg.Fields) bool {
	tag := f.Get(msg.ETag)
	if tag == nil || o.etag() == nil {
		return true
	}
	return bytes.Equal(opaque(tag), opaque(o.etag()))
}

// merge returns the object's fields as a 304 updates them: what the 304
// brings replaces what had its name (RFC 9111 §3.2), apart from fields that
// describe the stored body's bytes and those that are never stored.
func (o *object) merge(f *msg.Fields) *msg.Fields {
	drop := notStored(f)
	kept := func(l *msg.Field) bool {
		switch l.ID {
		case msg.ContentEncoding, msg.ContentRange, msg.Date, msg.Age:
			return false
		}
		return !drop(l) && !msg.EqualFold(l.Name, "content-md5")
	}
	merged := new(msg.Fields)
	fields := o.fields()
	for i := range fields.Len() {
		l := fields.At(i)
		replaced := false
		for j := range f.Len() {
			if n := f.At(j); kept(n) && bytes.EqualFold(n.Name, l.Name) {
				replaced = true
			}
		}
		if !replaced {
			merged.AddField(*l)
		}
	}
	for j := range f.Len() {
		if n := f.At(j); kept(n) || n.ID == msg.Date || n.ID == msg.Age || n.ID == msg.CacheTag {
			merged.AddField(*n)
		}
	}
	if tags := o.tags(); len(tags) > 0 && !f.Has(msg.CacheTag) {
		merged.AddID(msg.CacheTag, tags)
	}
	return merged
}
