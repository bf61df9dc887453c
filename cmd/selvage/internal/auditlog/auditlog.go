// Package auditlog shows people the audit trail. It promises time order, the
// newest last, and nothing twice.
package auditlog

import (
	"cmp"
	"context"
	"io"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/selvage-edge/selvage/client"
	"github.com/selvage-edge/selvage/cmd/selvage/internal/table"
	"github.com/selvage-edge/selvage/internal/conf"
)

// List is what is asked for.
type List struct {
	Out    io.Writer
	Client func() (*client.Client, error)

	node  string
	since conf.Duration
	limit uint
	json  bool
}

// Command is `selvage audit`, but for the flags of the connection.
func (l *List) Command() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Show who changed what, and what befell the edges",
		Long: `Show the newest events of the audit trail, the newest last: changes with who made
them, and what edges tell of themselves: starts and stops, configuration that they
could not use, a damaged copy. An edge that is away tells it when it is back.

  selvage audit
  selvage audit --since 24h --limit 1000
  selvage audit --node 6e6f64652d3030303030303030303031 --json`,
		RunE: func(cmd *cobra.Command, _ []string) error { return l.print(cmd.Context()) },
	}
	cmd.Flags().StringVar(&l.node, "node", "", "only of this edge, or about it, an `ID` as \"selvage feed status --json\" shows it")
	cmd.Flags().Var(&l.since, "since", "only of so long ago or later")
	cmd.Flags().UintVar(&l.limit, "limit", 50, "`N` events at most; 0 for all")
	cmd.Flags().BoolVar(&l.json, "json", false, "print JSON with the API's names of fields")
	return cmd
}

// page is how much is asked for at a time.
const page = 1000

// print asks for the newest events, page by page, and writes them.
func (l *List) print(ctx context.Context) error {
	c, err := l.Client()
	if err != nil {
		return err
	}
	limit := int(min(cmp.Or(l.limit, math.MaxInt), math.MaxInt))
	var all []client.AuditEvent
	q := client.AuditQuery{Node: l.node}
	if l.since > 0 {
		q.Since = time.Now().Add(-time.Duration(l.since))
	}
	for len(all) < limit {
		q.Limit = min(page, limit-len(all))
		events, next, err := c.Audit(ctx, q)
		if err != nil {
			return err
		}
		all = append(all, events...)
		if next == "" {
			break
		}
		q.Before = next
	}
	slices.Reverse(all)
	return table.Print(l.Out, l.json, all, []string{"TIME (UTC)", "WHO", "ACTION", "OBJECT", "SEQ", "DETAIL"}, func(e client.AuditEvent) []string {
		who, seq := e.Actor, "-"
		if e.Colo != "" {
			who = e.Colo + " " + e.Node
		}
		if e.Seq > 0 {
			seq = strconv.FormatUint(e.Seq, 10)
		}
		return []string{e.At.UTC().Format(time.DateTime), who, e.Action, cmp.Or(e.Object, "-"), seq, cmp.Or(e.Detail, "-")}
	})
}
