// Package onboard puts a site behind the edge by the public API alone: zone,
// how its origin is reached, and the records that visitors ask for. What was
// done when a step fails is part of the error.
package onboard

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/selvage-edge/selvage/client"
	"github.com/selvage-edge/selvage/fault"
	"github.com/selvage-edge/selvage/zone"
)

// Phase is the ruleset that says where requests go.
const Phase = "http_request_origin"

// api is the part of client.Client that onboarding needs.
type api interface {
	CreateZone(ctx context.Context, name, account string) (client.Zone, uint64, error)
	PatchSetting(ctx context.Context, zoneID, name string, value any) (uint64, error)
	PutEntrypoint(ctx context.Context, zoneID, phase string, ruleset any) (uint64, error)
	Batch(ctx context.Context, zoneID string, b client.Batch) (uint64, error)
}

// PartError means that the zone was made but not all that belongs in it.
type PartError struct {
	Zone string
	Done []string // what exists, in order
	Step string   // what failed
	Err  error
}

func (e *PartError) Error() string {
	return fmt.Sprintf("%s of zone %s failed: %s; what exists: %s; run \"selvage zone delete %s\" to take it back, then add it again",
		e.Step, e.Zone, strings.TrimSuffix(e.Err.Error(), "."), strings.Join(e.Done, ", "), e.Zone)
}

func (e *PartError) Unwrap() error { return e.Err }

// Add makes the zone and all that belongs in it; the records come last, so a
// visitor never meets a zone that is set up in part. It returns the newest
// sequence number.
func Add(ctx context.Context, c api, name string, o Origin) (client.Zone, uint64, error) {
	z, seq, err := c.CreateZone(ctx, name, "")
	if err != nil {
		return z, 0, err
	}
	done := []string{"the zone"}
	for _, s := range steps(name, o) {
		n, err := s.run(ctx, c, z.ID)
		if err != nil {
			return z, seq, &PartError{Zone: name, Done: done, Step: s.name, Err: err}
		}
		seq = max(seq, n)
		done = append(done, s.name)
	}
	return z, seq, nil
}

type step struct {
	name string
	run  func(ctx context.Context, c api, zoneID string) (uint64, error)
}

func steps(name string, o Origin) []step {
	all := []step{{"setting ssl", func(ctx context.Context, c api, id string) (uint64, error) {
		return c.PatchSetting(ctx, id, "ssl", o.SSL())
	}}}
	if !o.Standard() {
		all = append(all, step{"the origin rule", func(ctx context.Context, c api, id string) (uint64, error) {
			return c.PutEntrypoint(ctx, id, Phase, Rule(o))
		}})
	}
	return append(all, step{"the records of " + name + " and www." + name, func(ctx context.Context, c api, id string) (uint64, error) {
		return c.Batch(ctx, id, client.Batch{Posts: Records(name, o)})
	}})
}

// Rule is the entrypoint ruleset that sends every request to the origin's host
// and port.
func Rule(o Origin) any {
	type origin struct {
		Host string `json:"host"`
		Port uint16 `json:"port"`
	}
	type parameters struct {
		Origin origin `json:"origin"`
	}
	type rule struct {
		Action      string     `json:"action"`
		Expression  string     `json:"expression"`
		Description string     `json:"description"`
		Parameters  parameters `json:"action_parameters"`
	}
	return struct {
		Rules []rule `json:"rules"`
	}{[]rule{{"route", "true", "the origin of this zone", parameters{origin{o.Host, o.Port}}}}}
}

// Records are the proxied records of the zone's apex and of www.
func Records(name string, o Origin) []client.NewRecord {
	var all []client.NewRecord
	for _, host := range []string{name, "www." + name} {
		all = append(all, client.NewRecord{Name: host, Type: o.RecordType(), Content: o.Host, TTL: 1, Proxied: true})
	}
	return all
}

// ensurer is what Ensure needs beside api.
type ensurer interface {
	api
	FindZone(ctx context.Context, name string) (client.Zone, error)
	Entrypoint(ctx context.Context, zoneID, phase string) (json.RawMessage, error)
	Records(ctx context.Context, zoneID string, f client.RecordFilter) ([]zone.Record, error)
}

// Ensure is Add for a zone that may exist, wholly or in part: it brings the
// origin rule up to date and adds what is missing, and leaves other changes
// that a user made alone.
func Ensure(ctx context.Context, c ensurer, name string, o Origin) (uint64, error) {
	z, err := c.FindZone(ctx, name)
	if isNotFound(err) {
		_, seq, err := Add(ctx, c, name, o)
		return seq, err
	}
	if err != nil {
		return 0, err
	}
	seq, err := ensureRule(ctx, c, z.ID, o)
	if err != nil {
		return 0, err
	}
	have, err := c.Records(ctx, z.ID, client.RecordFilter{})
	if err != nil || len(have) > 0 {
		return seq, err
	}
	// The last start was cut off between the zone and its records.
	for _, s := range steps(name, o) {
		n, err := s.run(ctx, c, z.ID)
		if err != nil {
			return 0, &PartError{Zone: name, Done: []string{"the zone"}, Step: s.name, Err: err}
		}
		seq = max(seq, n)
	}
	return seq, nil
}

func ensureRule(ctx context.Context, c ensurer, zoneID string, o Origin) (uint64, error) {
	text, err := c.Entrypoint(ctx, zoneID, Phase)
	if err != nil && !isNotFound(err) {
		return 0, err
	}
	var have struct {
		Rules []struct {
			Parameters struct {
				Origin struct {
					Host string `json:"host"`
					Port uint16 `json:"port"`
				} `json:"origin"`
			} `json:"action_parameters"`
		} `json:"rules"`
	}
	if err == nil {
		if err := json.Unmarshal(text, &have); err != nil {
			return 0, errors.Join(errors.New("origin rule of the zone cannot be read"), err)
		}
		for _, r := range have.Rules {
			if r.Parameters.Origin.Host == o.Host && r.Parameters.Origin.Port == o.Port {
				return 0, nil
			}
		}
	}
	return c.PutEntrypoint(ctx, zoneID, Phase, Rule(o))
}

func isNotFound(err error) bool { return fault.Is(err, fault.NotFound) }
