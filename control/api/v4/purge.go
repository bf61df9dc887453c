package v4

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/selvage-edge/selvage/control/api"
	"github.com/selvage-edge/selvage/control/publish"
	"github.com/selvage-edge/selvage/control/store"
	"github.com/selvage-edge/selvage/zone"
)

func (s *Server) purge(ctx context.Context, c *api.Call) (api.Answer, error) {
	return s.purgeWith(ctx, c, false)
}

// purgeWith reads a purge and publishes it. Only our own call can be soft, or clear the reserve.
func (s *Server) purgeWith(ctx context.Context, c *api.Call, ours bool) (api.Answer, error) {
	id, err := pathID(c, "zone")
	if err != nil {
		return api.Answer{}, err
	}
	var in struct {
		Everything bool              `json:"purge_everything"`
		Files      []json.RawMessage `json:"files"`
		Tags       []string          `json:"tags"`
		Prefixes   []string          `json:"prefixes"`
		Hosts      []string          `json:"hosts"`
		Soft       bool              `json:"soft"`
		Reserve    bool              `json:"reserve"`
	}
	if err := api.Decode(c, &in); err != nil {
		return api.Answer{}, err
	}
	if len(in.Files) > zone.MaxPurgeFiles {
		return api.Answer{}, api.Invalid(api.CodePurge, "files", "at most %d in one purge, got %d", zone.MaxPurgeFiles, len(in.Files))
	}
	what := zone.Purge{Everything: in.Everything, Tags: in.Tags, Prefixes: in.Prefixes, Hosts: in.Hosts, Soft: in.Soft && ours, Reserve: in.Reserve && ours}
	for i, raw := range in.Files {
		u, err := purgeURL(raw)
		if err != nil {
			return api.Answer{}, api.Invalid(api.CodePurge, fmt.Sprintf("files[%d]", i), "%s", err)
		}
		what.Files = append(what.Files, u)
	}
	for _, word := range [...]struct {
		name string
		said bool
	}{{"soft", in.Soft}, {"reserve", in.Reserve}} {
		if word.said && !ours {
			return api.Answer{}, api.Invalid(api.CodePurge, word.name, "is a word of /selvage/v1/zones/{zone}/purge")
		}
	}
	var m zone.Meta
	if err := s.Store.Read(ctx, func(tx *store.Tx) (err error) {
		if m, err = tx.ZoneMeta(ctx, id); err == nil {
			err = owned(c, m.Account)
		}
		return err
	}); err != nil {
		return api.Answer{}, err
	}
	if err := what.Check(m.Name); err != nil {
		return api.Answer{}, &api.Problem{Status: 400, Code: api.CodePurge, Message: err.Error()}
	}
	seq, err := s.Publish.Purge(ctx, id, publish.Action{Actor: c.Token.ID, Name: "cache.purge", Object: id}, what)
	return api.Answer{Result: reference{ID: id}, Seq: seq}, err
}

// purgeURL reads one item of files: a URL, or an object with one. Headers that
// would choose among variants are passed over: all variants of a URL go.
func purgeURL(raw json.RawMessage) (string, error) {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return text, nil
	}
	var item struct {
		URL     *string           `json:"url"`
		Headers map[string]string `json:"headers"`
	}
	if json.Unmarshal(raw, &item) != nil || item.URL == nil {
		return "", fmt.Errorf("must be a URL or an object with a url and headers")
	}
	return *item.URL, nil
}
