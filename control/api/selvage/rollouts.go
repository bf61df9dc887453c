package selvage

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/selvage-edge/selvage/control/api"
	"github.com/selvage-edge/selvage/control/progress"
	"github.com/selvage-edge/selvage/control/publish"
	"github.com/selvage-edge/selvage/rings"
)

// Rollouts are the changes that go by rings: publish.Publisher.
type Rollouts interface {
	Rings(ctx context.Context) (rings.Definition, error)
	SetRings(ctx context.Context, actor string, d rings.Definition) (seq uint64, err error)
	Rollout(ctx context.Context, n uint64) (*publish.Rollout, error)
	Rollouts(ctx context.Context, account string, limit int) ([]*publish.Rollout, error)
	Release(ctx context.Context, o publish.Order) (*publish.Rollout, uint64, error)
	Halt(ctx context.Context, o publish.Order) (*publish.Rollout, uint64, error)
}

// maxRollouts is how many are listed.
const maxRollouts = 100

type ringsResult struct {
	rings.Definition
	// Colos are the data centers that there are, by their ring.
	Colos map[rings.Ring][]string `json:"colos"`
}

func (s *Server) getRings(ctx context.Context, _ *api.Call) (api.Answer, error) {
	d, err := s.Rollouts.Rings(ctx)
	if err != nil {
		return api.Answer{}, err
	}
	result, err := s.showRings(ctx, d)
	return api.Answer{Result: result}, err
}

func (s *Server) putRings(ctx context.Context, c *api.Call) (api.Answer, error) {
	in := struct {
		rings.Definition
		Colos json.RawMessage `json:"colos"` // passed over: what was read may be sent back
	}{Definition: rings.Default()}
	if err := api.DecodeAll(c, &in); err != nil {
		return api.Answer{}, err
	}
	d := in.Definition
	if d.Canaries == nil { // null
		d.Canaries = []string{}
	}
	seq, err := s.Rollouts.SetRings(ctx, c.Token.ID, d)
	if err != nil {
		return api.Answer{}, err
	}
	result, err := s.showRings(ctx, d)
	return api.Answer{Result: result, Seq: seq}, err
}

// showRings tells who is in which ring: of those who are there.
func (s *Server) showRings(ctx context.Context, d rings.Definition) (ringsResult, error) {
	nodes, err := s.Progress(ctx, 0)
	if err != nil {
		return ringsResult{}, err
	}
	colos := colosOf(nodes)
	of := d.Resolve(colos)
	out := ringsResult{Definition: d, Colos: map[rings.Ring][]string{rings.Canary: {}, rings.Share: {}, rings.All: {}}}
	for _, colo := range colos {
		out.Colos[of.Of(colo)] = append(out.Colos[of.Of(colo)], colo)
	}
	return out, nil
}

func colosOf(nodes []progress.Node) []string {
	var colos []string
	for i := range nodes {
		colos = append(colos, nodes[i].Colo)
	}
	slices.Sort(colos)
	return slices.Compact(colos)
}

type rolloutResult struct {
	Stage    uint64           `json:"stage"`
	Text     string           `json:"text"`
	State    publish.State    `json:"state"`
	Ring     rings.Ring       `json:"ring"` // released to
	Has      []string         `json:"has"`  // data centers that serve it, of those that are there
	Of       int              `json:"of"`   // how many are there
	ZoneID   string           `json:"zone_id,omitempty"`
	ZoneName string           `json:"zone_name,omitempty"`
	Action   string           `json:"action"`
	Actor    string           `json:"actor"`
	Keys     []string         `json:"keys"`
	Rings    rings.Definition `json:"rings"`
	Live     *time.Time       `json:"live,omitempty"` // since when the connected nodes of the ring have it
	Next     *time.Time       `json:"next,omitempty"` // when the next ring gets it
	Steps    []publish.Step   `json:"steps"`
}

func showRollout(r *publish.Rollout, colos []string) rolloutResult {
	out := rolloutResult{
		Stage: r.N, State: r.State, Ring: r.Ring, Has: []string{}, Of: len(colos), ZoneID: r.Zone, ZoneName: r.ZoneName,
		Action: r.Action, Actor: r.Actor, Keys: r.Keys, Rings: r.Rings, Steps: r.Steps,
	}
	for _, colo := range colos {
		if r.State == publish.Released || r.State == publish.Pending && r.Rings.Of(colo) <= r.Ring {
			out.Has = append(out.Has, colo)
		}
	}
	if r.State == publish.Pending && !r.Live.IsZero() {
		next := r.Live.Add(time.Duration(r.Rings.Hold(r.Ring)) * time.Second)
		out.Live, out.Next = &r.Live, &next
	}
	out.Text = out.text(time.Now())
	return out
}

