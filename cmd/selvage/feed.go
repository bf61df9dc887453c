package main

import (
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/selvage-edge/selvage/cmd/selvage/internal/auditlog"
	"github.com/selvage-edge/selvage/cmd/selvage/internal/feedstatus"
	"github.com/selvage-edge/selvage/cmd/selvage/internal/table"
)

func (a *app) feedCommand() *cobra.Command {
	return group("feed", "See how far changes have come", `Each change has a number, which the command that made it printed, and each edge
tells the newest number that it has.

  selvage feed status
  selvage feed status 1234`, a.feedStatusCommand())
}

func (a *app) killCommand() *cobra.Command {
	return group("kill", "Switch a part of the edge, or a zone, off everywhere", `A kill switch is for the hour in which something does harm.

  selvage kill set cache --reason "wrong variants served, incident 12" --for 2h
  selvage kill list
  selvage kill clear cache`, a.past().Kill()...)
}

func (a *app) feedStatusCommand() *cobra.Command {
	var once, watch, asJSON bool
	cmd := &cobra.Command{
		Use:   "status [SEQ]",
		Short: "Show where each edge stands, or how far one change has come",
		Long: `Show where each edge stands: whether it is connected and since when, the newest
change that it has, how far behind that is, and why it is not healthy. Those in
trouble come first. On a terminal the table refreshes each second until
Ctrl-C, elsewhere it is printed once; --watch and --once say otherwise.

  selvage feed status
  selvage feed status --once
  selvage feed status --json | jq '.nodes[] | select(.lag_seconds > 3)'

With a change's number, show which edges do not have it. A table that refreshes
ends when every edge has it. The exit code is 3 while a connected edge lacks it.

  selvage feed status 1234
  selvage feed status 1234 --watch`,
		Args: between(0, 1, "at most a change's number"),
	}
	c := a.connection(cmd)
	cmd.Flags().BoolVar(&once, "once", false, "print the table once, also on a terminal")
	cmd.Flags().BoolVar(&watch, "watch", false, "refresh the table, also elsewhere than on a terminal")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, once, with the API's names of fields")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if once && watch || asJSON && watch {
			return usage("--watch excludes --once and --json; give one of them")
		}
		seq := uint64(0)
		if len(args) == 1 {
			var err error
			if seq, err = strconv.ParseUint(args[0], 10, 64); err != nil || seq == 0 {
				return usage("%q is no number of a change; commands that change something print it, as in (seq 1234)", args[0])
			}
		}
		cl, err := c.client()
		if err != nil {
			return err
		}
		s := feedstatus.Status{Client: cl, Seq: seq, Out: a.out}
		s.Rows, s.Cols = table.TerminalSize(a.out)
		if asJSON {
			return s.JSON(cmd.Context())
		}
		lacking, err := s.Show(cmd.Context(), watch || s.Rows > 0 && !once)
		if err == nil && lacking > 0 {
			err = &codedError{exitMissing, fmt.Errorf("change %d is not everywhere: %d of the connected edges lack it", seq, lacking)}
		}
		return err
	}
	return cmd
}

func (a *app) auditCommand() *cobra.Command {
	l := auditlog.List{Out: a.out}
	cmd := l.Command()
	cmd.Args, l.Client = exactly(0, ""), a.connection(cmd).client
	return cmd
}
