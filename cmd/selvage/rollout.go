package main

import (
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/selvage-edge/selvage/client"
	"github.com/selvage-edge/selvage/cmd/selvage/internal/rollouts"
)

func (a *app) ringsCommand() *cobra.Command {
	var asJSON bool
	var canaries []string
	var share int
	var canaryHold, shareHold time.Duration
	cmd := &cobra.Command{
		Use:   "rings [--canary COLO ...] [--share PERCENT] [--canary-hold TIME] [--share-hold TIME]",
		Short: "Show or set which data centers get a change first",
		Long: `Show who gets a change first that goes by rings: the canaries, then a share of
the other data centers, then all; and how long it stays in a ring. A flag changes
what it names, for changes that begin from now on.

  selvage rings
  selvage rings --canary FRA --canary NRT --share 10 --canary-hold 10m --share-hold 30m`,
		Args: exactly(0, "nothing"),
	}
	c := a.connection(cmd)
	f := cmd.Flags()
	f.StringArrayVar(&canaries, "canary", nil, "a data center of the first ring by its colo code (`COLO`); may repeat, replaces all that were")
	f.IntVar(&share, "share", 0, "which part of the others is the second ring, in `PERCENT`")
	f.DurationVar(&canaryHold, "canary-hold", 0, "how long a change stays with the canaries (`TIME`, such as 10m)")
	f.DurationVar(&shareHold, "share-hold", 0, "how long it stays with the share")
	f.BoolVar(&asJSON, "json", false, "print JSON, with the API's names of fields")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cl, err := c.client()
		if err != nil {
			return err
		}
		r, err := cl.Rings(cmd.Context())
		if err != nil {
			return err
		}
		change := false
		for name, set := range map[string]func(){
			"canary":      func() { r.Canaries = canaries },
			"share":       func() { r.Share = share },
			"canary-hold": func() { r.CanaryHold = int(canaryHold / time.Second) },
			"share-hold":  func() { r.ShareHold = int(shareHold / time.Second) },
		} {
			if f.Changed(name) {
				set()
				change = true
			}
		}
		if change {
			if r, _, err = cl.PutRings(cmd.Context(), r); err != nil {
				return err
			}
		}
		return rollouts.Rings(a.out, asJSON, r)
	}
	return cmd
}

func (a *app) rolloutCommand() *cobra.Command {
	release := func(cl *client.Client, cmd *cobra.Command, n uint64, ring, reason string) (client.Rollout, uint64, error) {
		return cl.Release(cmd.Context(), n, ring, reason)
	}
	halt := func(cl *client.Client, cmd *cobra.Command, n uint64, _, reason string) (client.Rollout, uint64, error) {
		return cl.Halt(cmd.Context(), n, reason)
	}
	return group("rollout", "See, release and halt changes that go by rings", `A change that is made with --rollout rings is a stage: the canaries serve it
first, and it goes on by itself, or is halted by itself when they fare worse.

  selvage settings set example.com ssl strict --rollout rings
  selvage rollout list
  selvage rollout show 7
  selvage rollout halt 7 --reason "customers complain"`,
		a.rolloutListCommand(), a.rolloutShowCommand(),
		a.rolloutOrderCommand("release", "Let the next ring have a change now", `Let the next ring have a change before its time, or the one that --ring names.

  selvage rollout release 7
  selvage rollout release 7 --ring all --reason "it is urgent"`, release),
		a.rolloutOrderCommand("halt", "Take a change back", `Take a change back: who has it serves again what was before.

  selvage rollout halt 7 --reason "customers complain"`, halt))
}

func (a *app) rolloutListCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List changes that go by rings, or went",
		Long: `List the newest changes that go by rings, or went; those on their way first.

  selvage rollout list
  selvage rollout list --json`,
		Args: exactly(0, "nothing"),
	}
	c := a.connection(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, with the API's names of fields")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cl, err := c.client()
		if err != nil {
			return err
		}
		all, err := cl.Rollouts(cmd.Context())
		if err != nil {
			return err
		}
		return rollouts.List(a.out, asJSON, all)
	}
	return cmd
}

func (a *app) rolloutShowCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show STAGE",
		Short: "Show one change that goes by rings, with all its steps",
		Long: `Show how far a change has come, what it changes, and each step with who took it
and why.

  selvage rollout show 7
  selvage rollout show 7 --json | jq .steps`,
		Args: exactly(1, "a stage's number"),
	}
	c := a.connection(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, with the API's names of fields")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		n, cl, err := c.stage(args[0])
		if err != nil {
			return err
		}
		r, err := cl.Rollout(cmd.Context(), n)
		if err != nil {
			return err
		}
		return rollouts.Show(a.out, asJSON, r)
	}
	return cmd
}

// stage reads a stage's number and connects.
func (c *connection) stage(text string) (uint64, *client.Client, error) {
	n, err := strconv.ParseUint(text, 10, 63)
	if err != nil || n == 0 {
		return 0, nil, usage("%q is no number of a stage; \"selvage rollout list\" shows those there are", text)
	}
	cl, err := c.client()
	return n, cl, err
}

type rolloutOrder func(cl *client.Client, cmd *cobra.Command, n uint64, ring, reason string) (client.Rollout, uint64, error)

func (a *app) rolloutOrderCommand(use, short, long string, do rolloutOrder) *cobra.Command {
	var ring, reason string
	cmd := &cobra.Command{Use: use + " STAGE", Short: short, Long: long, Args: exactly(1, "a stage's number")}
	c := a.connection(cmd)
	if use == "release" {
		cmd.Flags().StringVar(&ring, "ring", "", "the `RING` that gets it: share or all (default the next one)")
	}
	cmd.Flags().StringVar(&reason, "reason", "", "`TEXT` for those who look at it later")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		n, cl, err := c.stage(args[0])
		if err != nil {
			return err
		}
		r, seq, err := do(cl, cmd, n, ring, reason)
		if err != nil {
			return err
		}
		return a.told(cmd, cl, seq, fmt.Sprintf("stage %d is %s", n, r.Text))
	}
	return cmd
}
