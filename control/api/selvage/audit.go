package selvage

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/selvage-edge/selvage/control/api"
	"github.com/selvage-edge/selvage/control/store"
	"github.com/selvage-edge/selvage/feed"
)

const (
	auditPage    = 100
	maxAuditPage = 1000
)

type auditEvent struct {
	At     time.Time `json:"at"`
	Heard  time.Time `json:"heard"`
	Node   string    `json:"node,omitempty"`
	Colo   string    `json:"colo,omitempty"`
	Actor  string    `json:"actor"`
	Action string    `json:"action"`
	Object string    `json:"object,omitempty"`
	Seq    uint64    `json:"seq,omitempty"`
	Detail string    `json:"detail,omitempty"`
}

type auditResult struct {
	Events []auditEvent `json:"events"`
	Next   string       `json:"next,omitempty"` // what to give as before for those before them
}

// audit lists what was changed here and what nodes tell of themselves, newest
// first.
func (s *Server) audit(ctx context.Context, c *api.Call) (api.Answer, error) {
	q, err := auditQuery(c)
	if err != nil {
		return api.Answer{}, err
	}
	events, more, err := s.Audit(ctx, q)
	if err != nil {
		return api.Answer{}, err
	}
	out := auditResult{Events: make([]auditEvent, len(events))}
	for i, e := range events {
		out.Events[i] = auditEvent{
			At: e.At, Heard: e.Heard, Node: e.Node, Colo: e.Colo, Actor: cmp.Or(e.Actor, "node "+e.Node),
			Action: e.Action, Object: e.Object, Seq: e.Seq, Detail: e.Detail,
		}
	}
	if more {
		last := events[len(events)-1]
		out.Next = fmt.Sprintf("%d.%d.%d.%s", last.At.UnixMicro(), last.Run, last.ID, last.Node)
	}
	return api.Answer{Result: out}, nil
}

func auditQuery(c *api.Call) (q store.AuditQuery, err error) {
	given := c.URL.Query()
	q = store.AuditQuery{Node: given.Get("node"), Limit: auditPage}
	if q.Node != "" && !feed.ValidNodeID(q.Node) {
		return q, api.Invalid(api.CodeIdentifier, "node", "must be an identifier of 32 lower-case hex digits, got %.64q", q.Node)
	}
	if text := given.Get("since"); text != "" {
		if q.Since, err = time.Parse(time.RFC3339Nano, text); err != nil {
			return q, api.Invalid(api.CodeIdentifier, "since", "must be a time as 2026-01-02T15:04:05Z, got %.64q", text)
		}
	}
	if text := given.Get("limit"); text != "" {
		if q.Limit, err = strconv.Atoi(text); err != nil || q.Limit < 1 || q.Limit > maxAuditPage {
			return q, api.Invalid(api.CodeIdentifier, "limit", "must be a number from 1 to %d, got %.64q", maxAuditPage, text)
		}
	}
	if text := given.Get("before"); text != "" {
		if q.Before, err = auditBefore(text); err != nil {
			return q, api.Invalid(api.CodeIdentifier, "before", "must be what an earlier answer gave as next, got %.64q", text)
		}
	}
	return q, nil
}

func auditBefore(text string) (*store.Audit, error) {
	parts := strings.Split(text, ".")
	if len(parts) != 4 || parts[3] != "" && !feed.ValidNodeID(parts[3]) {
		return nil, strconv.ErrSyntax
	}
	at, err := strconv.ParseInt(parts[0], 10, 64)
	if err != nil {
		return nil, err
	}
	run, err := strconv.ParseUint(parts[1], 10, 64)
	if err != nil {
		return nil, err
	}
	id, err := strconv.ParseUint(parts[2], 10, 64)
	return &store.Audit{At: time.UnixMicro(at).UTC(), Run: run, ID: id, Node: parts[3]}, err
}
