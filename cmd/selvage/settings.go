package main

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/selvage-edge/selvage/internal/conf"
)

// fileFlags are flags that a configuration file cannot hold.
var fileFlags = []string{"config", "help"}

// withFile adds --config to a command and, before it runs, reads the file into
// the flags that were not given on the command line: a flag wins.
func withFile(cmd *cobra.Command, run func(cmd *cobra.Command) error) {
	var path string
	cmd.Flags().StringVar(&path, "config", "", "YAML `FILE` of settings; the keys are the flags' names with _ for -; a flag wins")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if path != "" {
			if err := conf.Load(path, fileSettings(cmd.Flags())); err != nil {
				return usage("configuration: %w", err)
			}
		}
		return run(cmd)
	}
}

func fileSettings(flags *pflag.FlagSet) []conf.Setting {
	var all []conf.Setting
	flags.VisitAll(func(f *pflag.Flag) {
		if slices.Contains(fileFlags, f.Name) {
			return
		}
		given := f.Changed
		all = append(all, conf.Setting{
			Key:  settingKey(f.Name),
			List: strings.HasSuffix(f.Value.Type(), ",..."),
			Set: func(value string) error {
				if given {
					return nil
				}
				return f.Value.Set(value)
			},
		})
	})
	return all
}

func settingKey(flag string) string { return strings.ReplaceAll(flag, "-", "_") }
