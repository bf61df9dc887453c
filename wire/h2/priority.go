package h2

// urgency is how soon an answer is wanted (RFC 9218 §4.1): 0 first, 7 last.
const (
	urgencies      = 8
	defaultUrgency = 3
	maxPriority    = 256 // bytes of a priority field that are looked at
)

// priority is what RFC 9218 says of one answer.
type priority struct {
	urgency     uint8
	incremental bool
}

// parsePriority reads a Priority field value (RFC 9218 §4, a dictionary of RFC
// 9651 §3.2). What is not understood, or out of range, is passed over; a value
// that is no dictionary changes nothing.
func parsePriority(p []byte, into priority) priority {
	if len(p) > maxPriority {
		return into
	}
	found := into
	for i := 0; i < len(p); {
		for i < len(p) && (p[i] == ' ' || p[i] == '\t') {
			i++
		}
		from := i
		for i < len(p) && isKeyByte(p[i]) {
			i++
		}
		key := p[from:i]
		if len(key) == 0 {
			return into
		}
		value := []byte(nil)
		if i < len(p) && p[i] == '=' {
			from = i + 1
			if i = itemEnd(p, from); i == from {
				return into
			}
			value = p[from:i]
		}
		for i < len(p) && p[i] == ';' { // parameters mean nothing here
			i = itemEnd(p, i+1)
		}
		found.member(key, value)
		for i < len(p) && (p[i] == ' ' || p[i] == '\t') {
			i++
		}
		if i == len(p) {
			break
		}
		if p[i] != ',' || i+1 == len(p) {
			return into
		}
		i++
	}
	return found
}

func (pr *priority) member(key, value []byte) {
	switch string(key) {
	case "u":
		if len(value) == 1 && '0' <= value[0] && value[0] < '0'+urgencies {
			pr.urgency = value[0] - '0'
		}
	case "i":
		switch string(value) {
		case "", "?1":
			pr.incremental = true
		case "?0":
			pr.incremental = false
		}
	}
}

func isKeyByte(c byte) bool {
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
		case !quoted && (c == ',' || c == ';' || c == ' ' || c == '\t'):
			return i
		}
	}
	return min(i, len(p))
}

// queue holds the streams that have bytes to send and room in their own
// window, by urgency. The zero value is empty. Guarded by conn.mu.
type queue struct {
	level [urgencies][]*stream
	n     int
}

// push puts a stream in its place: those that are wanted whole by age, before
// those that are useful in parts.
func (q *queue) push(st *stream) {
	if st.queued {
		return
	}
	st.queued = true
	q.n++
	l := append(q.level[st.prio.urgency], st)
	if !st.prio.incremental {
		i := len(l) - 1
		for i > 0 && (l[i-1].prio.incremental || l[i-1].id > st.id) {
			l[i] = l[i-1]
			i--
		}
		l[i] = st
	}
	q.level[st.prio.urgency] = l
}

// next returns the stream whose turn it is, nil when there is none.
func (q *queue) next() *stream {
	if q.n == 0 {
		return nil
	}
	for u := range q.level {
		if l := q.level[u]; len(l) > 0 {
			return l[0]
		}
	}
	return nil
}

// remove takes a stream out, wherever it stands.
func (q *queue) remove(st *stream) {
	if !st.queued {
		return
	}
	st.queued = false
	q.n--
	l := q.level[st.prio.urgency]
	for i := range l {
		if l[i] == st {
			copy(l[i:], l[i+1:])
			l[len(l)-1] = nil
			q.level[st.prio.urgency] = l[:len(l)-1]
			return
		}
	}
}

// turn lets the others of its urgency go first, after a stream sent something.
func (q *queue) turn(st *stream) {
	l := q.level[st.prio.urgency]
	if len(l) > 1 && st.prio.incremental && l[0] == st {
		copy(l, l[1:])
		l[len(l)-1] = st
	}
}

// change moves a stream to another priority.
func (q *queue) change(st *stream, to priority) {
	was := st.queued
	q.remove(st)
	st.prio = to
	if was {
		q.push(st)
	}
}
