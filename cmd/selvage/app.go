package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
)

// app is the program without its process: tests run it with their own streams.
type app struct {
	out, err   io.Writer
	getenv     func(string) string
	environ    []string
	executable func() (string, error)
	version    string
}

const rootHelp = `Selvage puts a website behind an edge of your own: DNS, TLS, cache and origin
connection, configured through an API and pushed to every edge in a moment.

Start everything on this machine, with a demo site:

  selvage dev

Then, in a second terminal, put your own site behind it:

  selvage zone add example.com --origin http://127.0.0.1:9000
  selvage zone list
  selvage dns list example.com
  selvage purge example.com --everything
  selvage settings list example.com
  selvage feed status

Commands that speak to the API take --api URL --token T, or SELVAGE_API and
SELVAGE_TOKEN, or --state DIR of a running "selvage dev" (without any of them:
$SELVAGE_STATE, else .state/dev below the current folder).

Exit codes: 0 done, 1 failed, 2 wrong usage or input, 3 done but not
acknowledged by every edge within 5 s, 4 refused by the API, 5 the API cannot be
reached.`

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:           "selvage",
		Short:         "An edge network of your own",
		Long:          rootHelp,
		Version:       a.version,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          noCommand,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetVersionTemplate("selvage {{.Version}}\n")
	root.SetOut(a.out)
	root.SetErr(a.err)
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usage("%w; \"%s --help\" shows an example", err, cmd.CommandPath())
	})
	root.AddCommand(a.devCommand(), a.edgeCommand(), a.controlCommand(), a.dbCommand(), a.zoneCommand(), a.dnsCommand(), a.purgeCommand(), a.settingsCommand(), a.defaultsCommand(), a.feedCommand(), a.auditCommand(), a.killCommand(), a.ringsCommand(), a.rolloutCommand(), a.demoOriginCommand())
	return root
}

// run executes one command line and returns the exit code.
func (a *app) run(ctx context.Context, args []string) int {
	root := a.root()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	fmt.Fprintln(a.err, "selvage: "+sentence(explain(err)))
	return exitCode(err)
}

// sentence puts an error on one line.
func sentence(err error) string {
	return strings.Join(strings.FieldsFunc(err.Error(), func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
}

func (a *app) logger(level slog.Level) *slog.Logger {
	return slog.New(slog.NewTextHandler(a.err, &slog.HandlerOptions{Level: level}))
}

// adoptLog gives what libraries write to Go's own log the form of ours: quic-go
// tells there, once, that the UDP buffers are smaller than it wants.
func (a *app) adoptLog() {
	slog.SetLogLoggerLevel(slog.LevelWarn)
	slog.SetDefault(a.logger(slog.LevelInfo))
}

// noCommand refuses words that are no command, naming the nearest one.
func noCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	hint := ""
	cmd.SuggestionsMinimumDistance = 2
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		hint = fmt.Sprintf("did you mean %q? ", near[0])
	}
	return usage("%q is no command of %s; %s\"%[2]s --help\" lists them", args[0], cmd.CommandPath(), hint)
}

// group is a command that only holds others.
func group(use, short, long string, below ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Long: long, Args: noCommand, RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(below...)
	return cmd
}

// exactly wants a fixed number of arguments, which want names.
func exactly(n int, want string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == n {
			return nil
		}
		if n == 0 {
			return usage("%q is one word too many; \"%s --help\" shows an example", args[0], cmd.CommandPath())
		}
		return usage("%d instead of %d words are given; say %s; \"%s --help\" shows an example", len(args), n, want, cmd.CommandPath())
	}
}

// between wants one of two numbers of arguments, least or most = least+1.
func between(least, most int, want string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) >= least && len(args) <= most {
			return nil
		}
		return usage("%d instead of %d or %d words are given; say %s; \"%s --help\" shows an example", len(args), least, most, want, cmd.CommandPath())
	}
}

// versionText is the version that the build gave, else what Go recorded.
func versionText(built string) string {
	info, ok := debug.ReadBuildInfo()
	if built == "" && ok {
		built = info.Main.Version
	}
	if built == "" {
		built = "unknown"
	}
	if ok {
		built += " " + info.GoVersion
	}
	return built
}
