package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// AuditEvent is something that was changed, or that an edge did or befell it.
type AuditEvent struct {
	At     time.Time `json:"at"`    // by the clock of where it was
	Heard  time.Time `json:"heard"` // by the control plane's
	Node   string    `json:"node,omitempty"`
	Colo   string    `json:"colo,omitempty"`
	Actor  string    `json:"actor"`
	Action string    `json:"action"`
	Object string    `json:"object,omitempty"`
	Seq    uint64    `json:"seq,omitempty"` // of the change that it is about; 0 for none
	Detail string    `json:"detail,omitempty"`
}

// AuditQuery says what is asked of the audit trail. The zero value asks for the
// newest.
type AuditQuery struct {
	Node   string    // of this edge, or about it
	Since  time.Time // and later
	Limit  int       // 1 to 1000; 0 for the default
	Before string    // what an earlier answer gave as next
}

// Audit returns events, newest first, and what to give as Before for those that
// come before them; "" when there are none.
func (c *Client) Audit(ctx context.Context, q AuditQuery) (events []AuditEvent, next string, err error) {
	ask := url.Values{}
	add := func(name, value string) {
		if value != "" {
			ask.Set(name, value)
		}
	}
	add("node", q.Node)
	add("before", q.Before)
	if !q.Since.IsZero() {
		ask.Set("since", q.Since.UTC().Format(time.RFC3339Nano))
	}
	if q.Limit > 0 {
		ask.Set("limit", strconv.Itoa(q.Limit))
	}
	var out struct {
		Events []AuditEvent `json:"events"`
		Next   string       `json:"next"`
	}
	_, _, err = c.result(ctx, call{method: http.MethodGet, path: "/selvage/v1/audit", query: ask}, &out)
	return out.Events, out.Next, err
}
