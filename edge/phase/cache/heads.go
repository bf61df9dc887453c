package cache

import (
	"time"
	"unsafe"

	"github.com/selvage-edge/selvage/wire/msg"
)

// form names one way to show an object's head: bit 0 says that it is for a
// 304, then comes what browsers are told, then the body's content coding. Form 0
// is the head as the origin sent it.
type form = uint32

const formNotModified form = 1

// What browsers are told, from bit 1 of a form; its seconds from bit 6 on.
const (
	tellOrigin form = iota << 1
	tellLeast
	tellSeconds
	tellNoCache
	tellNoStore
	tellBypass

	formTells   = 7 << 1
	formCoding  = 4 // the coding's two bits begin here
	formCodings = 3 << formCoding
	formSeconds = 6
)

// form is how a head is shown under t.
func (t browserTTL) form() form {
	switch seconds := func(d time.Duration) form { return form(min(d/time.Second, 1<<26-1)) << formSeconds }; {
	case t.mode == ttlOverride && t.override < 0:
		return tellNoStore
	case t.mode == ttlOverride && t.override < time.Second:
		return tellNoCache
	case t.mode == ttlOverride:
		return tellSeconds | seconds(t.override)
	case t.mode == ttlBypass:
		return tellBypass
	case t.least > 0:
		return tellLeast | seconds(t.least)
	}
	return tellOrigin
}

// show makes the object's head that of an answer.
func (o *object) show(out *msg.Response, as form) {
	out.Room = msg.Prepared{H1: o.lines(as), Keeper: o, Form: as}
	out.Prepared = &out.Room
}

// lines are the field lines of a form, made anew when it is asked for the first
// time.
func (o *object) lines(as form) []byte {
	if as == 0 {
		return o.head()
	}
	if b := o.Block(as, msg.HTTP11); b != nil {
		return b
	}
	if o.Block(as, asStored) != nil {
		return o.head()
	}
	if as&formNotModified != 0 {
		whole := &msg.Prepared{H1: o.lines(as &^ formNotModified)}
		return o.Keep(as, msg.HTTP11, prepare(whole.Fields(), o.leftOut304))
	}
	if as&formCodings != 0 {
		return o.Keep(as, msg.HTTP11, o.codedLines(as))
	}
	if lines := o.told(as); lines != nil {
		return o.Keep(as, msg.HTTP11, lines)
	}
	o.Keep(as, asStored, nil)
	return o.head()
}

// derived is a block of bytes made of the head, for one form and protocol. It
// lies in the slab, its bytes right behind it, and lives as long as its object.
type derived struct {
	next  *derived
	form  form
	proto msg.Proto
	size  uint32
}

// asStored stands for a protocol where a form is the head as it is.
const asStored msg.Proto = 0

const (
	derivedSize = int(unsafe.Sizeof(derived{}))
	maxDerived  = 12 // of one object; more are made for each answer anew
)

func (d *derived) bytes() []byte { return d.block()[derivedSize:] }

func (d *derived) block() []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(d)), derivedSize+int(d.size))
}

// Block implements msg.Keeper.
func (o *object) Block(as form, p msg.Proto) []byte {
	for d := o.derived.Load(); d != nil; d = d.next {
		if d.form == as && d.proto == p {
			return d.bytes()
		}
	}
	return nil
}

// Keep implements msg.Keeper. The caller holds a reference, as everybody does who
// shows the object. Nothing is evicted for it: without memory the block serves
// this answer alone.
func (o *object) Keep(as form, p msg.Proto, block []byte) []byte {
	held := 0
	for d := o.derived.Load(); d != nil; d = d.next {
		held++
	}
	if held >= maxDerived {
		return block
	}
	if d := o.derive(o.engine().slab.Alloc(derivedSize+len(block)), as, p, block); d != nil {
		return d.bytes()
	}
	return block
}

// keepRoom is Keep for a block that others give way to; false when there is no
// room all the same.
func (o *object) keepRoom(as form, p msg.Proto, block []byte) bool {
	return o.derive(o.engine().roomFor(derivedSize+len(block), false), as, p, block) != nil
}

// derive puts a block into room and into the object's list; nil without room.
func (o *object) derive(room []byte, as form, p msg.Proto, block []byte) *derived {
	if room == nil {
		return nil
	}
	clear(room[:derivedSize])
	d := (*derived)(unsafe.Pointer(unsafe.SliceData(room)))
	d.form, d.proto, d.size = as, p, uint32(len(block))
	copy(d.bytes(), block)
	for {
		d.next = o.derived.Load()
		if o.derived.CompareAndSwap(d.next, d) {
			return d
		}
	}
}

// leftOut304 names the fields that a 304 does without (RFC 9110 §15.4.5).
func (o *object) leftOut304(l *msg.Field) bool {
	switch l.ID {
	case msg.CacheControl, msg.ContentLocation, msg.ETag, msg.Expires, msg.Vary, msg.CDNCacheControl:
		return false
	case msg.LastModified:
		return o.etag() != nil
	}
	return true
}

// prepare serialises fields, without those that drop names.
func prepare(f *msg.Fields, drop func(*msg.Field) bool) []byte {
	n := 0
	for i := range f.Len() {
		n += len(f.At(i).Name) + len(": \r\n") + len(f.At(i).Value)
	}
	lines := make([]byte, 0, n)
	for i := range f.Len() {
		if l := f.At(i); !drop(l) {
			lines = append(append(append(append(lines, l.Name...), ": "...), l.Value...), "\r\n"...)
		}
	}
	return lines
}

// notStored names the fields that do not belong to the object: those of the
// connection, of framing and of proxies (RFC 9111 §3.1), and those that are
// made anew at each answer.
func notStored(f *msg.Fields) func(*msg.Field) bool {
	return func(l *msg.Field) bool {
		switch l.ID {
		case msg.Connection, msg.KeepAlive, msg.ProxyConnection, msg.TE, msg.Trailer, msg.TransferEncoding,
			msg.Upgrade, msg.ProxyAuthenticate, msg.ProxyAuthorization, msg.ContentLength,
			msg.Date, msg.Age, msg.CacheTag, msg.CFCacheStatus, msg.CFRay, msg.Server, msg.SetCookie, msg.Warning:
			return true
		}
		if !f.Has(msg.Connection) {
			return msg.EqualFold(l.Name, "proxy-authentication-info")
		}
		for i := range f.Len() {
			c := f.At(i)
			if c.ID != msg.Connection {
				continue
			}
			for t, rest := msg.NextToken(c.Value); t != nil; t, rest = msg.NextToken(rest) {
				if msg.EqualFold(l.Name, t) {
					return true
				}
			}
		}
		return false
	}
}
