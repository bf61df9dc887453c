package v4

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"

	"github.com/selvage-edge/selvage/control/api"
	"github.com/selvage-edge/selvage/control/publish"
	"github.com/selvage-edge/selvage/control/store"
	"github.com/selvage-edge/selvage/zone"
)

// maxPurgeURL is the longest URL that a purge may name, in bytes.
const maxPurgeURL = 8192

func (s *Server) purge(ctx context.Context, c *api.Call) (api.Answer, error) {
	id, err := pathID(c, "zone")
	if err != nil {
		return api.Answer{}, err
	}
	var in struct {
		Everything bool              `json:"purge_everything"`
		Files      []json.RawMessage `json:"files"`
		Tags       json.RawMessage   `json:"tags"`
		Prefixes   json.RawMessage   `json:"prefixes"`
		Hosts      json.RawMessage   `json:"hosts"`
	}
	if err := api.Decode(c, &in); err != nil {
		return api.Answer{}, err
	}
	for name, sent := range map[string]json.RawMessage{"tags": in.Tags, "prefixes": in.Prefixes, "hosts": in.Hosts} {
		if sent != nil && string(sent) != "null" {
			return api.Answer{}, api.Invalid(api.CodePurge, name, "purging by %s is not supported; use files or purge_everything", name)
		}
	}
	if in.Everything == (len(in.Files) > 0) {
		return api.Answer{}, api.Invalid(api.CodePurge, "files", "send either a list of URLs as files or purge_everything: true")
	}
	if len(in.Files) > zone.MaxPurgeFiles {
		return api.Answer{}, api.Invalid(api.CodePurge, "files", "at most %d URLs in one call, got %d", zone.MaxPurgeFiles, len(in.Files))
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
	what := zone.Purge{Everything: in.Everything}
	for i, raw := range in.Files {
		u, err := purgeURL(m.Name, raw)
		if err != nil {
			return api.Answer{}, api.Invalid(api.CodePurge, fmt.Sprintf("files[%d]", i), "%s", err)
		}
		what.Files = append(what.Files, u)
	}
	seq, err := s.Publish.Purge(ctx, id, publish.Action{Actor: c.Token.ID, Name: "cache.purge", Object: id}, what)
	return api.Answer{Result: reference{ID: id}, Seq: seq}, err
}

// purgeURL reads one item of files: a URL, or an object with one. Headers that
// would choose among variants are passed over: all variants of a URL go.
func purgeURL(zoneName string, raw json.RawMessage) (string, error) {
	var text string
	if json.Unmarshal(raw, &text) != nil {
		var item struct {
			URL string `json:"url"`
		}
		if json.Unmarshal(raw, &item) != nil {
			return "", fmt.Errorf("must be a URL or an object with a url")
		}
		text = item.URL
	}
	if len(text) > maxPurgeURL {
		return "", fmt.Errorf("longer than %d bytes", maxPurgeURL)
	}
	u, err := url.Parse(text)
	if err != nil {
		return "", fmt.Errorf("%q is not a URL", limit(text, 80))
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return "", fmt.Errorf("%q must be an absolute http or https URL", limit(text, 80))
	}
	if u.User != nil {
		return "", fmt.Errorf("must have no user name, no cached page is kept under one")
	}
	host := strings.ToLower(strings.TrimSuffix(u.Hostname(), "."))
	if host != zoneName && !strings.HasSuffix(host, "."+zoneName) {
		return "", fmt.Errorf("host %q is not in the zone %s", limit(host, 80), zoneName)
	}
	return text, nil
}
