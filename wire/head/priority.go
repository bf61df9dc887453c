package head

// Priority is how soon an answer is wanted (RFC 9218 §4).
type Priority struct {
	Urgency     uint8 // 0 first, 7 last
	Incremental bool  // useful in parts
}

// DefaultPriority is that of a request that says nothing.
var DefaultPriority = Priority{Urgency: 3}

// Urgencies is how many there are.
const Urgencies = 8

// maxPriority is how many bytes of a Priority field are looked at.
const maxPriority = 256

// ParsePriority reads a Priority field value (RFC 9218 §4, a dictionary of RFC
// 9651 §3.2) over what was known before. What is not understood, or out of
// range, is passed over; a value that is no dictionary changes nothing.
func ParsePriority(p []byte, before Priority) Priority {
	if len(p) > maxPriority {
		return before
	}
	found := before
	for i := skipBlank(p, 0); i < len(p); {
		from := i
		for i < len(p) && keyByte(p[i]) {
			i++
		}
		key, value := p[from:i], []byte(nil)
		if len(key) == 0 {
			return before
		}
		if i < len(p) && p[i] == '=' {
			from = i + 1
			if i = itemEnd(p, from); i == from {
				return before
			}
			value = p[from:i]
		}
		for i < len(p) && p[i] == ';' { // parameters mean nothing here
			i = itemEnd(p, i+1)
		}
		found.member(key, value)
		if i = skipBlank(p, i); i == len(p) {
			break
		}
		if p[i] != ',' {
			return before
		}
		if i = skipBlank(p, i+1); i == len(p) {
			return before
		}
	}
	return found
}

func (pr *Priority) member(key, value []byte) {
	switch string(key) {
	case "u":
		if len(value) == 1 && '0' <= value[0] && value[0] < '0'+Urgencies {
			pr.Urgency = value[0] - '0'
		}
	case "i":
		switch string(value) {
		case "", "?1":
			pr.Incremental = true
		case "?0":
			pr.Incremental = false
		}
	}
}

func skipBlank(p []byte, i int) int {
	for i < len(p) && blank(p[i]) {
		i++
	}
	return i
}

func keyByte(c byte) bool {
	return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '_' || c == '-' || c == '.' || c == '*'
}

// itemEnd returns where an item or parameter that begins at i ends.
func itemEnd(p []byte, i int) int {
	for quoted := false; i < len(p); i++ {
		switch c := p[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case !quoted && (c == ',' || c == ';' || blank(c)):
			return i
		}
	}
	return min(i, len(p))
}
