package edge

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/selvage-edge/selvage/feed"
	"github.com/selvage-edge/selvage/telemetry/report"
)

// openTrail opens where audit events wait for the control plane. An edge whose
// disk does not give it serves on, and says so.
func (e *Edge) openTrail() {
	spool, err := feed.OpenSpool(filepath.Join(e.cfg.State, "audit"), feed.SpoolOptions{Bytes: e.cfg.AuditBytes})
	if err != nil {
		e.log.Error("audit events have no place to wait; they are lost until a restart", "err", err)
	}
	e.spool = spool
	e.up = feed.NewUp(spool)
	if spool == nil {
		return
	}
	for _, damage := range spool.Damage() {
		e.log.Error("audit events on disk are damaged and lost", "what", damage)
		e.audit(report.Audit{Action: "audit.damaged", Detail: damage})
	}
	e.audit(report.Audit{Action: "edge.start", Object: e.identity.NodeID})
}

// audit keeps what happened until the control plane has it. What cannot be kept
// is logged whole, counted, and told with the edge's health.
func (e *Edge) audit(all ...report.Audit) {
	texts := make([][]byte, len(all))
	err := errors.New("the spool is not open")
	for i, a := range all {
		var bad error
		if texts[i], bad = a.Encode(); bad != nil {
			e.log.Error("an audit event cannot be written", "event", a, "err", bad)
			return
		}
	}
	if e.spool != nil {
		err = e.spool.Add(texts...)
	}
	if err == nil {
		return
	}
	for _, text := range texts {
		e.log.Error("an audit event is lost", "event", string(text), "err", err)
	}
}

// auditRejects tells of zones and lists that became unusable, or usable again,
// since the last time.
func (e *Edge) auditRejects() {
	const at = 100 // are written at a time
	for all := e.rejects.news(); len(all) > 0; all = all[min(len(all), at):] {
		e.audit(all[:min(len(all), at)]...)
	}
}

// news are the changes since it was asked last, those that were undone meanwhile
// left out.
func (r *rejects) news() (all []report.Audit) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for about, was := range r.changed {
		now, bad := r.of[about]
		switch {
		case bad && now.Reason != was:
			all = append(all, report.Audit{Action: "config.rejected", Object: about, Seq: now.Seq, Detail: now.Reason})
		case !bad && was != "":
			all = append(all, report.Audit{Action: "config.recovered", Object: about})
		}
	}
	clear(r.changed)
	return all
}

// auditDamage tells that the copy was replaced.
func (e *Edge) auditDamage(moved string, cause error) {
	e.audit(report.Audit{Action: "copy.replaced", Object: moved, Detail: fmt.Sprint(cause)})
}
