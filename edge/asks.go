package edge

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/selvage-edge/selvage/edge/request"
	"github.com/selvage-edge/selvage/fault"
)

// asks counts what became of requests to other edges.
type asks struct {
	outcomes [roles][outcomes]atomic.Uint64
	resumes  atomic.Uint64
}

const roles = int(request.RoleUpper) + 1

// What can become of a request to another edge.
const (
	askAnswered = iota
	askOrigin   // the origin failed, that edge says
	askBusy     // too many at a time, that edge is behind, or it goes away
	askFailed   // no answer
	outcomes
)

var (
	roleNames    = [roles]string{"", "owner", "region", "upper"}
	outcomeNames = [outcomes]string{"answered", "origin failed", "busy", "failed"}

	descAsks    = prometheus.NewDesc("selvage_tier_asks_total", "Requests to other edges, by what they were asked as (owner, region, upper) and what became of it.", []string{"role", "outcome"}, nil)
	descResumes = prometheus.NewDesc("selvage_tier_resumes_total", "Answers of other edges that broke off and were gone on with from elsewhere.", nil, nil)
)

func (a *asks) answered(role request.Role) { a.outcomes[role][askAnswered].Add(1) }

func (a *asks) failed(role request.Role, f *fault.Error) {
	outcome := askFailed
	switch {
	case f.Side == fault.Origin:
		outcome = askOrigin
	case f.Kind == fault.Limit || f.Kind == fault.Draining:
		outcome = askBusy
	}
	a.outcomes[role][outcome].Add(1)
}

func (a *asks) resumed() { a.resumes.Add(1) }

// Describe implements prometheus.Collector.
func (a *asks) Describe(to chan<- *prometheus.Desc) {
	to <- descAsks
	to <- descResumes
}

// Collect implements prometheus.Collector.
func (a *asks) Collect(to chan<- prometheus.Metric) {
	for role := int(request.RoleOwner); role < roles; role++ {
		for o := range outcomes {
			to <- prometheus.MustNewConstMetric(descAsks, prometheus.CounterValue, float64(a.outcomes[role][o].Load()), roleNames[role], outcomeNames[o])
		}
	}
	to <- prometheus.MustNewConstMetric(descResumes, prometheus.CounterValue, float64(a.resumes.Load()))
}
