package normalize

import "bytes"

// class says what a byte of a path means to normalisation.
type class uint8

const (
	plain   class = iota // stays as it is
	slash                // begins a segment
	dot                  // may make a segment "." or ".."
	percent              // begins an escape
	back                 // a backslash
	odd                  // may not stand in a path: is percent-encoded
)

// classes sorts bytes by RFC 3986 §3.3: pchar, and what is none.
var classes = func() (c [256]class) {
	for i := range c {
		c[i] = odd
	}
	for _, b := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_~!$&'()*+,;=:@") {
		c[b] = plain
	}
	c['/'], c['.'], c['%'], c['\\'] = slash, dot, percent, back
	return c
}()

// isNormal reports a path that normalisation would not change, which most are.
func isNormal(path []byte, merge bool) bool {
	for i, b := range path {
		switch classes[b] {
		case plain:
		case slash:
			if merge && i > 0 && path[i-1] == '/' {
				return false
			}
		case dot:
			// Only a segment that begins with a dot can be a dot segment.
			if i == 0 || path[i-1] == '/' {
				return false
			}
		default:
			return false
		}
	}
	return true
}

// room is at most how long a path becomes.
func room(path []byte) int {
	n := len(path)
	for _, b := range path {
		if c := classes[b]; c == odd || c == back || c == percent {
			n += 2
		}
	}
	return n
}

// appendPath appends path, which begins with '/', in its normal form (RFC 3986
// §6.2.2): escapes in upper case, unreserved characters decoded, what may not
// stand there encoded, dot segments removed. With merge, backslashes become
// slashes and runs of slashes one before. A '%' that begins no escape becomes
// %25, so that the result means the same to whoever decodes it.
func appendPath(dst, path []byte, merge bool) []byte {
	start := len(dst)
	for i := 0; i < len(path); i++ {
		c := path[i]
		switch classes[c] {
		case percent:
			if i+2 < len(path) && isHex(path[i+1]) && isHex(path[i+2]) {
				if d := unhex(path[i+1])<<4 | unhex(path[i+2]); classes[d] == dot || isUnreserved(d) {
					dst = append(dst, d)
				} else {
					dst = append(dst, '%', hexDigits[d>>4], hexDigits[d&15])
				}
				i += 2
				continue
			}
			dst = append(dst, "%25"...)
			continue
		case back:
			if !merge {
				dst = append(dst, "%5C"...)
				continue
			}
			c = '/'
		case odd:
			dst = append(dst, '%', hexDigits[c>>4], hexDigits[c&15])
			continue
		}
		if merge && c == '/' && i > 0 && (path[i-1] == '/' || path[i-1] == '\\') {
			continue
		}
		dst = append(dst, c)
	}
	return dst[:start+removeDots(dst[start:])]
}

// removeDots removes "." and ".." segments in place (RFC 3986 §5.2.4) and
// returns how long the path is then.
func removeDots(path []byte) int {
	to := 0
	for from := 0; from < len(path); {
		// path[from] is the '/' that begins a segment.
		end := len(path)
		if next := bytes.IndexByte(path[from+1:], '/'); next >= 0 {
			end = from + 1 + next
		}
		switch segment := path[from+1 : end]; string(segment) {
		case ".", "..":
			if len(segment) == 2 {
				to = max(bytes.LastIndexByte(path[:to], '/'), 0)
			}
			if end == len(path) { // the last one leaves its slash
				path[to] = '/'
				to++
			}
		default:
			to += copy(path[to:], path[from:end])
		}
		from = end
	}
	return to
}

const hexDigits = "0123456789ABCDEF"

func isUnreserved(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_' || c == '~'
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'f'
}

func unhex(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c&^0x20 - 'A' + 10
}
