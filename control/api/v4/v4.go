// Package v4 is the public API under /client/v4, in the shape of Cloudflare's:
// existing SDKs, Terraform providers and scripts drive it unchanged. It
// promises that what a user sent comes back as it was sent, that a refused call
// has changed nothing, and that a write's answer carries its feed number.
package v4

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"net/http"
	"strings"

	"github.com/selvage-edge/selvage/control/api"
	"github.com/selvage-edge/selvage/control/publish"
	"github.com/selvage-edge/selvage/control/store"
	"github.com/selvage-edge/selvage/feed"
)

// Prefix is where the API lives.
const Prefix = "/client/v4"

// Config is what a Server is made from.
type Config struct {
	Gate    *api.Gate
	Store   *store.Store
	Publish *publish.Publisher
	// NameServers are given to every new zone.
	NameServers []string
	// Certify, when not nil, gives a new zone a certificate of its own.
	Certify func(z *store.Zone) error
	// Deploy is told of a certificate that was staged, and waits a short while
	// for the entry that publishes it: its number, or 0 where that takes longer.
	Deploy func(ctx context.Context, zoneID string, ref feed.PairRef) (uint64, error)
	// Reached says whether every node that may connect has applied an entry.
	Reached func(ctx context.Context, seq uint64) (bool, error)
	// Timer, when not nil, is told that a setting got an expiry.
	Timer func()
}

// Server answers the API.
type Server struct {
	Config
	mux *http.ServeMux
}

// New makes a server; it is an http.Handler for Prefix and below.
func New(c Config) *Server {
	s := &Server{Config: c, mux: http.NewServeMux()}
	s.routes(map[string]api.Handler{
		"GET /user":               s.user,
		"GET /user/tokens/verify": s.verifyToken,
		"GET /accounts":           s.listAccounts,
		"GET /accounts/{account}": s.getAccount,

		"GET /zones":           s.listZones,
		"POST /zones":          s.createZone,
		"GET /zones/{zone}":    s.getZone,
		"PATCH /zones/{zone}":  s.patchZone,
		"DELETE /zones/{zone}": s.deleteZone,

		"GET /zones/{zone}/dns_records":             s.listRecords,
		"POST /zones/{zone}/dns_records":            s.createRecord,
		"GET /zones/{zone}/dns_records/export":      s.exportRecords,
		"POST /zones/{zone}/dns_records/import":     s.importRecords,
		"POST /zones/{zone}/dns_records/batch":      s.batchRecords,
		"GET /zones/{zone}/dns_records/{record}":    s.getRecord,
		"PUT /zones/{zone}/dns_records/{record}":    s.putRecord,
		"PATCH /zones/{zone}/dns_records/{record}":  s.patchRecord,
		"DELETE /zones/{zone}/dns_records/{record}": s.deleteRecord,

		"POST /zones/{zone}/purge_cache": s.purge,

		"GET /zones/{zone}/cache/cache_reserve":                         s.getCacheSetting("cache_reserve"),
		"PATCH /zones/{zone}/cache/cache_reserve":                       s.patchCacheSetting("cache_reserve"),
		"GET /zones/{zone}/cache/cache_reserve_clear":                   s.getClear,
		"POST /zones/{zone}/cache/cache_reserve_clear":                  s.startClear,
		"GET /zones/{zone}/cache/variants":                              s.getVariants,
		"PATCH /zones/{zone}/cache/variants":                            s.patchCacheSetting("variants"),
		"DELETE /zones/{zone}/cache/variants":                           s.deleteVariants,
		"GET /zones/{zone}/cache/regional_tiered_cache":                 s.getCacheSetting("tc_regional"),
		"PATCH /zones/{zone}/cache/regional_tiered_cache":               s.patchCacheSetting("tc_regional"),
		"GET /zones/{zone}/cache/tiered_cache_smart_topology_enable":    s.getCacheSetting("tiered_cache_smart_topology_enable"),
		"PATCH /zones/{zone}/cache/tiered_cache_smart_topology_enable":  s.patchCacheSetting("tiered_cache_smart_topology_enable"),
		"POST /zones/{zone}/cache/tiered_cache_smart_topology_enable":   s.patchCacheSetting("tiered_cache_smart_topology_enable"),
		"DELETE /zones/{zone}/cache/tiered_cache_smart_topology_enable": s.deleteCacheSetting("tiered_cache_smart_topology_enable"),
		"GET /zones/{zone}/argo/tiered_caching":                         s.getCacheSetting("tiered_caching"),
		"PATCH /zones/{zone}/argo/tiered_caching":                       s.patchCacheSetting("tiered_caching"),
		"GET /zones/{zone}/url_normalization":                           s.getNormalization,
		"PUT /zones/{zone}/url_normalization":                           s.putNormalization,
		"DELETE /zones/{zone}/url_normalization":                        s.deleteNormalization,

		"GET /zones/{zone}/settings":             s.listSettings,
		"PATCH /zones/{zone}/settings":           s.patchSettings,
		"GET /zones/{zone}/settings/{setting}":   s.getSetting,
		"PATCH /zones/{zone}/settings/{setting}": s.patchSetting,

		"GET /zones/{zone}/custom_certificates":           s.listCertificates,
		"POST /zones/{zone}/custom_certificates":          s.createCertificate,
		"GET /zones/{zone}/custom_certificates/{cert}":    s.getCertificate,
		"PATCH /zones/{zone}/custom_certificates/{cert}":  s.patchCertificate,
		"DELETE /zones/{zone}/custom_certificates/{cert}": s.deleteCertificate,

		"GET /zones/{zone}/rulesets/phases/{phase}/entrypoint": s.getEntrypoint,
		"PUT /zones/{zone}/rulesets/phases/{phase}/entrypoint": s.putEntrypoint,
	})
	return s
}

