package settings

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/selvage-edge/selvage/client"
	"github.com/selvage-edge/selvage/cmd/selvage/internal/table"
	"github.com/selvage-edge/selvage/zone"
)

// Kit is what commands need of the program around them.
type Kit struct {
	Out io.Writer
	// Flags adds the flags that say where the API is, Rolls also the one that says
	// how a change goes out; both return what connects.
	Flags, Rolls func(cmd *cobra.Command) (connect func() (*client.Client, error))
	// Told waits until the edges have a change and says what was done.
	Told  func(cmd *cobra.Command, cl *client.Client, seq uint64, done string) error
	Usage func(format string, args ...any) error
	Args  func(n int, want string) cobra.PositionalArgs
}

// Defaults are the commands below "defaults": show, set, unset.
func (k *Kit) Defaults() []*cobra.Command {
	return []*cobra.Command{k.show(), k.set(), k.unset()}
}

func (k *Kit) show() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Show what settings are where zones have not set them",
		Long: `Show each setting that may have a default of the operator's: what it is for zones
that have not set it, whether the operator says so, and what is on its way through
the rings.

  selvage defaults show
  selvage defaults show --json | jq .settings`,
		Args: k.Args(0, "nothing"),
	}
	connect := k.Flags(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, with the API's names of fields")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cl, err := connect()
		if err != nil {
			return err
		}
		d, err := cl.Defaults(cmd.Context())
		if err != nil {
			return err
		}
		if asJSON {
			enc := json.NewEncoder(k.Out)
			enc.SetIndent("", "  ")
			return enc.Encode(d)
		}
		return k.print(&d)
	}
	return cmd
}

func (k *Kit) print(d *client.Defaults) error {
	var all []*zone.Setting
	for i := range zone.SettingTable {
		if s := &zone.SettingTable[i]; !s.Own {
			all = append(all, s)
		}
	}
	return table.Print(k.Out, false, all, []string{"NAME", "VALUE", "FROM", "STAGED"}, func(s *zone.Setting) []string {
		from, staged := "selvage", "-"
		if _, said := d.Settings[s.Name]; said {
			from = "operator"
		}
		if d.Staged != nil {
			if next := Text(d.Staged.Settings.Value(s.Name)); next != Text(d.Settings.Value(s.Name)) {
				staged = fmt.Sprintf("%s by stage %d", next, d.Staged.Stage)
			}
		}
		return []string{s.Name, Text(d.Settings.Value(s.Name)), from, staged}
	})
}

func (k *Kit) set() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "set NAME VALUE",
		Short: "Give a setting a default",
		Long: `Say what a setting is for each zone that has not set it. It goes by rings: the
canaries have it when this returns, "selvage rollout list" shows the rest of its
way. With --rollout all it is everywhere at once.

  selvage defaults set min_tls_version 1.3
  selvage defaults set browser_cache_ttl 14400 --rollout all`,
		Args: k.Args(2, "the setting's name and its value"),
	}
	connect := k.Rolls(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		value, err := Value(args[0], args[1])
		if err != nil {
			return k.Usage("%w", err)
		}
		text, err := json.Marshal(value)
		if err != nil {
			return err
		}
		return k.change(cmd, connect, fmt.Sprintf("the default of %s is %s", args[0], args[1]), func(s zone.Settings) { s[args[0]] = text })
	}
	return cmd
}

func (k *Kit) unset() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "unset NAME",
		Short: "Take a default back",
		Long: `Take the operator's default of a setting back, which then is what it is without:
docs/reference/settings.md. It goes by rings, as "set" does.

  selvage defaults unset min_tls_version
  selvage defaults unset min_tls_version --rollout all`,
		Args: k.Args(1, "the setting's name"),
	}
	connect := k.Rolls(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		d := zone.FindSetting(args[0])
		if d == nil {
			return k.Usage("no setting is called %q; \"selvage defaults show\" shows those that are", args[0])
		}
		return k.change(cmd, connect, fmt.Sprintf("the default of %s is %s, its own", d.Name, Text(json.RawMessage(d.Default))), func(s zone.Settings) { delete(s, d.Name) })
	}
	return cmd
}

// changeTries is how often a change is made anew because another one was faster.
const changeTries = 5

func (k *Kit) change(cmd *cobra.Command, connect func() (*client.Client, error), done string, fn func(zone.Settings)) error {
	cl, err := connect()
	if err != nil {
		return err
	}
	for try := 1; ; try++ {
		d, err := cl.Defaults(cmd.Context())
		if err != nil {
			return err
		}
		next := zone.Settings{}
		maps.Copy(next, d.Settings)
		fn(next)
		_, seq, err := cl.PutDefaults(cmd.Context(), client.Defaults{Seq: d.Seq, Settings: next})
		if refused, ok := errors.AsType[*client.Error](err); ok && refused.Status == http.StatusConflict && d.Staged == nil && try < changeTries {
			continue
		}
		if err != nil {
			return err
		}
		return k.Told(cmd, cl, seq, done)
	}
}
