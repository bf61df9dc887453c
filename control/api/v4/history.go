package v4

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/selvage-edge/selvage/control/api"
	"github.com/selvage-edge/selvage/control/publish"
	"github.com/selvage-edge/selvage/control/store"
	"github.com/selvage-edge/selvage/fault"
)

const (
	// maxParts is how many rows of one change an answer shows.
	maxParts = 100
	// historyLimit and maxHistory are how many changes one answer has.
	historyLimit, maxHistory = 50, 1000
)

// partResult is what a change did to one row.
type partResult struct {
	Part   string `json:"part"`   // zone, settings/NAME, dns_records/ID, rulesets/PHASE, custom_certificates/ID
	Before any    `json:"before"` // a row of store.Difference
	After  any    `json:"after"`
}

type pastResult struct {
	Seq     uint64       `json:"seq"` // 0: it waits for its number
	Time    time.Time    `json:"time"`
	Actor   string       `json:"actor"` // id of a token, or control
	Action  string       `json:"action"`
	Object  string       `json:"object"`
	Changes []partResult `json:"changes"`
	More    int          `json:"more,omitempty"` // changes that are not shown
}

type historyResult struct {
	Zone string `json:"zone_id"`
	// Floor is the oldest number whose state is kept, where older ones are not.
	Floor   uint64       `json:"floor"`
	Changes []pastResult `json:"changes"` // newest first
}

// parts lists what differs, up to maxParts.
type parts struct {
	all  []partResult
	more int
}

// orNull keeps a pointer to nothing from becoming something.
func orNull[R any](row *R) any {
	if row == nil {
		return nil
	}
	return row
}

func partsOf(d *store.Difference) *parts {
	p := &parts{all: []partResult{}}
	if d.Zone != nil {
		add(p, "zone", map[string]*store.Sides[store.ZoneRow]{"": d.Zone})
	}
	add(p, "settings/", d.Settings)
	add(p, "dns_records/", d.Records)
	add(p, "rulesets/", d.Rulesets)
	add(p, "custom_certificates/", d.Certificates)
	return p
}

func add[R any](p *parts, prefix string, rows map[string]*store.Sides[R]) {
	for _, id := range slices.Sorted(maps.Keys(rows)) {
		if len(p.all) == maxParts {
			p.more++
			continue
		}
		p.all = append(p.all, partResult{prefix + id, orNull(rows[id].Before), orNull(rows[id].After)})
	}
}

// getHistory lists a zone's changes, also of a zone that is gone.
func (s *Server) getHistory(ctx context.Context, c *api.Call) (api.Answer, error) {
	id, err := pathID(c, "zone")
	if err != nil {
		return api.Answer{}, err
	}
	limit, before, err := historyPage(c)
	if err != nil {
		return api.Answer{}, err
	}
	out := historyResult{Zone: id, Changes: []pastResult{}}
	known := false
	err = s.Store.Read(ctx, func(tx *store.Tx) error {
		m, err := tx.ZoneMeta(ctx, id)
		if err == nil {
			known = true
			err = owned(c, m.Account)
		} else if fault.Is(err, fault.NotFound) {
			err = nil
		}
		if err != nil {
			return err
		}
		if out.Floor, err = tx.HistoryFloor(ctx); err != nil {
			return err
		}
		return tx.History(ctx, id, before, func(p *store.Past) (bool, error) {
			known = true
			if err := owned(c, p.Account); err != nil {
				return false, err
			}
			if len(out.Changes) == limit {
				return false, nil
			}
			shown := partsOf(p.Diff)
			out.Changes = append(out.Changes, pastResult{p.Seq, p.Created, p.Actor, p.Action, p.Object, shown.all, shown.more})
			return true, nil
		})
	})
	if err == nil && !known {
		err = owned(c, "")
	}
	return api.Answer{Result: out}, err
}

func historyPage(c *api.Call) (limit int, before uint64, err error) {
	q := c.URL.Query()
	limit = historyLimit
	if text := q.Get("limit"); text != "" {
		if limit, err = strconv.Atoi(text); err != nil || limit < 1 || limit > maxHistory {
			return 0, 0, api.Invalid(api.CodeBadRequest, "limit", "must be a whole number from 1 to %d, got %.40q", maxHistory, text)
		}
	}
	if text := q.Get("before"); text != "" {
		if before, err = strconv.ParseUint(text, 10, 63); err != nil || before == 0 {
			return 0, 0, api.Invalid(api.CodeBadRequest, "before", "must be the number of a change, got %.40q", text)
		}
	}
	return limit, before, nil
}

type rollbackResult struct {
	Zone    string       `json:"zone_id"`
	To      uint64       `json:"to"`
	From    uint64       `json:"from"` // the zone's newest change before it
	Seq     uint64       `json:"seq"`  // of the new entry; 0 for a dry run
	Changes []partResult `json:"changes"`
	More    int          `json:"more,omitempty"`
}

// rollbackZone gives a zone its state as of an earlier entry back.
func (s *Server) rollbackZone(ctx context.Context, c *api.Call) (api.Answer, error) {
	id, err := pathID(c, "zone")
	if err != nil {
		return api.Answer{}, err
	}
	var in struct {
		To           *uint64 `json:"to"`
		From         uint64  `json:"from"`
		Certificates string  `json:"certificates"`
		Dry          bool    `json:"dry_run"`
	}
	if err := api.DecodeAll(c, &in); err != nil {
		return api.Answer{}, err
	}
	if in.To == nil || *in.To == 0 {
		return api.Answer{}, api.Invalid(api.CodeBadRequest, "to", "must be the number of a change, as the zone's history shows them")
	}
	if in.Certificates != "" && in.Certificates != "keep" {
		return api.Answer{}, api.Invalid(api.CodeBadRequest, "certificates", "must be keep or absent, got %.40q", in.Certificates)
	}
	done, err := s.Publish.Rollback(ctx, id, publish.Action{Actor: c.Token.ID, Name: "zone.rollback", Object: id}, publish.Rollback{
		To: *in.To, From: in.From, Keep: in.Certificates != "", Dry: in.Dry, Own: func(account string) error { return owned(c, account) },
	})
	if err != nil {
		return api.Answer{}, cannotRollBack(err)
	}
	s.timer()
	shown := partsOf(done.Diff)
	return api.Answer{Result: rollbackResult{id, *in.To, done.From, done.Seq, shown.all, shown.more}, Seq: done.Seq}, nil
}

// cannotRollBack is the API's form of why a zone cannot go back.
func cannotRollBack(err error) error {
	if e, ok := errors.AsType[*publish.Erased](err); ok {
		return &api.Problem{Status: http.StatusConflict, Code: api.CodeConflict, Message: "certificates: " + e.Error() + ` ("certificates": "keep")`}
	}
	switch {
	case errors.Is(err, store.ErrNoHistory):
		return api.Missing(api.CodeInvalidZone, "zone_id: no zone has this identifier")
	case errors.Is(err, store.ErrForgotten):
		return &api.Problem{Status: http.StatusGone, Code: api.CodeForgotten, Message: "to: " + err.Error()}
	case errors.Is(err, publish.ErrNotThen):
		return &api.Problem{Status: http.StatusConflict, Code: api.CodeConflict, Message: "to: " + err.Error()}
	case fault.Is(err, fault.Malformed):
		return api.Invalid(api.CodeBadRequest, "to", "%s", errors.Unwrap(fault.As(err)))
	}
	return api.Judged(err, api.CodeConflict)
}
