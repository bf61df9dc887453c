// Package selvage is the API of what Cloudflare has no word for, under
// /selvage/v1: which edges have a change, the nodes, join tokens, and of a zone
// what purge_cache and settings cannot say. Envelope and
// tokens are those of /client/v4.
package selvage

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/selvage-edge/selvage/control/api"
	"github.com/selvage-edge/selvage/control/identity"
	"github.com/selvage-edge/selvage/feed"
)

// Prefix is where the API lives.
const Prefix = "/selvage/v1"

// Config is what a Server is made from.
type Config struct {
	Gate *api.Gate
	// Head is the newest entry's number.
	Head func() uint64
	// Peers lists the nodes connected now.
	Peers func() []feed.NodeInfo
	// Nodes lists the nodes that may connect.
	Nodes func(context.Context) ([]identity.Node, error)
	// Revoke shuts a node out for good and ends its connection.
	Revoke func(ctx context.Context, nodeID string) error
	// Join makes a join token.
	Join func(context.Context, time.Duration) (string, error)
	// Progress has what nodes reported.
	Progress *Progress
	// Zones are the calls about one zone, by method and path.
	Zones map[string]api.Handler
}

// Server answers the API.
type Server struct {
	Config
	mux *http.ServeMux
}

// New makes a server; it is an http.Handler for Prefix and below.
func New(c Config) *Server {
	s := &Server{Config: c, mux: http.NewServeMux()}
	for path, h := range map[string]struct {
		method string
		answer api.Handler
	}{
		"/changes/{seq}": {"GET", s.change},
		"/nodes":         {"GET", s.nodes},
		"/nodes/{node}":  {"DELETE", s.revoke},
		"/join-tokens":   {"POST", s.join},
	} {
		s.mux.Handle(h.method+" "+Prefix+path, c.Gate.Handle(h.answer))
	}
	for pattern, h := range c.Zones {
		method, path, _ := strings.Cut(pattern, " ")
		s.mux.Handle(method+" "+Prefix+path, c.Gate.Handle(h))
	}
	return s
}

// ServeHTTP answers one call.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.Gate.Serve(s.mux, w, r) }

type ackedNode struct {
	Node string    `json:"node"`
	Colo string    `json:"colo"`
	At   time.Time `json:"at"`
}

type pendingNode struct {
	Node      string `json:"node"`
	Colo      string `json:"colo"`
	Connected bool   `json:"connected"`
	Applied   uint64 `json:"applied"`
}

type rejectedNode struct {
	Node   string `json:"node"`
	Colo   string `json:"colo"`
	Reason string `json:"reason"`
}

type changeResult struct {
	Seq      uint64         `json:"seq"`
	Head     uint64         `json:"head"`
	Acked    []ackedNode    `json:"acked"`
	Pending  []pendingNode  `json:"pending"`
	Rejected []rejectedNode `json:"rejected"`
}

// change says which nodes have applied an entry, which have not, and which
// could not.
func (s *Server) change(ctx context.Context, c *api.Call) (api.Answer, error) {
	seq, err := strconv.ParseUint(c.PathValue("seq"), 10, 64)
	if err != nil || seq == 0 {
		return api.Answer{}, api.Invalid(api.CodeIdentifier, "seq", "must be a number from 1, got %q", c.PathValue("seq"))
	}
	head := s.Head()
	if seq > head {
		return api.Answer{}, api.Missing(api.CodeIdentifier, "seq: %d is not given out yet, the newest change is %d", seq, head)
	}
	nodes, err := s.Nodes(ctx)
	if err != nil {
		return api.Answer{}, err
	}
	connected := byNode(s.Peers())
	out := changeResult{Seq: seq, Head: head, Acked: []ackedNode{}, Pending: []pendingNode{}, Rejected: []rejectedNode{}}
	for _, n := range nodes {
		peer, up := connected[n.ID]
		seen := s.Progress.of(n.ID)
		applied := max(seen.applied, peer.Acked)
		if reason, ok := seen.rejected[seq]; ok {
			out.Rejected = append(out.Rejected, rejectedNode{n.ID, n.Colo, reason})
		} else if applied >= seq {
			out.Acked = append(out.Acked, ackedNode{n.ID, n.Colo, seen.reached(seq)})
		} else {
			out.Pending = append(out.Pending, pendingNode{n.ID, n.Colo, up, applied})
		}
	}
	return api.Answer{Result: out}, nil
}

func byNode(peers []feed.NodeInfo) map[string]feed.NodeInfo {
	m := make(map[string]feed.NodeInfo, len(peers))
	for _, p := range peers {
		m[p.Node] = p
	}
	return m
}

type nodeResult struct {
	Node      string     `json:"node"`
	Colo      string     `json:"colo"`
	Name      string     `json:"name"`
	Created   time.Time  `json:"created"`
	Connected bool       `json:"connected"`
	Since     *time.Time `json:"since,omitempty"`
	Addr      string     `json:"addr,omitempty"`
	Applied   uint64     `json:"applied"`
}

func (s *Server) nodes(ctx context.Context, _ *api.Call) (api.Answer, error) {
	nodes, err := s.Nodes(ctx)
	if err != nil {
		return api.Answer{}, err
	}
	connected := byNode(s.Peers())
	out := make([]nodeResult, len(nodes))
	for i, n := range nodes {
		out[i] = nodeResult{Node: n.ID, Colo: n.Colo, Name: n.Name, Created: n.Created, Applied: s.Progress.of(n.ID).applied}
		if peer, ok := connected[n.ID]; ok {
			out[i].Connected, out[i].Since, out[i].Addr = true, &peer.Since, peer.Addr
			out[i].Applied = max(out[i].Applied, peer.Acked)
		}
	}
	return api.Answer{Result: out}, nil
}

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

// join makes a join token: {"ttl": SECONDS}, an hour when not given.
func (s *Server) join(ctx context.Context, c *api.Call) (api.Answer, error) {
	var in struct {
		TTL *int64 `json:"ttl"`
	}
	if c.ContentLength != 0 {
		if err := api.Decode(c, &in); err != nil {
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
	token, err := s.Join(ctx, life)
	return api.Answer{Result: joinResult{token, time.Now().Add(life).UTC()}}, err
}
