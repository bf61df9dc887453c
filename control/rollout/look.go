package rollout

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/selvage-edge/selvage/control/health"
	"github.com/selvage-edge/selvage/control/progress"
	"github.com/selvage-edge/selvage/control/publish"
	"github.com/selvage-edge/selvage/control/store"
	"github.com/selvage-edge/selvage/rings"
)

const (
	// beforeFor is how long before the release nodes are compared with, and
	// recent how far back errors after it are counted at a time, so that late ones
	// do not drown in what went well.
	beforeFor = 5 * time.Minute
	recent    = time.Minute
	// silentFor is how long a node may be away that was there at the release: one
	// that changes its parent is back in three seconds.
	silentFor = 10 * time.Second
	// leastFailed is how many failed requests say anything.
	leastFailed = 10
)

// look is one look at a rollout.
type look struct {
	now     time.Time
	led     time.Time // since when this control plane decides
	rollout *publish.Watched
	health  func(node string, since time.Time) []health.Sample
	was     memory
	// members are the nodes that have the change, rest those that do not.
	members, rest []progress.Node
}

// memory is what was when the rollout came to its ring. It is kept with the
// rollout, since a control plane that starts again has to know it.
type memory struct {
	// Started is when the processes of the nodes started that were connected; zero
	// where that is not known.
	Started map[string]time.Time `json:"started"`
	// Requests and Failed are of the members, in the time before.
	Requests uint64 `json:"requests"`
	Failed   uint64 `json:"failed"`
}

func (l *look) sort(nodes []progress.Node) {
	for _, n := range nodes {
		if l.rollout.Rings.Of(n.Colo) <= l.rollout.Ring {
			l.members = append(l.members, n)
		} else {
			l.rest = append(l.rest, n)
		}
	}
}

// began is when the rollout came to its ring.
func (l *look) began() time.Time { return l.rollout.Steps[len(l.rollout.Steps)-1].At }

// before is what was until the rollout came to its ring.
func (l *look) before() memory {
	m := memory{Started: map[string]time.Time{}}
	began := l.began()
	for i, n := range slices.Concat(l.members, l.rest) {
		if !n.Connected && !n.Since.After(began) {
			continue // it was away already
		}
		from := began.Add(-beforeFor)
		samples := slices.DeleteFunc(l.health(n.ID, from), func(s health.Sample) bool { return s.At.After(began) })
		m.Started[n.ID] = time.Time{}
		if len(samples) > 0 {
			m.Started[n.ID] = samples[len(samples)-1].Started
		}
		if i < len(l.members) {
			requests, failed := count(samples)
			m.Requests, m.Failed = m.Requests+requests, m.Failed+failed
		}
	}
	return m
}

// count is what happened from the first sample to the last.
func count(samples []health.Sample) (requests, failed uint64) {
	for i := 1; i < len(samples); i++ {
		was, is := samples[i-1], samples[i]
		if !is.Started.Equal(was.Started) {
			was = health.Sample{} // began to count anew
		}
		requests += is.Requests - min(was.Requests, is.Requests)
		failed += is.Failed - min(was.Failed, is.Failed)
	}
	return requests, failed
}

// worse says what speaks against the change; "" for nothing.
func (l *look) worse() string {
	for _, why := range []func() string{l.rejected, l.crashed, l.silent, l.failing} {
		if text := why(); text != "" {
			return text
		}
	}
	return ""
}

// rejected finds a member that could not use the change, or an entry after it
// which the others could use.
func (l *look) rejected() string {
	for i := range l.members {
		n := &l.members[i]
		for _, r := range n.Rejected {
			if r.Seq == l.rollout.Seq || r.Seq > l.rollout.Seq && l.restUses(r) {
				return fmt.Sprintf("%s rejected seq %d: %s", name(n), r.Seq, r.Reason)
			}
		}
	}
	return ""
}

