package api

import (
	"cmp"
	"fmt"
	"math"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Quota is how many changes an account may make. Each call that asks for a change
// counts as one, also one that is refused or changes nothing; a batch is one call.
type Quota struct {
	Rate  float64 // changes a second, in the long run; 0 for DefaultQuotaRate, below 0 for no bound
	Burst int     // changes at once, after a pause; 0 for DefaultQuotaBurst
	Day   int     // changes in 24 hours, refilled evenly; 0 for no bound
}

// Defaults of Quota: more than all zones of a network change together.
const (
	DefaultQuotaRate  = 1000
	DefaultQuotaBurst = 10_000
)

// maxQuotas is how many accounts are told apart. Who makes no changes is
// forgotten, at the latest when as many others do.
const maxQuotas = 1 << 16

// Quotas counts the changes of each account, in this process alone. Safe for
// concurrent use; the zero value bounds nothing.
type Quotas struct {
	limits [2]limitOf
	now    func() time.Time

	mu       sync.Mutex
	accounts map[string]*[2]bucket // guarded by mu
}

type limitOf struct {
	rate, burst float64 // a second, at once; burst 0: no limit
	text        string
}

// countsAsChange reports whether a call is bounded by quotas: those that change
// zones. What an operator needs in an emergency never is.
func countsAsChange(method, path string) bool {
	return method != http.MethodGet && strings.HasPrefix(path, "/zones")
}

// bucket holds what an account may still do, as of a time.
type bucket struct {
	left float64
	at   time.Time
}

// NewQuotas makes the counters. now is nil for time.Now.
func NewQuotas(q Quota, now func() time.Time) *Quotas {
	if now == nil {
		now = time.Now
	}
	s := &Quotas{now: now, accounts: map[string]*[2]bucket{}}
	if q.Rate >= 0 {
		rate, burst := cmp.Or(q.Rate, DefaultQuotaRate), float64(cmp.Or(q.Burst, DefaultQuotaBurst))
		s.limits[0] = limitOf{rate, burst, fmt.Sprintf("%g changes a second (%g at once)", rate, burst)}
	}
	if q.Day > 0 {
		s.limits[1] = limitOf{float64(q.Day) / (24 * 3600), float64(q.Day), fmt.Sprintf("%d changes a day", q.Day)}
	}
	return s
}

// take counts one change of an account, or says when there is room for it.
func (s *Quotas) take(account string) error {
	if s == nil || s.limits == [2]limitOf{} {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	a := s.accounts[account]
	if a == nil {
		if len(s.accounts) >= maxQuotas {
			s.forget(now)
		}
		a = new([2]bucket)
		for i := range a {
			a[i] = bucket{s.limits[i].burst, now}
		}
		s.accounts[account] = a
	}
	for i := range a {
		l := &s.limits[i]
		a[i].fill(l, now)
		if l.burst > 0 && a[i].left < 1 {
			wait := math.Ceil((1 - a[i].left) / l.rate)
			return &Problem{Status: http.StatusTooManyRequests, Code: CodeQuotaRate, RetryAfter: int(max(1, wait)),
				Message: fmt.Sprintf("this account may make %s; try again in %d s", l.text, int(max(1, wait)))}
		}
	}
	for i := range a {
		if s.limits[i].burst > 0 {
			a[i].left--
		}
	}
	return nil
}

func (b *bucket) fill(l *limitOf, now time.Time) {
	if d := now.Sub(b.at); d > 0 {
		b.left = min(l.burst, b.left+d.Seconds()*l.rate)
	}
	b.at = now
}

// forgetLook is how many accounts are looked at to make room for one.
const forgetLook = 64

// forget drops accounts that have all they may have, of some that are looked at,
// else one of the others, whose count begins anew.
func (s *Quotas) forget(now time.Time) {
	some, looked := "", 0
	for name, a := range s.accounts { // in random order
		if looked++; looked > forgetLook {
			break
		}
		full := true
		for i := range a {
			a[i].fill(&s.limits[i], now)
			full = full && a[i].left >= s.limits[i].burst
		}
		if full {
			delete(s.accounts, name)
		} else {
			some = name
		}
	}
	if len(s.accounts) >= maxQuotas {
		delete(s.accounts, some)
	}
}
