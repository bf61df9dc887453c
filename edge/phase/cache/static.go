package cache

import (
	"bytes"
	"time"

	"github.com/selvage-edge/selvage/edge/request"
	"github.com/selvage-edge/selvage/wire/msg"
)

// staticExtensions are those that Cloudflare caches without being told
// (developers.cloudflare.com/cache/concepts/default-cache-behavior), and
// what their Content-Type is, for the armor: a media type, or a top-level type
// and '/'. "" = any but a page.
var staticExtensions = map[string]string{
	"7z": "application/", "avi": "video/", "avif": "image/", "apk": "application/", "bin": "", "bmp": "image/", "bz2": "application/", "class": "application/", "css": "text/css",
	"csv": "text/csv", "doc": "application/", "docx": "application/", "dmg": "application/", "ejs": "", "eot": "", "eps": "", "exe": "application/", "flac": "audio/",
	"gif": "image/", "gz": "application/", "ico": "image/", "iso": "application/", "jar": "application/", "jpg": "image/", "jpeg": "image/", "js": "", "mid": "audio/",
	"midi": "audio/", "mkv": "video/", "mp3": "audio/", "mp4": "video/", "ogg": "", "otf": "", "pdf": "application/pdf", "pict": "image/", "pls": "audio/",
	"png": "image/", "ppt": "application/", "pptx": "application/", "ps": "application/", "rar": "application/", "svg": "image/", "svgz": "image/", "swf": "application/", "tar": "application/",
	"tif": "image/", "tiff": "image/", "ttf": "", "webm": "", "webp": "image/", "woff": "", "woff2": "", "xls": "application/", "xlsx": "application/",
	"zip": "application/", "zst": "application/",
}

// longest is the longest of staticExtensions.
const longest = 5

// lookUp finds an extension in any case.
func lookUp(ext []byte) (mediaType string, ok bool) {
	if len(ext) == 0 || len(ext) > longest {
		return "", false
	}
	var small [longest]byte
	for i, c := range ext {
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		small[i] = c
	}
	mediaType, ok = staticExtensions[string(small[:len(ext)])]
	return mediaType, ok
}

// isStatic reports a path that is cached without being told where the zone
// holds static files only: one with such an extension, and robots.txt.
func isStatic(path []byte) bool {
	if _, ok := lookUp(request.Extension(path)); ok {
		return true
	}
	return string(path) == "/robots.txt"
}

// defaultTTL is how long an answer is fresh of which neither origin nor rule
// says anything, where a rule made it eligible or it is a static file (Cloudflare's
// default edge TTLs); 0 = it is judged by the RFC alone.
func defaultTTL(status int) time.Duration {
	switch status {
	case 200, 301:
		return 120 * time.Minute
	case 302, 303:
		return 20 * time.Minute
	case 404, 410:
		return 3 * time.Minute
	}
	return 0
}

// disguised reports an answer whose Content-Type does not fit the extension of
// the path it was asked under: a page of somebody's own, asked for as if it were
// a picture, so that a cache would hold it (web cache deception).
func disguised(path []byte, f *msg.Fields) bool {
	want, ok := lookUp(request.Extension(path))
	if !ok {
		return false
	}
	got := f.Get(msg.ContentType)
	if semicolon := bytes.IndexByte(got, ';'); semicolon >= 0 {
		got = got[:semicolon]
	}
	got = bytes.TrimSpace(got)
	switch {
	case len(got) == 0:
		return false // nobody's page: those who send pages say so
	case msg.EqualFold(got, "application/octet-stream"):
		return false // browsers save it and show nothing
	case want == "":
		return isPage(got)
	case want[len(want)-1] != '/':
		return !msg.EqualFold(got, want)
	}
	main := got[:min(len(got), len(want))]
	if msg.EqualFold(main, want) {
		return isPage(got)
	}
	// A picture may be a film, and the other way round.
	visual := msg.EqualFold(got[:min(len(got), 6)], "image/") || msg.EqualFold(got[:min(len(got), 6)], "video/")
	return !(visual && (want == "image/" || want == "video/"))
}

// isPage reports types in which personal data is sent.
func isPage(mediaType []byte) bool {
	for _, t := range [...]string{"text/html", "application/xhtml+xml", "application/json", "application/xml", "text/xml", "text/plain"} {
		if msg.EqualFold(mediaType, t) {
			return true
		}
	}
	return false
}
