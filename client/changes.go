package client

import (
	"context"
	"net/http"
	"strconv"
	"time"
)

// WaitLimit is how long Wait waits for edges.
const WaitLimit = 5 * time.Second

const (
	firstPoll = 5 * time.Millisecond
	lastPoll  = 200 * time.Millisecond
)

// Change says how far one sequence number has come.
type Change struct {
	Seq   uint64       `json:"seq"`
	Edges []ChangeEdge `json:"edges"`
}

// ChangeEdge is one edge's part in a Change.
type ChangeEdge struct {
	Node         string `json:"node"`
	Colo         string `json:"colo"`
	Connected    bool   `json:"connected"`
	Seq          uint64 `json:"seq"` // newest number it acknowledged
	Acknowledged bool   `json:"acknowledged"`
	Rejected     string `json:"rejected,omitempty"` // why it kept its old state
}

// Name is how people know the edge.
func (e ChangeEdge) Name() string {
	switch {
	case e.Colo == "":
		return e.Node
	case e.Node == "":
		return e.Colo
	}
	return e.Colo + " (" + e.Node + ")"
}

// Change asks which edges have sequence number seq.
func (c *Client) Change(ctx context.Context, seq uint64) (Change, error) {
	var ch Change
	_, err := c.json(ctx, http.MethodGet, "/selvage/v1/changes/"+strconv.FormatUint(seq, 10), nil, &ch)
	return ch, err
}

// Wait returns when every connected edge has acknowledged seq, or after
// WaitLimit with the names of those that have not. A seq of 0 stands for a call
// that changed nothing and returns at once.
func (c *Client) Wait(ctx context.Context, seq uint64) (missing []string, err error) {
	if seq == 0 {
		return nil, nil
	}
	limit := time.NewTimer(WaitLimit)
	defer limit.Stop()
	for pause := firstPoll; ; pause = min(pause*2, lastPoll) {
		ch, err := c.Change(ctx, seq)
		if err != nil {
			return nil, err
		}
		missing = missing[:0]
		for _, e := range ch.Edges {
			if e.Connected && !e.Acknowledged {
				missing = append(missing, e.Name())
			}
		}
		if len(missing) == 0 {
			return nil, nil
		}
		next := time.NewTimer(pause)
		select {
		case <-next.C:
		case <-limit.C:
			next.Stop()
			return missing, nil
		case <-ctx.Done():
			next.Stop()
			return missing, ctx.Err()
		}
	}
}
