package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/selvage-edge/selvage/client"
	"github.com/selvage-edge/selvage/cmd/selvage/internal/settings"
	"github.com/selvage-edge/selvage/cmd/selvage/internal/table"
)

func (a *app) settingsCommand() *cobra.Command {
	return group("settings", "List and change a zone's settings", `A setting is one switch of a zone. "list" shows all of them with their values,
docs/reference/settings.md says what each does.

  selvage settings list example.com
  selvage settings set example.com cache_level simplified
  selvage settings set example.com browser_cache_ttl 14400`, a.settingsListCommand(), a.settingsSetCommand())
}

func (a *app) settingsListCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list ZONE",
		Short: "List settings and their values",
		Long: `List a zone's settings.

  selvage settings list example.com
  selvage settings list example.com --json`,
		Args: exactly(1, "the zone's name, such as example.com"),
	}
	c := a.connection(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, with the API's names of fields")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		cl, z, err := c.zone(cmd, args[0])
		if err != nil {
			return err
		}
		all, err := cl.Settings(cmd.Context(), z.ID)
		if err != nil {
			return err
		}
		return table.Print(a.out, asJSON, all, []string{"NAME", "VALUE"}, func(s client.Setting) []string {
			return []string{s.ID, settings.Text(s.Value)}
		})
	}
	return cmd
}

func (a *app) settingsSetCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "set ZONE NAME VALUE",
		Short: "Change one setting",
		Long: `Change one setting of a zone. It returns when every connected edge has it, or
after 5 s with the names of those that do not (exit code 3). A list is written
with commas.

  selvage settings set example.com always_use_https on
  selvage settings set example.com tiered_cache_parents FRA,AMS
  selvage settings set example.com ssl strict --rollout rings`,
		Args: exactly(3, "the zone's name, the setting's and its value"),
	}
	c := a.connection(cmd).rolls(cmd, client.RolloutAll)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		value, err := settings.Value(args[1], args[2])
		if err != nil {
			return usage("%w", err)
		}
		cl, z, err := c.zone(cmd, args[0])
		if err != nil {
			return err
		}
		seq, err := cl.PatchSetting(cmd.Context(), z.ID, args[1], value)
		if err != nil {
			return err
		}
		return a.told(cmd, cl, seq, fmt.Sprintf("%s of %s is %s", args[1], z.Name, args[2]))
	}
	return cmd
}

// told waits for the edges and says what was done.
func (a *app) told(cmd *cobra.Command, cl *client.Client, seq uint64, done string) error {
	who, err := wait(cmd.Context(), cl, seq, done)
	if err != nil {
		return err
	}
	if n := cl.Stage(); n > 0 {
		fmt.Fprintf(a.out, "%s by rings, as stage %d (seq %d); \"selvage rollout show %[2]d\" tells how far it is\n", done, n, seq)
		return nil
	}
	fmt.Fprintf(a.out, "%s on %s (seq %d)\n", done, who, seq)
	return nil
}

func (a *app) defaultsCommand() *cobra.Command {
	k := &settings.Kit{Out: a.out, Told: a.told, Usage: usage, Args: exactly,
		Flags: func(cmd *cobra.Command) func() (*client.Client, error) { return a.connection(cmd).client },
		Rolls: func(cmd *cobra.Command) func() (*client.Client, error) {
			return a.connection(cmd).rolls(cmd, client.RolloutRings).client
		},
	}
	return group("defaults", "What settings are where zones have not set them", `The operator's defaults: what a setting is for each zone that has not set it. A
change of them meets all zones, so it goes by rings unless it is told not to.

  selvage defaults show
  selvage defaults set min_tls_version 1.3
  selvage defaults unset min_tls_version --rollout all`, k.Defaults()...)
}
