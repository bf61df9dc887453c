package client

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/selvage-edge/selvage/zone"
)

// Part is what a change did to one row of a zone; "null" stands for no row.
type Part struct {
	Part   string          `json:"part"`
	Before json.RawMessage `json:"before"`
	After  json.RawMessage `json:"after"`
}

// Past is one change of a zone's history.
type Past struct {
	Seq     uint64    `json:"seq"`
	Time    time.Time `json:"time"`
	Actor   string    `json:"actor"`
	Action  string    `json:"action"`
	Object  string    `json:"object"`
	Changes []Part    `json:"changes"`
	More    int       `json:"more,omitempty"` // parts that are not shown
}

// History is a zone's changes, newest first; Floor is the oldest number whose
// state is kept, where older ones are not.
type History struct {
	Zone    string `json:"zone_id"`
	Floor   uint64 `json:"floor"`
	Changes []Past `json:"changes"`
}

// History returns up to limit changes of a zone, which may be gone.
func (c *Client) History(ctx context.Context, zoneID string, limit int) (History, error) {
	var h History
	_, _, err := c.result(ctx, call{method: http.MethodGet, path: oursPath(zoneID, "/history"), query: url.Values{"limit": {fmt.Sprint(limit)}}}, &h)
	return h, err
}

// Rollback asks for a zone's state as of a change.
type Rollback struct {
	To           uint64 `json:"to"`
	From         uint64 `json:"from,omitempty"`
	Certificates string `json:"certificates,omitempty"` // keep
	Dry          bool   `json:"dry_run,omitempty"`
}

// RolledBack is what a rollback did, or would do.
type RolledBack struct {
	From    uint64 `json:"from"`
	Seq     uint64 `json:"seq"`
	Changes []Part `json:"changes"`
	More    int    `json:"more"`
}

// Rollback gives a zone an earlier state back.
func (c *Client) Rollback(ctx context.Context, zoneID string, r Rollback) (RolledBack, error) {
	var done RolledBack
	_, err := c.json(ctx, http.MethodPost, oursPath(zoneID, "/rollback"), r, &done)
	return done, err
}

func oursPath(zoneID, rest string) string { return "/selvage/v1" + zonePath(zoneID, rest) }

// Kill is a kill switch that is set.
type Kill struct {
	Name string `json:"name"`
	zone.Killed
}

// Kills returns the switches that are set.
func (c *Client) Kills(ctx context.Context) ([]Kill, error) {
	var all []Kill
	_, err := c.json(ctx, http.MethodGet, "/selvage/v1/kill", nil, &all)
	return all, err
}

// SetKill sets a switch; ttl is after how long it clears itself, 0 = never.
func (c *Client) SetKill(ctx context.Context, name, reason string, ttl time.Duration) (uint64, error) {
	in := struct {
		Reason string `json:"reason"`
		TTL    int64  `json:"ttl,omitempty"` // seconds
	}{reason, int64(ttl / time.Second)}
	return c.json(ctx, http.MethodPut, "/selvage/v1/kill/"+name, in, nil)
}

// ClearKill clears a switch.
func (c *Client) ClearKill(ctx context.Context, name string) (uint64, error) {
	return c.json(ctx, http.MethodDelete, "/selvage/v1/kill/"+name, nil, nil)
}
