package main

import (
	"bytes"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/selvage-edge/selvage/internal/conf"
)

// defaults that are not the flag's own text, or none at all.
var noDefault = map[string]string{
	"peer_advertise": "its own address", "region": "none",
	"join": "no default", "peer": "no default", "relay": "no default", "allow_origins": "no default", "geoip": "no default", "name_server": "given by control",
}

var commented = regexp.MustCompile(`(?m)^#([a-z_]+:.*(?:\n#  - .*)*)$`)

// TestSampleFilesHaveEachSetting keeps deploy/*.yaml complete and true: with
// the comments of their settings taken away they load, name every flag, and
// show the defaults.
func TestSampleFilesHaveEachSetting(t *testing.T) {
	a := &app{getenv: func(string) string { return "" }}
	for file, make := range map[string]func() *cobra.Command{
		"../../deploy/edge.yaml":    a.edgeCommand,
		"../../deploy/control.yaml": a.controlCommand,
	} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := conf.Parse(file, text, fileSettings(make().Flags())); err != nil {
			t.Errorf("as it is: %v", err)
		}
		whole := commented.ReplaceAllFunc(text, func(b []byte) []byte {
			return bytes.ReplaceAll(bytes.TrimPrefix(b, []byte("#")), []byte("\n#"), []byte("\n"))
		})
		cmd := make()
		defaults := map[string]string{}
		cmd.Flags().VisitAll(func(f *pflag.Flag) { defaults[settingKey(f.Name)] = f.DefValue })
		if err := conf.Parse(file, whole, fileSettings(cmd.Flags())); err != nil {
			t.Fatalf("with every setting: %v", err)
		}
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			key := settingKey(f.Name)
			if key == "config" || key == "help" {
				return
			}
			if !regexp.MustCompile(`(?m)^` + key + `:`).Match(whole) {
				t.Errorf("%s does not show %s", file, key)
			}
			shownDefault := regexp.MustCompile(`(?m)^#` + key + `:`).Match(text)
			if shownDefault && noDefault[key] == "" && f.Value.String() != defaults[key] {
				t.Errorf("%s shows %s: %s as the default, which is %s", file, key, f.Value, defaults[key])
			}
		})
	}
}

func TestFlagWinsOverFile(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/edge.yaml", []byte("colo: FRA\ncache_bytes: 1GiB\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := &cobra.Command{Use: "edge", SilenceErrors: true, SilenceUsage: true}
	f := defineEdge(cmd)
	withFile(cmd, func(*cobra.Command) error { return nil })
	cmd.SetArgs([]string{"--config", dir + "/edge.yaml", "--colo", "NRT"})
	if err := cmd.ExecuteContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	if f.config.Colo != "NRT" || f.cacheBytes != 1<<30 {
		t.Errorf("colo %s, cache_bytes %s; want NRT of the flag and 1GiB of the file", f.config.Colo, f.cacheBytes)
	}
}

func TestEveryCommandTeaches(t *testing.T) {
	a := &app{getenv: func(string) string { return "" }}
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		if !strings.Contains(c.Long, "\n\n  selvage ") {
			t.Errorf("%s: the help has no worked example", c.CommandPath())
		}
		if c.Short == "" || strings.HasSuffix(c.Short, ".") {
			t.Errorf("%s: short text %q", c.CommandPath(), c.Short)
		}
		for _, line := range strings.Split(c.Long, "\n") {
			if len(line) > 100 {
				t.Errorf("%s: line of %d bytes: %s", c.CommandPath(), len(line), line)
			}
		}
		for _, below := range c.Commands() {
			walk(below)
		}
	}
	walk(a.root())
}

// TestReferenceHasEachCommand keeps the table of docs/reference/cli.md whole:
// each command with the flags that are its own. Those of edge and control stand
// in deploy/*.yaml, those of dev in its help.
func TestReferenceHasEachCommand(t *testing.T) {
	text, err := os.ReadFile("../../docs/reference/cli.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]string{}
	for line := range strings.Lines(string(text)) {
		for _, m := range regexp.MustCompile("`(selvage [a-z -]+[a-z])").FindAllStringSubmatch(line, -1) {
			if strings.HasPrefix(line, "| `") {
				rows[strings.TrimSuffix(m[1], " --join")] += line
			}
		}
	}
	common := map[string]bool{"api": true, "token": true, "state": true, "verbose": true, "json": true, "rollout": true, "help": true}
	seen := 0
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		for _, below := range cmd.Commands() {
			walk(below)
		}
		if cmd.Hidden || !cmd.Runnable() || len(cmd.Commands()) > 0 && cmd.Name() != "control" {
			return
		}
		seen++
		row := rows[cmd.CommandPath()]
		if row == "" {
			t.Errorf("docs/reference/cli.md has no row of %s", cmd.CommandPath())
			return
		}
		if cmd.Parent() == cmd.Root() && cmd.Name() != "purge" {
			return // edge, control and dev
		}
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if !common[f.Name] && !strings.Contains(row, "--"+f.Name) {
				t.Errorf("docs/reference/cli.md does not tell of --%s of %s", f.Name, cmd.CommandPath())
			}
		})
	}
	a := &app{getenv: func(string) string { return "" }}
	walk(a.root())
	if seen < 14 {
		t.Errorf("only %d commands found", seen)
	}
}