// routes registers handlers.
func (s *Server) routes(table map[string]api.Handler) {
	for pattern, h := range table {
		method, path, _ := strings.Cut(pattern, " ")
		s.mux.Handle(method+" "+Prefix+path, s.Gate.Handle(method, path, h))
	}
}

// ServeHTTP answers one call.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.Gate.Serve(s.mux, w, r) }

// newID returns 32 random hex digits.
func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return hex.EncodeToString(b[:])
}

// pathID reads an identifier out of the path.
func pathID(c *api.Call, name string) (string, error) {
	id := c.PathValue(name)
	b, err := hex.DecodeString(id)
	if err != nil || len(b) != 16 || id != strings.ToLower(id) {
		return "", &api.Problem{Status: http.StatusBadRequest, Code: api.CodeIdentifier,
			Message: name + "_id: " + strings.ToValidUTF8(limit(id, 64), "?") + " is not an identifier of 32 lower-case hex digits"}
	}
	return id, nil
}

func limit(s string, n int) string {
	if len(s) > n {
		return s[:n] + "…"
	}
	return s
}

// read loads the zone that the path names.
func (s *Server) read(ctx context.Context, c *api.Call) (*store.Zone, error) {
	id, err := pathID(c, "zone")
	if err != nil {
		return nil, err
	}
	var z *store.Zone
	err = s.Store.Read(ctx, func(tx *store.Tx) (err error) {
		if z, err = tx.Zone(ctx, id); err == nil {
			err = owned(c, z.Account)
		}
		return err
	})
	return z, err
}

// owned hides zones of other accounts.
func owned(c *api.Call, account string) error {
	if account != c.Token.Account {
		return api.Missing(api.CodeInvalidZone, "zone_id: no zone has this identifier")
	}
	return nil
}

// edit changes the zone that the path names. code is what a refusal by the
// edges' compile is called.
func (s *Server) edit(ctx context.Context, c *api.Call, code int, action, object string, fn func(*store.Zone) error) (uint64, error) {
	id, err := pathID(c, "zone")
	if err != nil {
		return 0, err
	}
	if object == "" {
		object = id
	}
	seq, err := s.Publish.Edit(ctx, id, publish.Action{Actor: c.Token.ID, Name: action, Object: object, ByRings: c.ByRings}, func(z *store.Zone) error {
		if err := owned(c, z.Account); err != nil {
			return err
		}
		return fn(z)
	})
	return seq, api.Judged(err, code)
}

// status of every zone: there is no registrar to wait for.
const statusActive = "active"
