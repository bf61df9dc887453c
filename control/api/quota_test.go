package api

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestQuotas(t *testing.T) {
	now := time.Unix(1000, 0)
	s := NewQuotas(Quota{Rate: 2, Burst: 3, Day: 10}, func() time.Time { return now })
	take := func(account string, n int) (ok int, last *Problem) {
		for range n {
			if err := s.take(account); err == nil {
				ok++
			} else if p, is := errors.AsType[*Problem](err); is {
				last = p
			}
		}
		return ok, last
	}
	if ok, p := take("a", 5); ok != 3 || p.Status != 429 || p.RetryAfter != 1 || !strings.Contains(p.Message, "2 changes a second (3 at once)") {
		t.Errorf("at once: %d, %+v", ok, p)
	}
	if ok, _ := take("b", 1); ok != 1 {
		t.Error("another account pays for the first")
	}
	now = now.Add(time.Second)
	if ok, _ := take("a", 5); ok != 2 {
		t.Errorf("a second later: %d, want 2", ok)
	}
	now = now.Add(time.Minute)
	if ok, _ := take("a", 5); ok != 3 {
		t.Errorf("after a pause: %d, want the burst of 3", ok)
	}
	now = now.Add(time.Minute)
	if ok, p := take("a", 5); ok != 2 || !strings.Contains(p.Message, "10 changes a day") || p.RetryAfter < 8000 || p.RetryAfter > 8640 {
		t.Errorf("the tenth of a day: %d, %+v", ok, p)
	}
	now = now.Add(-time.Hour) // the clock was set back
	if ok, _ := take("a", 1); ok != 0 {
		t.Error("a clock that is set back gives room")
	}
}

func TestQuotasOfManyAccountsAreBounded(t *testing.T) {
	now := time.Unix(1000, 0)
	s := NewQuotas(Quota{Rate: 1, Burst: 2}, func() time.Time { return now })
	for i := range maxQuotas + 1000 {
		if err := s.take(fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	if len(s.accounts) > maxQuotas {
		t.Errorf("%d accounts are kept, at most %d may be", len(s.accounts), maxQuotas)
	}
	now = now.Add(time.Minute)
	if err := s.take("new"); err != nil || len(s.accounts) != maxQuotas-forgetLook+1 {
		t.Errorf("after a pause %d accounts are kept (%v), want %d", len(s.accounts), err, maxQuotas-forgetLook+1)
	}
}

func TestNoQuota(t *testing.T) {
	s := NewQuotas(Quota{Rate: -1}, nil)
	for range 3 * DefaultQuotaBurst {
		if err := s.take("a"); err != nil {
			t.Fatal(err)
		}
	}
	if (*Quotas)(nil).take("a") != nil || new(Quotas).take("a") != nil {
		t.Error("no quotas refuse")
	}
}

func BenchmarkQuota(b *testing.B) {
	s := NewQuotas(Quota{Rate: 1e9, Burst: 1e9}, nil)
	b.ReportAllocs()
	for b.Loop() {
		if err := s.take("account"); err != nil {
			b.Fatal(err)
		}
	}
}
