package h2

import (
	"errors"

	"github.com/selvage-edge/selvage/wire/h2/hpack"
	"github.com/selvage-edge/selvage/wire/head"
	"github.com/selvage-edge/selvage/wire/msg"
)

// The refusals are values so that refusing allocates nothing.
var (
	errHeadLarge    = &head.Refusal{Status: 431, Reason: "field section too large"}
	errFieldCount   = &head.Refusal{Status: 431, Reason: "too many field lines"}
	errPseudo       = &head.Refusal{Status: 400, Reason: "pseudo-header of an answer"}
	errSettingsLine = &head.Refusal{Status: 400, Reason: "field that belongs to an HTTP/1.1 connection"}
)

var pseudos = [...]struct {
	from hpack.Pseudo
	to   head.Pseudo
}{
	{hpack.Method, head.PseudoMethod}, {hpack.Scheme, head.PseudoScheme}, {hpack.Authority, head.PseudoAuthority},
	{hpack.Path, head.PseudoPath}, {hpack.Protocol, head.PseudoProtocol},
}

// readHead completes st.req from the section that was decoded into it. ended
// says that no body follows. A refusal of status 400 is a malformed request.
func (st *stream) readHead(l *Limits, overTLS, ended bool) *head.Refusal {
	s, req := &st.sec, &st.req
	switch {
	case errors.Is(s.Err, hpack.ErrTooLarge):
		return errHeadLarge
	case s.Err != nil:
		return &head.Refusal{Status: 400, Reason: s.Err.Error()}
	case s.Has(hpack.Status):
		return errPseudo
	case req.Fields.Has(msg.HTTP2Settings):
		return errSettingsLine
	case req.Fields.Len() > l.Fields:
		return errFieldCount
	}
	req.Proto = msg.HTTP2
	if overTLS {
		req.Scheme = msg.HTTPS
	}
	b := &st.builder
	b.Start(req)
	for i := range pseudos {
		if p := &pseudos[i]; s.Has(p.from) {
			b.Set(p.to, s.Get(p.from))
		}
	}
	if bad := refusalOf(b.End(ended, l.Body, nil)); bad != nil {
		return bad
	}
	st.prio = priorityOf(&req.Fields, st.prio)
	return nil
}

// refusalOf: a Builder's errors are refusals.
func refusalOf(err error) *head.Refusal {
	if err == nil {
		return nil
	}
	if bad, ok := errors.AsType[*head.Refusal](err); ok {
		return bad
	}
	return &head.Refusal{Status: 400, Reason: err.Error()}
}

// priorityOf reads the priority field (RFC 9218 §5); several lines are one list.
func priorityOf(f *msg.Fields, into head.Priority) head.Priority {
	for _, l := range f.All() {
		if l.ID == msg.Unknown && len(l.Name) == len("priority") && string(l.Name) == "priority" {
			into = head.ParsePriority(l.Value, into)
		}
	}
	return into
}