// text says it in a sentence.
func (r *rolloutResult) text(now time.Time) string {
	if len(r.Steps) == 0 {
		return string(r.State)
	}
	last := r.Steps[len(r.Steps)-1]
	why := ""
	if last.Why != "" {
		why = ": " + last.Why
	}
	switch r.State {
	case publish.Released:
		return "released to all at " + clock(last.At, now) + why
	case publish.Halted:
		return fmt.Sprintf("halted in ring %s at %s%s", r.Ring, clock(last.At, now), why)
	case publish.Dropped:
		return "dropped at " + clock(last.At, now) + why
	}
	has := strings.Join(r.Has[:min(len(r.Has), maxNamed)], ", ")
	if len(r.Has) > maxNamed {
		has += fmt.Sprintf(" and %d more", len(r.Has)-maxNamed)
	}
	text := fmt.Sprintf("in ring %s: %d of %d data centers (%s)", r.Ring, len(r.Has), r.Of, has)
	if r.Next == nil {
		return text + ", waiting until their nodes have it"
	}
	return text + ", the next ring gets it at " + clock(*r.Next, now)
}

func (s *Server) rollouts(ctx context.Context, c *api.Call) (api.Answer, error) {
	all, err := s.Rollouts.Rollouts(ctx, c.Token.Account, maxRollouts)
	if err != nil {
		return api.Answer{}, err
	}
	nodes, err := s.Progress(ctx, 0)
	if err != nil {
		return api.Answer{}, err
	}
	colos := colosOf(nodes)
	out := make([]rolloutResult, len(all))
	for i, r := range all {
		out[i] = showRollout(r, colos)
	}
	return api.Answer{Result: out}, nil
}

// find reads the rollout that the path names.
func (s *Server) find(ctx context.Context, c *api.Call) (*publish.Rollout, error) {
	n, err := strconv.ParseUint(c.PathValue("stage"), 10, 63)
	if err != nil || n == 0 {
		return nil, api.Invalid(api.CodeIdentifier, "stage", "must be a number from 1, got %.40q", c.PathValue("stage"))
	}
	r, err := s.Rollouts.Rollout(ctx, n)
	if err != nil || r.Account == "" || r.Account == c.Token.Account {
		return r, err
	}
	return nil, api.Missing(api.CodeIdentifier, "stage: no stage has this number")
}

func (s *Server) answer(ctx context.Context, r *publish.Rollout, seq uint64) (api.Answer, error) {
	nodes, err := s.Progress(ctx, 0)
	if err != nil {
		return api.Answer{}, err
	}
	return api.Answer{Result: showRollout(r, colosOf(nodes)), Seq: seq}, nil
}

func (s *Server) rollout(ctx context.Context, c *api.Call) (api.Answer, error) {
	r, err := s.find(ctx, c)
	if err != nil {
		return api.Answer{}, err
	}
	return s.answer(ctx, r, 0)
}

// release lets the next ring have it, or the one that {"ring": …} names.
func (s *Server) release(ctx context.Context, c *api.Call) (api.Answer, error) {
	var in struct {
		Ring   rings.Ring `json:"ring"`
		Reason string     `json:"reason"`
	}
	if c.ContentLength != 0 {
		if err := api.DecodeAll(c, &in); err != nil {
			return api.Answer{}, err
		}
	}
	if err := reasonFits(in.Reason); err != nil {
		return api.Answer{}, err
	}
	r, err := s.find(ctx, c)
	if err != nil {
		return api.Answer{}, err
	}
	if in.Ring == 0 {
		in.Ring = min(r.Ring+1, rings.All)
	}
	r, seq, err := s.Rollouts.Release(ctx, publish.Order{N: r.N, To: in.Ring, By: c.Token.ID, Why: in.Reason})
	if err != nil {
		return api.Answer{}, err
	}
	return s.answer(ctx, r, seq)
}

// halt takes it back, for the {"reason": …} that is shown.
func (s *Server) halt(ctx context.Context, c *api.Call) (api.Answer, error) {
	var in struct {
		Reason string `json:"reason"`
	}
	if c.ContentLength != 0 {
		if err := api.DecodeAll(c, &in); err != nil {
			return api.Answer{}, err
		}
	}
	if err := reasonFits(in.Reason); err != nil {
		return api.Answer{}, err
	}
	r, err := s.find(ctx, c)
	if err != nil {
		return api.Answer{}, err
	}
	r, seq, err := s.Rollouts.Halt(ctx, publish.Order{N: r.N, By: c.Token.ID, Why: in.Reason})
	if err != nil {
		return api.Answer{}, err
	}
	return s.answer(ctx, r, seq)
}

// reasonFits refuses a reason that would be cut.
func reasonFits(reason string) error {
	if len(reason) > publish.MaxWhy {
		return api.Invalid(api.CodeBadRequest, "reason", "at most %d bytes are allowed, got %d", publish.MaxWhy, len(reason))
	}
	return nil
}
