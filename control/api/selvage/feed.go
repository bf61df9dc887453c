package selvage

import (
	"context"
	"strconv"
	"time"

	"github.com/selvage-edge/selvage/control/api"
	"github.com/selvage-edge/selvage/control/health"
	"github.com/selvage-edge/selvage/control/progress"
)

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
	Time     *time.Time     `json:"time,omitempty"`
	Text     string         `json:"text"`
	Live     int            `json:"live"`
	Total    int            `json:"total"`
	Missing  []missingColo  `json:"missing"`
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
	head, _ := s.Log.Head()
	if seq > head {
		return api.Answer{}, api.Missing(api.CodeIdentifier, "seq: %d is not given out yet, the newest change is %d", seq, head)
	}
	nodes, err := s.Progress(ctx, seq)
	if err != nil {
		return api.Answer{}, err
	}
	out := changeResult{Seq: seq, Head: head, Acked: []ackedNode{}, Pending: []pendingNode{}, Rejected: []rejectedNode{}}
	at := time.Time{}
	if times := s.Log.Times(nil, seq-1, seq); len(times) == 1 {
		at = times[0]
		out.Time = &at
	}
	var w where
	for i := range nodes {
		n := &nodes[i]
		if r, ok := n.Rejection(seq); ok {
			out.Rejected = append(out.Rejected, rejectedNode{n.ID, n.Colo, r.Reason})
			w.rejected(n, r.Reason)
		} else if n.Applied >= seq {
			out.Acked = append(out.Acked, ackedNode{n.ID, n.Colo, n.Reached})
			w.has(n)
		} else {
			out.Pending = append(out.Pending, pendingNode{n.ID, n.Colo, n.Connected, n.Applied})
			w.lacks(n, at)
		}
	}
	out.Live, out.Total, out.Missing = w.sum()
	out.Text = w.text("live", time.Now())
	return api.Answer{Result: out}, nil
}

type rejection struct {
	Seq    uint64    `json:"seq"`
	Reason string    `json:"reason"`
	At     time.Time `json:"at"`
}

type feedNode struct {
	Node       string     `json:"node"`
	Colo       string     `json:"colo"`
	Name       string     `json:"name"`
	Connected  bool       `json:"connected"`
	Since      time.Time  `json:"since"` // for one that never came: since it joined
	Via        string     `json:"via,omitempty"`
	Control    string     `json:"control,omitempty"`
	Applied    uint64     `json:"applied"`
	LagEntries uint64     `json:"lag_entries"`
	LagSeconds float64    `json:"lag_seconds"`
	Rejected   *rejection `json:"rejected,omitempty"` // the newest
	// Health is what the node last said of itself.
	Health *health.Sample `json:"health,omitempty"`
}

type feedResult struct {
	Text string `json:"text"`
	Head struct {
		Seq  uint64     `json:"seq"`
		Time *time.Time `json:"time,omitempty"`
	} `json:"head"`
	Floor    uint64 `json:"floor"`
	Retained struct {
		Entries int64 `json:"entries"`
		Bytes   int64 `json:"bytes"`
	} `json:"retained"`
	Leader  string        `json:"leader"`
	Control string        `json:"control"`
	Live    int           `json:"live"`
	Total   int           `json:"total"`
	Missing []missingColo `json:"missing"`
	Nodes   []feedNode    `json:"nodes"`
	Kill    []killResult  `json:"kill"` // switches that are set
}

// feed says where the log and each node stand.
func (s *Server) feed(ctx context.Context, _ *api.Call) (api.Answer, error) {
	nodes, err := s.Progress(ctx, 0)
	if err != nil {
		return api.Answer{}, err
	}
	out := feedResult{Floor: s.Log.Floor(), Control: s.Log.Name(), Nodes: make([]feedNode, len(nodes))}
	head, _ := s.Log.Head()
	out.Head.Seq = head
	if head > 0 {
		if times := s.Log.Times(nil, head-1, head); len(times) == 1 {
			out.Head.Time = &times[0]
		}
	}
	if out.Retained.Entries, out.Retained.Bytes, err = s.Log.Size(ctx); err != nil {
		return api.Answer{}, err
	}
	if out.Leader, err = s.Log.Leader(ctx); err != nil {
		return api.Answer{}, err
	}
	if out.Kill, err = s.kills(ctx); err != nil {
		return api.Answer{}, err
	}
	now := time.Now()
	var w where
	for i := range nodes {
		n := &nodes[i]
		out.Nodes[i] = feedNode{
			Node: n.ID, Colo: n.Colo, Name: n.Name, Connected: n.Connected, Since: since(n), Via: n.Via, Control: n.Control,
			Applied: n.Applied, LagEntries: n.Lag, LagSeconds: n.Behind(now).Seconds(),
		}
		if len(n.Rejected) > 0 {
			r := n.Rejected[len(n.Rejected)-1]
			out.Nodes[i].Rejected = &rejection{r.Seq, r.Reason, r.At}
		}
		if h, ok := s.Health(n.ID); ok {
			out.Nodes[i].Health = &h
		}
		if n.Connected && n.Behind(now) <= progress.LagLimit {
			w.has(n)
		} else {
			w.lacks(n, n.Waits)
		}
	}
	out.Live, out.Total, out.Missing = w.sum()
	out.Text = w.text("up to date", now)
	return api.Answer{Result: out}, nil
}

// since is since when a node is connected, or is not: one that never was, since
// it joined.
func since(n *progress.Node) time.Time {
	if n.Since.IsZero() {
		return n.Created
	}
	return n.Since
}

type nodeResult struct {
	Node      string     `json:"node"`
	Colo      string     `json:"colo"`
	Name      string     `json:"name"`
	Created   time.Time  `json:"created"`
	Relay     bool       `json:"relay,omitempty"` // it may serve others
	Connected bool       `json:"connected"`
	Via       string     `json:"via,omitempty"` // the relay between; "" for none
	Since     *time.Time `json:"since,omitempty"`
	Addr      string     `json:"addr,omitempty"`
	Applied   uint64     `json:"applied"`
}

func (s *Server) nodes(ctx context.Context, _ *api.Call) (api.Answer, error) {
	nodes, err := s.Progress(ctx, 0)
	if err != nil {
		return api.Answer{}, err
	}
	out := make([]nodeResult, len(nodes))
	for i, n := range nodes {
		out[i] = nodeResult{Node: n.ID, Colo: n.Colo, Name: n.Name, Created: n.Created, Relay: n.Relay, Connected: n.Connected, Via: n.Via, Addr: n.Addr, Applied: n.Applied}
		if n.Connected {
			out[i].Since = &nodes[i].Since
		}
	}
	return api.Answer{Result: out}, nil
}
