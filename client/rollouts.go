package client

import (
	"context"
	"net/http"
	"strconv"
	"time"
)

// RolloutRings sends changes by rings, RolloutAll everywhere at once, in
// Config.Rollout.
const (
	RolloutRings = "rings"
	RolloutAll   = "all"
)

// Rings says who gets changes first that go by rings.
type Rings struct {
	Canaries   []string `json:"canaries"` // data centers; none: one is chosen
	Share      int      `json:"share_percent"`
	CanaryHold int      `json:"canary_hold_seconds"`
	ShareHold  int      `json:"share_hold_seconds"`
	// Colos are the data centers that there are, by their ring: canary, share, all.
	Colos map[string][]string `json:"colos,omitempty"`
}

// Rollout is a change that goes by rings, or went.
type Rollout struct {
	Stage    uint64     `json:"stage"`
	Text     string     `json:"text"`  // how it stands, in a sentence
	State    string     `json:"state"` // pending, released, halted or dropped
	Ring     string     `json:"ring"`  // released to: canary, share or all
	Has      []string   `json:"has"`   // data centers that serve it
	Of       int        `json:"of"`    // how many there are
	ZoneID   string     `json:"zone_id,omitempty"`
	ZoneName string     `json:"zone_name,omitempty"` // "" for one of the operator's
	Action   string     `json:"action"`
	Actor    string     `json:"actor"`
	Keys     []string   `json:"keys"`
	Rings    Rings      `json:"rings"`          // as of its beginning
	Live     *time.Time `json:"live,omitempty"` // since when the nodes of the ring have it
	Next     *time.Time `json:"next,omitempty"` // when the next ring gets it
	Steps    []struct {
		At   time.Time `json:"at"`
		What string    `json:"what"` // staged, released, halted or dropped
		Ring string    `json:"ring"` // after it
		By   string    `json:"by"`
		Why  string    `json:"why"`
	} `json:"steps"`
}

// Stage is the number of the stage that the last change became; 0: it did not go
// by rings.
func (c *Client) Stage() uint64 { return c.stage.Load() }

// Rings returns who gets changes first.
func (c *Client) Rings(ctx context.Context) (Rings, error) {
	var r Rings
	_, err := c.json(ctx, http.MethodGet, "/selvage/v1/rings", nil, &r)
	return r, err
}

// PutRings says who gets changes first, of those that begin from now on.
func (c *Client) PutRings(ctx context.Context, r Rings) (Rings, uint64, error) {
	r.Colos = nil
	seq, err := c.json(ctx, http.MethodPut, "/selvage/v1/rings", r, &r)
	return r, seq, err
}

// Rollouts lists the changes that go by rings, or went, newest first.
func (c *Client) Rollouts(ctx context.Context) ([]Rollout, error) {
	var all []Rollout
	_, err := c.json(ctx, http.MethodGet, "/selvage/v1/rollouts", nil, &all)
	return all, err
}

// Rollout returns one of them.
func (c *Client) Rollout(ctx context.Context, stage uint64) (Rollout, error) {
	var r Rollout
	_, err := c.json(ctx, http.MethodGet, rolloutPath(stage), nil, &r)
	return r, err
}

// Release lets a ring have it, the next one where none is named.
func (c *Client) Release(ctx context.Context, stage uint64, ring, reason string) (r Rollout, seq uint64, err error) {
	in := map[string]string{"reason": reason}
	if ring != "" {
		in["ring"] = ring
	}
	seq, err = c.json(ctx, http.MethodPost, rolloutPath(stage)+"/release", in, &r)
	return r, seq, err
}

// Halt takes it back.
func (c *Client) Halt(ctx context.Context, stage uint64, reason string) (r Rollout, seq uint64, err error) {
	seq, err = c.json(ctx, http.MethodPost, rolloutPath(stage)+"/halt", map[string]string{"reason": reason}, &r)
	return r, seq, err
}

func rolloutPath(stage uint64) string {
	return "/selvage/v1/rollouts/" + strconv.FormatUint(stage, 10)
}
