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
	Seq      uint64 `json:"seq"`
	Head     uint64 `json:"head"` // newest number of all
	Text     string `json:"text"` // where it is live, in a sentence
	Live     int    `json:"live"` // data centers that have it
	Total    int    `json:"total"`
	Missing  []Colo `json:"missing"` // the other ones
	Acked    []Node `json:"acked"`
	Pending  []Node `json:"pending"`
	Rejected []Node `json:"rejected"` // they serve their old state
}

// Colo is a data center that lacks something.
type Colo struct {
	Colo string `json:"colo"`
	// Since is since when: since a node of it is not connected; while all are,
	// since the entry that it lacks.
	Since     time.Time `json:"since"`
	Nodes     int       `json:"nodes"` // that lack it
	Of        int       `json:"of"`    // all of its nodes
	Connected int       `json:"connected"`
	Reason    string    `json:"reason,omitempty"` // of a rejection
}

// Node is one edge's part in a Change.
type Node struct {
	Node      string `json:"node"`
	Colo      string `json:"colo"`
	Connected bool   `json:"connected"` // of a pending one
	Applied   uint64 `json:"applied"`   // of a pending one: newest number it has
	Reason    string `json:"reason"`    // of one that rejected it
}

// Name is how people know the edge.
func (n Node) Name() string {
	name := n.Colo
	switch {
	case name == "":
		name = n.Node
	case n.Node != "":
		name += " (" + n.Node + ")"
	}
	if n.Reason != "" {
		name += " refused it: " + n.Reason
	}
	return name
}

// missing names connected edges that do not have the change, and whether
// waiting may help.
func (c *Change) missing() (names []string, wait bool) {
	for _, n := range c.Rejected {
		names = append(names, n.Name())
	}
	for _, n := range c.Pending {
		if n.Connected {
			names, wait = append(names, n.Name()), true
		}
	}
	return names, wait
}

// Change asks which edges have sequence number seq.
func (c *Client) Change(ctx context.Context, seq uint64) (Change, error) {
	var ch Change
	_, err := c.json(ctx, http.MethodGet, "/selvage/v1/changes/"+strconv.FormatUint(seq, 10), nil, &ch)
	return ch, err
}

// Reached says where a change is, as far as it was waited for.
type Reached struct {
	Edges   int      // have it
	Missing []string // names of connected edges that do not, or refused it
}

// Wait returns when every connected edge has acknowledged seq, or after
// WaitLimit with the names of those that have not. A seq of 0 stands for a call
// that changed nothing and returns at once.
func (c *Client) Wait(ctx context.Context, seq uint64) (Reached, error) {
	var r Reached
	if seq == 0 {
		return r, nil
	}
	limited, cancel := context.WithTimeout(ctx, WaitLimit)
	defer cancel()
	for pause := firstPoll; ; pause = min(pause*2, lastPoll) {
		ch, err := c.Change(limited, seq)
		if err != nil && len(r.Missing) > 0 && limited.Err() != nil {
			return r, ctx.Err() // the limit passed while control was asked again
		}
		if err != nil {
			return r, err
		}
		missing, pending := ch.missing()
		r = Reached{len(ch.Acked), missing}
		if !pending {
			return r, nil
		}
		next := time.NewTimer(pause)
		select {
		case <-next.C:
		case <-limited.Done():
			next.Stop()
			return r, ctx.Err()
		}
	}
}

// JoinToken makes a token with which one edge joins, once, and as one that may
// serve the feed to others where relay is set.
func (c *Client) JoinToken(ctx context.Context, relay bool) (string, error) {
	var asked any
	if relay {
		asked = map[string]bool{"relay": true}
	}
	var made struct {
		Token string `json:"token"`
	}
	_, err := c.json(ctx, http.MethodPost, "/selvage/v1/join-tokens", asked, &made)
	return made.Token, err
}

// Feed says where the feed and each node stand.
type Feed struct {
	Text string `json:"text"` // in a sentence
	Head struct {
		Seq  uint64    `json:"seq"`
		Time time.Time `json:"time"` // zero: not at hand
	} `json:"head"`
	Floor    uint64 `json:"floor"` // newest number that the log no longer holds
	Retained struct {
		Entries int64 `json:"entries"`
		Bytes   int64 `json:"bytes"`
	} `json:"retained"`
	Leader  string     `json:"leader"` // process that numbers changes; "" for none
	Control string     `json:"control"`
	Live    int        `json:"live"` // data centers that are up to date
	Total   int        `json:"total"`
	Missing []Colo     `json:"missing"` // the other ones
	Nodes   []FeedNode `json:"nodes"`
	Kill    []Kill     `json:"kill"` // switches that are set
}

// FeedNode is where one node stands.
type FeedNode struct {
	Node       string    `json:"node"`
	Colo       string    `json:"colo"`
	Name       string    `json:"name"`
	Connected  bool      `json:"connected"`
	Since      time.Time `json:"since"` // since when it is, or is not
	Via        string    `json:"via"`   // relay between; "" for none
	Applied    uint64    `json:"applied"`
	LagEntries uint64    `json:"lag_entries"`
	LagSeconds float64   `json:"lag_seconds"`
	Rejected   *struct {
		Seq    uint64    `json:"seq"`
		Reason string    `json:"reason"`
		At     time.Time `json:"at"`
	} `json:"rejected"` // the newest; nil for none
	Health *struct {
		At       time.Time `json:"at"`       // when the control plane heard of it
		State    string    `json:"state"`    // loading, ready or draining
		Rejected int       `json:"rejected"` // zones and lists whose newest state is not used
		Problems []string  `json:"problems"` // why the edge is not healthy
	} `json:"health"` // as the node last said; nil: it never did
}

// Troubles are why the node is not healthy, as it says itself while it is
// connected; and the newest change that it could not use, unless it says that it
// has got over that.
func (n *FeedNode) Troubles() []string {
	var all []string
	if n.Rejected != nil && (n.Health == nil || n.Health.Rejected > 0 || n.Health.At.Before(n.Rejected.At)) {
		all = append(all, strconv.FormatUint(n.Rejected.Seq, 10)+": "+n.Rejected.Reason)
	}
	if n.Health != nil && n.Connected {
		all = append(all, n.Health.Problems...)
	}
	return all
}

// Feed asks where the feed and each node stand.
func (c *Client) Feed(ctx context.Context) (Feed, error) {
	var f Feed
	_, err := c.json(ctx, http.MethodGet, "/selvage/v1/feed", nil, &f)
	return f, err
}
