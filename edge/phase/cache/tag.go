package cache

import (
	"github.com/selvage-edge/selvage/edge/phase/cache/mark"
	"github.com/selvage-edge/selvage/wire/msg"
)

// Bounds of Cache-Tag: what goes beyond is passed over, as Cloudflare documents.
const (
	maxTagBytes = 16 << 10 // of all lines together
	maxTags     = 1000
)

// joinTags returns the Cache-Tag lines of an answer (texts separated by commas)
// as one, in memory of its own; nil without any.
func joinTags(f *msg.Fields) []byte {
	if !f.Has(msg.CacheTag) {
		return nil
	}
	var line []byte
	n := 0
	for i := range f.Len() {
		l := f.At(i)
		if l.ID != msg.CacheTag {
			continue
		}
		for t, rest := nextCacheTag(l.Value); t != nil && n < maxTags; t, rest = nextCacheTag(rest) {
			if len(line)+len(t)+1 > maxTagBytes {
				return line
			}
			if n++; n > 1 {
				line = append(line, ',')
			}
			line = append(line, t...)
		}
	}
	return line
}

// hashTags is what purges compare with, of a line that joinTags made.
func hashTags(line []byte) []uint64 {
	var tags []uint64
	for t, rest := nextCacheTag(line); t != nil; t, rest = nextCacheTag(rest) {
		tags = append(tags, mark.TagHash(t))
	}
	return tags
}

// nextCacheTag cuts the next text of a list. Unlike in other lists quotes mean
// nothing, so that a tag is what a purge can name.
func nextCacheTag(list []byte) (tag, rest []byte) {
	for len(list) > 0 {
		end := 0
		for end < len(list) && list[end] != ',' {
			end++
		}
		tag, list = list[:end], list[min(end+1, len(list)):]
		for len(tag) > 0 && (tag[0] == ' ' || tag[0] == '\t') {
			tag = tag[1:]
		}
		for len(tag) > 0 && (tag[len(tag)-1] == ' ' || tag[len(tag)-1] == '\t') {
			tag = tag[:len(tag)-1]
		}
		if len(tag) > 0 {
			return tag, list
		}
	}
	return nil, nil
}