// restUses reports whether a node that does not have the change used an entry.
func (l *look) restUses(r store.Rejection) bool {
	return slices.ContainsFunc(l.rest, func(n progress.Node) bool {
		_, rejected := n.Rejection(r.Seq)
		return n.Applied >= r.Seq && !rejected
	})
}

// crashed finds that more of the members have started again than of the rest.
func (l *look) crashed() string {
	return l.more("started again", func(n *progress.Node) bool {
		samples := l.health(n.ID, l.now)
		started := l.was.Started[n.ID]
		return len(samples) > 0 && !started.IsZero() && samples[len(samples)-1].Started.After(started)
	})
}

// silent finds that more of the members have gone than of the rest.
func (l *look) silent() string {
	return l.more(fmt.Sprintf("away for %s", silentFor), func(n *progress.Node) bool {
		// Nodes of a control plane that starts again need a moment to come back.
		return !n.Connected && l.now.Sub(n.Since) >= silentFor && l.now.Sub(l.led) >= silentFor
	})
}

// more says that something is so of a greater part of the members than of the
// rest, as far as they were there when the rollout came to its ring.
func (l *look) more(what string, is func(*progress.Node) bool) string {
	part := func(nodes []progress.Node) (are []string, of int) {
		for i := range nodes {
			if _, there := l.was.Started[nodes[i].ID]; !there {
				continue
			}
			if of++; is(&nodes[i]) {
				are = append(are, name(&nodes[i]))
			}
		}
		return are, of
	}
	members, ofMembers := part(l.members)
	rest, ofRest := part(l.rest)
	if len(members)*max(ofRest, 1) <= len(rest)*ofMembers {
		return ""
	}
	return fmt.Sprintf("%s since seq %d: %s; of the %d that do not have the change %d", what, l.rollout.Seq, strings.Join(members[:min(len(members), 3)], ", "), ofRest, len(rest))
}

// failing finds that more requests fail at the members than before, and than
// elsewhere: more than twice, and more than chance explains.
func (l *look) failing() string {
	from := l.began()
	if late := l.now.Add(-recent); late.After(from) {
		from = late
	}
	sum := func(nodes []progress.Node) (requests, failed uint64) {
		for i := range nodes {
			r, f := count(l.health(nodes[i].ID, from))
			requests, failed = requests+r, failed+f
		}
		return requests, failed
	}
	requests, failed := sum(l.members)
	restRequests, restFailed := sum(l.rest)
	before, elsewhere := share(l.was.Failed, l.was.Requests), share(restFailed, restRequests)
	expected := float64(requests) * max(before, elsewhere)
	if failed < leastFailed || float64(failed) <= 2*expected+3*math.Sqrt(expected) {
		return ""
	}
	return fmt.Sprintf("errors rose: %d of %d requests failed (%.1f%%) in the last %s; before: %.1f%%, elsewhere: %.1f%%",
		failed, requests, 100*share(failed, requests), l.now.Sub(from).Round(time.Second), 100*before, 100*elsewhere)
}

func share(part, of uint64) float64 {
	if of == 0 {
		return 0
	}
	return float64(part) / float64(of)
}

// live reports whether the members have the change: those that are connected,
// which are all that were when it came, and at least one.
func (l *look) live() bool {
	some := false
	for i := range l.members {
		n := &l.members[i]
		if _, was := l.was.Started[n.ID]; was && !n.Connected || n.Connected && n.Applied < l.rollout.Seq {
			return false
		}
		some = some || n.Connected
	}
	return some
}

// next is the first ring after this one that has nodes of its own, or all.
func (l *look) next() rings.Ring {
	if l.rollout.Ring < rings.Share && slices.ContainsFunc(l.rest, func(n progress.Node) bool { return l.rollout.Rings.Of(n.Colo) == rings.Share }) {
		return rings.Share
	}
	return rings.All
}

// name is how people know a node.
func name(n *progress.Node) string {
	if n.Name == "" {
		return n.Colo
	}
	return n.Colo + " (" + n.Name + ")"
}
