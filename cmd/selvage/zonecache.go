package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/selvage-edge/selvage/client"
	"github.com/selvage-edge/selvage/fault"
	"github.com/selvage-edge/selvage/zone"
)

// cachePhase is the ruleset of cache rules.
const cachePhase = "http_request_cache_settings"

func (a *app) cacheRulesCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cache-rules ZONE [FILE]",
		Short: "Show or replace a zone's cache rules",
		Long: `Show a zone's cache rules, or replace all of them by those in FILE ("-" is
standard input): {"rules":[…]}, as Cloudflare's API takes them. One rule that is
wrong is named, and nothing is changed.

  selvage zone cache-rules example.com
  selvage zone cache-rules example.com rules.json`,
		Args: between(1, 2, "the zone's name, and maybe a file"),
	}
	c := a.connection(cmd).rolls(cmd, client.RolloutAll)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var rules json.RawMessage
		if len(args) == 2 {
			var err error
			if rules, err = readRules(cmd.InOrStdin(), args[1]); err != nil {
				return usage("%w", err)
			}
		}
		cl, z, err := c.zone(cmd, args[0])
		if err != nil {
			return err
		}
		if rules != nil {
			seq, err := cl.PutEntrypoint(cmd.Context(), z.ID, cachePhase, rules)
			if err != nil {
				return err
			}
			return a.told(cmd, cl, seq, "the cache rules of "+z.Name+" are replaced")
		}
		body, err := cl.Entrypoint(cmd.Context(), z.ID, cachePhase)
		if fault.Is(err, fault.NotFound) {
			body, err = json.RawMessage(`{"rules":[]}`), nil
		}
		if err != nil {
			return err
		}
		var shown struct {
			Rules json.RawMessage `json:"rules"`
		}
		if err := json.Unmarshal(body, &shown); err != nil {
			return err
		}
		var out bytes.Buffer
		if err := json.Indent(&out, append(append([]byte(`{"rules":`), shown.Rules...), '}'), "", "  "); err != nil {
			return err
		}
		fmt.Fprintln(a.out, out.String())
		return nil
	}
	return cmd
}

// readRules reads a ruleset from a file; "-" is in.
func readRules(in io.Reader, file string) (json.RawMessage, error) {
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	text, err := io.ReadAll(io.LimitReader(in, zone.MaxRulesetBytes+1))
	switch {
	case err != nil:
		return nil, err
	case len(text) > zone.MaxRulesetBytes:
		return nil, fmt.Errorf("%s has more than %d bytes", file, zone.MaxRulesetBytes)
	case !json.Valid(text):
		return nil, fmt.Errorf("%s is not JSON; it should hold {\"rules\":[…]}", file)
	}
	return text, nil
}

func (a *app) topologyCommand() *cobra.Command {
	var t zone.Topology
	cmd := &cobra.Command{
		Use:   "topology ZONE [flat | smart | custom --parent COLO ...] [--regional]",
		Short: "Show or set which data centers stand before the origin",
		Long: `Show or set a zone's topology: flat (each data center asks the origin itself),
smart (one upper tier, chosen by measured latency to the origin) or custom (the
first of the data centers you name that is up).

  selvage zone topology example.com
  selvage zone topology example.com smart --regional
  selvage zone topology example.com custom --parent FRA --parent AMS`,
		Args: between(1, 2, "the zone's name, and maybe a mode"),
	}
	c := a.connection(cmd).rolls(cmd, client.RolloutAll)
	cmd.Flags().StringArrayVar(&t.Parents, "parent", nil, "an upper tier by its colo code (`COLO`); may repeat")
	cmd.Flags().BoolVar(&t.Regional, "regional", false, "ask a data center of the own region first")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 2 {
			t.Mode = args[1]
			if err := t.Check(); err != nil {
				return usage("%w; \"%s --help\" shows an example", err, cmd.CommandPath())
			}
		} else if len(t.Parents) > 0 || t.Regional {
			return usage("--parent and --regional go with a mode: flat, smart or custom")
		}
		cl, z, err := c.zone(cmd, args[0])
		if err != nil {
			return err
		}
		if len(args) == 2 {
			seq, err := cl.PutTopology(cmd.Context(), z.ID, t)
			if err != nil {
				return err
			}
			return a.told(cmd, cl, seq, "the topology of "+z.Name+" is "+topologyText(t))
		}
		now, err := cl.Topology(cmd.Context(), z.ID)
		if err != nil {
			return err
		}
		fmt.Fprintln(a.out, topologyText(now))
		return nil
	}
	return cmd
}

func topologyText(t zone.Topology) string {
	text := t.Mode
	if len(t.Parents) > 0 {
		text += " over " + strings.Join(t.Parents, ", ")
	}
	if t.Regional {
		text += ", regional"
	}
	return text
}
