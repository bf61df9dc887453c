package selvage

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/selvage-edge/selvage/control/progress"
)

// where counts data centers: one has something when each of its nodes has it.
type where struct {
	colos map[string]*missingColo
}

// missingColo is a data center that lacks something.
type missingColo struct {
	Colo string `json:"colo"`
	// Since is since when: since a node of it is not connected; while all are,
	// since the entry that it lacks.
	Since time.Time `json:"since"`
	// Nodes is how many of Of nodes lack it, Connected how many of those are
	// connected.
	Nodes     int    `json:"nodes"`
	Of        int    `json:"of"`
	Connected int    `json:"connected"`
	Reason    string `json:"reason,omitempty"` // of a rejection
}

func (w *where) colo(n *progress.Node) *missingColo {
	if w.colos == nil {
		w.colos = map[string]*missingColo{}
	}
	c := w.colos[n.Colo]
	if c == nil {
		c = &missingColo{Colo: n.Colo}
		w.colos[n.Colo] = c
	}
	c.Of++
	return c
}

func (w *where) has(n *progress.Node) { w.colo(n) }

func (w *where) rejected(n *progress.Node, why string) {
	c := w.colo(n)
	c.Nodes++
	c.Connected += one(n.Connected)
	c.Reason = cmp.Or(c.Reason, why)
}

// lacks counts a node that lacks an entry of that time.
func (w *where) lacks(n *progress.Node, at time.Time) {
	c := w.colo(n)
	c.Nodes++
	c.Connected += one(n.Connected)
	if !n.Connected {
		at = since(n)
	}
	if c.Since.IsZero() || at.Before(c.Since) {
		c.Since = at
	}
}

func one(b bool) int {
	if b {
		return 1
	}
	return 0
}

// sum returns how many data centers have it, of how many, and which have not,
// those first that lack it longest.
func (w *where) sum() (live, total int, missing []missingColo) {
	missing = []missingColo{}
	for _, c := range w.colos {
		if c.Nodes > 0 {
			missing = append(missing, *c)
		}
	}
	slices.SortFunc(missing, func(a, b missingColo) int {
		return cmp.Or(cmp.Compare(a.Reason, b.Reason), a.Since.Compare(b.Since), cmp.Compare(a.Colo, b.Colo))
	})
	return len(w.colos) - len(missing), len(w.colos), missing
}

// maxNamed is how many data centers the text names.
const maxNamed = 5

// text says it in a sentence: "live in 329 of 330, missing FRA since 12:03:04 UTC".
func (w *where) text(word string, now time.Time) string {
	live, total, missing := w.sum()
	if total == 0 {
		return "no edge has joined yet"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s in %d of %d", word, live, total)
	said := ""
	for i, c := range missing {
		if i == maxNamed {
			fmt.Fprintf(&b, " and %d more", len(missing)-i)
			break
		}
		verb, rest := "missing", ""
		switch {
		case c.Reason != "":
			verb, rest = "rejected by", ": "+c.Reason
		case !c.Since.IsZero():
			rest = " since " + clock(c.Since, now)
		}
		if verb != said {
			b.WriteString(", " + verb)
			said = verb
		} else {
			b.WriteString(",")
		}
		b.WriteString(" " + c.Colo)
		if c.Nodes < c.Of {
			fmt.Fprintf(&b, " (%d of %d nodes)", c.Nodes, c.Of)
		}
		b.WriteString(rest)
	}
	return b.String()
}

// clock is a time of today, or a date as well.
func clock(t, now time.Time) string {
	t = t.UTC()
	if d := now.Sub(t); d < 24*time.Hour && t.YearDay() == now.UTC().YearDay() {
		return t.Format(time.TimeOnly) + " UTC"
	}
	return t.Format(time.DateTime) + " UTC"
}
