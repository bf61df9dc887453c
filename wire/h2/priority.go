package h2

import "github.com/selvage-edge/selvage/wire/head"

// queue holds the streams that have bytes to send and room in their own
// window, by urgency. The zero value is empty. Guarded by conn.mu.
type queue struct {
	level [head.Urgencies][]*stream
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
	l := append(q.level[st.prio.Urgency], st)
	if !st.prio.Incremental {
		i := len(l) - 1
		for i > 0 && (l[i-1].prio.Incremental || l[i-1].id > st.id) {
			l[i] = l[i-1]
			i--
		}
		l[i] = st
	}
	q.level[st.prio.Urgency] = l
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
	l := q.level[st.prio.Urgency]
	for i := range l {
		if l[i] == st {
			copy(l[i:], l[i+1:])
			l[len(l)-1] = nil
			q.level[st.prio.Urgency] = l[:len(l)-1]
			return
		}
	}
}

// turn lets the others of its urgency go first, after a stream sent something.
func (q *queue) turn(st *stream) {
	l := q.level[st.prio.Urgency]
	if len(l) > 1 && st.prio.Incremental && l[0] == st {
		copy(l, l[1:])
		l[len(l)-1] = st
	}
}

// change moves a stream to another priority.
func (q *queue) change(st *stream, to head.Priority) {
	was := st.queued
	q.remove(st)
	st.prio = to
	if was {
		q.push(st)
	}
}
