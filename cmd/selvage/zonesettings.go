package main

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/selvage-edge/selvage/client"
	"github.com/selvage-edge/selvage/cmd/selvage/internal/table"
	"github.com/selvage-edge/selvage/zone"
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
			return []string{s.ID, settingText(s.Value)}
		})
	}
	return cmd
}

// settingText is a value as "settings set" takes it.
func settingText(value json.RawMessage) string {
	var text string
	var list []string
	switch {
	case json.Unmarshal(value, &text) == nil:
		return text
	case json.Unmarshal(value, &list) == nil:
		return strings.Join(list, ",")
	}
	return string(value)
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
	c := a.connection(cmd).rolls(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		value, err := settingValue(args[1], args[2])
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

// settingValue reads a value as the setting has it.
func settingValue(name, typed string) (any, error) {
	d := zone.FindSetting(name)
	if d == nil {
		return nil, fmt.Errorf("no setting is called %q; \"selvage settings list ZONE\" shows those that are", name)
	}
	var value any = typed
	switch {
	case d.List != nil:
		value = []string{}
		if typed != "" {
			value = strings.Split(typed, ",")
		}
	case d.Object != nil:
		if err := d.Check(json.RawMessage(typed)); err != nil {
			return nil, err
		}
		value = json.RawMessage(typed)
	case d.Values == nil:
		n, err := strconv.Atoi(typed)
		if err != nil {
			return nil, fmt.Errorf("%s is a whole number of %s from %d to %d, not %q", name, d.Unit, d.Min, d.Max, typed)
		}
		value = n
	}
	text, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	return value, d.Check(text)
}
