package client

import (
	"context"
	"net/http"

	"github.com/selvage-edge/selvage/zone"
)

// Defaults are the operator's for settings that zones have not set.
type Defaults struct {
	Seq      uint64        `json:"seq"` // of the entry that said so; 0: nothing is said
	Settings zone.Settings `json:"settings"`
	// Staged is what is on its way through the rings.
	Staged *struct {
		Stage    uint64        `json:"stage"`
		Settings zone.Settings `json:"settings"`
	} `json:"staged,omitempty"`
}

const defaultsPath = "/selvage/v1/defaults"

// Defaults returns them as all data centers have them.
func (c *Client) Defaults(ctx context.Context) (d Defaults, err error) {
	_, err = c.json(ctx, http.MethodGet, defaultsPath, nil, &d)
	return d, err
}

// PutDefaults replaces those of d.Seq by d.Settings, by rings unless Config.Rollout
// says otherwise. It is refused when they have changed since they were read.
func (c *Client) PutDefaults(ctx context.Context, d Defaults) (Defaults, uint64, error) {
	d.Staged = nil
	var now Defaults
	seq, err := c.json(ctx, http.MethodPut, defaultsPath, d, &now)
	return now, seq, err
}
