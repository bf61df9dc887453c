package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/selvage-edge/selvage/fault"
	"github.com/selvage-edge/selvage/zone"
)

// Zone is a zone as the API shows it.
type Zone struct {
	ID          string    `json:"id"`
	Name        string    `json:"name"`
	Status      string    `json:"status"` // active | pending
	Paused      bool      `json:"paused"`
	NameServers []string  `json:"name_servers"`
	Account     Account   `json:"account"`
	Created     time.Time `json:"created_on"`
	Changed     time.Time `json:"modified_on"`
}

// Account owns zones.
type Account struct {
	ID   string `json:"id"`
	Name string `json:"name,omitempty"`
}

// TokenStatus is what the API says about the token that asked.
type TokenStatus struct {
	ID     string `json:"id"`
	Status string `json:"status"` // active | disabled | expired
}

// Verify asks whether the token is good.
func (c *Client) Verify(ctx context.Context) (TokenStatus, error) {
	var t TokenStatus
	_, err := c.json(ctx, http.MethodGet, "/user/tokens/verify", nil, &t)
	return t, err
}

// Accounts lists the accounts that the token may act for.
func (c *Client) Accounts(ctx context.Context) ([]Account, error) {
	return pages[Account](ctx, c, "/accounts", nil)
}

// Zones lists all zones.
func (c *Client) Zones(ctx context.Context) ([]Zone, error) {
	return pages[Zone](ctx, c, "/zones", nil)
}

// FindZone returns the zone of this name; a *fault.Error of kind NotFound when
// there is none.
func (c *Client) FindZone(ctx context.Context, name string) (Zone, error) {
	zones, err := pages[Zone](ctx, c, "/zones", url.Values{"name": {name}})
	if err != nil {
		return Zone{}, err
	}
	for _, z := range zones {
		if z.Name == name {
			return z, nil
		}
	}
	return Zone{}, &fault.Error{Op: "client.zone", Side: fault.Visitor, Kind: fault.NotFound,
		Err: fmt.Errorf("there is no zone %s", name)}
}

// CreateZone makes a zone; account "" lets the API choose the token's own.
func (c *Client) CreateZone(ctx context.Context, name, account string) (Zone, uint64, error) {
	body := struct {
		Name    string   `json:"name"`
		Account *Account `json:"account,omitempty"`
	}{Name: name}
	if account != "" {
		body.Account = &Account{ID: account}
	}
	var z Zone
	seq, err := c.json(ctx, http.MethodPost, "/zones", body, &z)
	return z, seq, err
}

// DeleteZone removes a zone and everything in it.
func (c *Client) DeleteZone(ctx context.Context, zoneID string) (uint64, error) {
	return c.json(ctx, http.MethodDelete, zonePath(zoneID, ""), nil, nil)
}

// PatchSetting sets one of zone.SettingTable's settings, wherever the v4 API
// has it.
func (c *Client) PatchSetting(ctx context.Context, zoneID, name string, value any) (uint64, error) {
	body := struct {
		Value any `json:"value"`
	}{value}
	path := zonePath(zoneID, "/settings/"+url.PathEscape(name))
	if d := zone.FindSetting(name); d != nil && d.Path != "" {
		path = ours + path
	}
	return c.json(ctx, http.MethodPatch, path, body, nil)
}

// Setting is one zone setting and its value as JSON.
type Setting struct {
	ID       string          `json:"id"`
	Value    json.RawMessage `json:"value"`
	Editable bool            `json:"editable"`
}

// ours begins the paths that Cloudflare's API does not have.
const ours = "/selvage/v1"

// Settings lists all of a zone's settings, defaults included.
func (c *Client) Settings(ctx context.Context, zoneID string) ([]Setting, error) {
	var all []Setting
	_, err := c.json(ctx, http.MethodGet, ours+zonePath(zoneID, "/settings"), nil, &all)
	return all, err
}

// Topology says which data centers stand before a zone's origin.
func (c *Client) Topology(ctx context.Context, zoneID string) (zone.Topology, error) {
	var t zone.Topology
	_, err := c.json(ctx, http.MethodGet, ours+zonePath(zoneID, "/topology"), nil, &t)
	return t, err
}

// PutTopology replaces a zone's topology.
func (c *Client) PutTopology(ctx context.Context, zoneID string, t zone.Topology) (uint64, error) {
	return c.json(ctx, http.MethodPut, ours+zonePath(zoneID, "/topology"), t, nil)
}

// Purge drops cached objects of a zone on every edge, or with p.Soft makes them
// stale, or with p.Reserve clears the cache reserve.
func (c *Client) Purge(ctx context.Context, zoneID string, p zone.Purge) (uint64, error) {
	if p.Soft || p.Reserve {
		return c.json(ctx, http.MethodPost, ours+zonePath(zoneID, "/purge"), p, nil)
	}
	return c.json(ctx, http.MethodPost, zonePath(zoneID, "/purge_cache"), p, nil)
}

// Entrypoint returns the ruleset of a phase as it was sent; a *fault.Error of
// kind NotFound when the phase has none.
func (c *Client) Entrypoint(ctx context.Context, zoneID, phase string) (json.RawMessage, error) {
	var body json.RawMessage
	_, err := c.json(ctx, http.MethodGet, entrypointPath(zoneID, phase), nil, &body)
	return body, notFound(err, "phase "+phase+" has no ruleset")
}

// PutEntrypoint replaces the ruleset of a phase.
func (c *Client) PutEntrypoint(ctx context.Context, zoneID, phase string, ruleset any) (uint64, error) {
	return c.json(ctx, http.MethodPut, entrypointPath(zoneID, phase), ruleset, nil)
}

func entrypointPath(zoneID, phase string) string {
	return zonePath(zoneID, "/rulesets/phases/"+url.PathEscape(phase)+"/entrypoint")
}

func zonePath(zoneID, rest string) string { return "/zones/" + url.PathEscape(zoneID) + rest }

// notFound gives a 404 the kind that callers test for; other errors pass.
func notFound(err error, what string) error {
	e, ok := errors.AsType[*Error](err)
	if !ok || e.Status != http.StatusNotFound {
		return err
	}
	return &fault.Error{Op: "client.get", Side: fault.Visitor, Kind: fault.NotFound, Err: fmt.Errorf("%s: %w", what, err)}
}
