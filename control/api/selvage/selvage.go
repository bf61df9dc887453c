// Package selvage is the API of what Cloudflare has no word for, under
// /selvage/v1: which edges have a change, the feed, the nodes, join tokens, changes
// that go by rings, and of a zone what purge_cache and settings cannot say. Envelope and
// tokens are those of /client/v4.
package selvage

import (
	"context"
	"maps"
	"net/http"
	"strings"
	"time"

	"github.com/selvage-edge/selvage/control/api"
	"github.com/selvage-edge/selvage/control/health"
	"github.com/selvage-edge/selvage/control/progress"
	"github.com/selvage-edge/selvage/control/store"
	"github.com/selvage-edge/selvage/feed"
)

// Prefix is where the API lives.
const Prefix = "/selvage/v1"

// Config is what a Server is made from.
type Config struct {
	Gate *api.Gate
	// Log is what changes are numbered in.
	Log Log
	// Progress returns all nodes, with what they did about one entry.
	Progress func(ctx context.Context, seq uint64) ([]progress.Node, error)
	// Health is how a node is, or was last.
	Health func(node string) (health.Sample, bool)
	// Audit returns a page of the audit trail, and whether there is more.
	Audit func(ctx context.Context, q store.AuditQuery) (events []store.Audit, more bool, err error)
	// Revoke shuts a node out for good and ends its connection.
	Revoke func(ctx context.Context, nodeID string) error
	// Join makes a join token, for a relay where that is asked.
	Join     func(ctx context.Context, life time.Duration, relay bool) (string, error)
	Rollouts Rollouts
	Default  Defaults
	// Kill keeps the kill switches, Timer is told that one got an expiry.
	Kill  Kills
	Timer func()
	// Zones are the calls about one zone, by method and path.
	Zones map[string]api.Handler
}

// Log is what the API says of the feed's log.
type Log interface {
	Head() (seq uint64, hash [32]byte)
	// Floor is the newest number that is no longer held.
	Floor() uint64
	// Size is of the entries that are held, of late.
	Size(ctx context.Context) (entries, bytes int64, err error)
	// Times appends entries' times, as far as they are at hand.
	Times(dst []time.Time, after, through uint64) []time.Time
	// Leader names the process that numbers changes, Name this one.
	Leader(ctx context.Context) (string, error)
	Name() string
}

// Server answers the API.
type Server struct {
	Config
	mux *http.ServeMux
}

// New makes a server; it is an http.Handler for Prefix and below.
func New(c Config) *Server {
	s := &Server{Config: c, mux: http.NewServeMux()}
	calls := map[string]api.Handler{
		"GET /changes/{seq}":             s.change,
		"GET /feed":                      s.feed,
		"GET /audit":                     s.audit,
		"GET /nodes":                     s.nodes,
		"DELETE /nodes/{node}":           s.revoke,
		"POST /join-tokens":              s.join,
		"GET /kill":                      s.listKills,
		"GET /kill/{name...}":            s.getKill,
		"PUT /kill/{name...}":            s.setKill,
		"DELETE /kill/{name...}":         s.clearKill,
		"GET /defaults":                  s.getDefaults,
		"PUT /defaults":                  s.putDefaults,
		"GET /rings":                     s.getRings,
		"PUT /rings":                     s.putRings,
		"GET /rollouts":                  s.rollouts,
		"GET /rollouts/{stage}":          s.rollout,
		"POST /rollouts/{stage}/release": s.release,
		"POST /rollouts/{stage}/halt":    s.halt,
	}
	maps.Copy(calls, c.Zones)
	for pattern, h := range calls {
		method, path, _ := strings.Cut(pattern, " ")
		s.mux.Handle(method+" "+Prefix+path, c.Gate.Handle(method, path, h))
	}
	return s
}

// ServeHTTP answers one call.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.Gate.Serve(s.mux, w, r) }

// revoke shuts a node out for good: a stolen machine, one that is gone.
func (s *Server) revoke(ctx context.Context, c *api.Call) (api.Answer, error) {
	id := c.PathValue("node")
	if !feed.ValidNodeID(id) {
		return api.Answer{}, api.Invalid(api.CodeIdentifier, "node", "must be an identifier of 32 lower-case hex digits, got %.64q", id)
	}
	err := s.Revoke(ctx, id)
	if feed.Refused(err, feed.ReasonUnknown) {
		return api.Answer{}, api.Missing(api.CodeIdentifier, "node: no node has this identifier")
	}
	return api.Answer{Result: map[string]string{"node": id}}, err
}

// maxJoinLife is the longest that a join token may wait.
const maxJoinLife = 30 * 24 * time.Hour

type joinResult struct {
	Token   string    `json:"token"`
	Expires time.Time `json:"expires"`
}

// join makes a join token: {"ttl": SECONDS, "relay": BOOL}, an hour and no relay
// when not given.
func (s *Server) join(ctx context.Context, c *api.Call) (api.Answer, error) {
	var in struct {
		TTL   *int64 `json:"ttl"`
		Relay bool   `json:"relay"`
	}
	if c.ContentLength != 0 {
		if err := api.DecodeAll(c, &in); err != nil {
			return api.Answer{}, err
		}
	}
	life := time.Hour
	if in.TTL != nil {
		if *in.TTL < 1 || *in.TTL > int64(maxJoinLife/time.Second) {
			return api.Answer{}, api.Invalid(api.CodeBadRequest, "ttl", "must be from 1 to %d seconds, got %d", int64(maxJoinLife/time.Second), *in.TTL)
		}
		life = time.Duration(*in.TTL) * time.Second
	}
	token, err := s.Join(ctx, life, in.Relay)
	return api.Answer{Result: joinResult{token, time.Now().Add(life).UTC()}}, err
}
