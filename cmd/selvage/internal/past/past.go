// Package past has the commands about what was and what is switched off: a zone's
// history and rollback, and kill switches. It promises that nothing is taken back
// that was not shown before.
package past

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/selvage-edge/selvage/client"
	"github.com/selvage-edge/selvage/cmd/selvage/internal/table"
	"github.com/selvage-edge/selvage/internal/conf"
	"github.com/selvage-edge/selvage/zone"
)

// Kit is what commands need of the program around them.
type Kit struct {
	Out io.Writer
	// Client connects as the command's flags say, which Flags adds.
	Flags func(cmd *cobra.Command) (connect func() (*client.Client, error))
	// Find finds a zone by the name that was typed.
	Find func(ctx context.Context, cl *client.Client, typed string) (client.Zone, error)
	// Wait waits until the edges have a change and says who has it.
	Wait  func(ctx context.Context, cl *client.Client, seq uint64, done string) (who string, err error)
	Usage func(format string, args ...any) error
	Args  func(n int, want string) cobra.PositionalArgs
}

// zoneOf finds a zone by name, or takes an identifier, also of one that is gone.
func (k *Kit) zoneOf(ctx context.Context, cl *client.Client, typed string) (id, name string, err error) {
	if raw, err := hex.DecodeString(typed); err == nil && len(raw) == 16 {
		return typed, typed, nil
	}
	z, err := k.Find(ctx, cl, typed)
	return z.ID, z.Name, err
}

// History is "zone history".
func (k *Kit) History() *cobra.Command {
	var asJSON bool
	var limit int
	cmd := &cobra.Command{
		Use:   "history NAME",
		Short: "Show what was changed in a zone, when and by whom",
		Long: `Show a zone's changes, newest first: number, time, who made it (the id of a token,
or control for what happens by itself) and what it changed. A zone that is gone is
named by its identifier.

  selvage zone history example.com
  selvage zone history example.com -n 200 --json | jq '.changes[].action'`,
		Args: k.Args(1, "the zone's name, such as example.com"),
	}
	connect := k.Flags(cmd)
	cmd.Flags().IntVarP(&limit, "number", "n", 20, "show up to `N` changes, at most 1000")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, with the API's names of fields")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		cl, err := connect()
		if err != nil {
			return err
		}
		id, _, err := k.zoneOf(cmd.Context(), cl, args[0])
		if err != nil {
			return err
		}
		h, err := cl.History(cmd.Context(), id, limit)
		if err != nil {
			return err
		}
		if asJSON {
			enc := json.NewEncoder(k.Out)
			enc.SetEscapeHTML(false)
			enc.SetIndent("", "  ")
			return enc.Encode(h)
		}
		return table.Print(k.Out, false, h.Changes, []string{"SEQ", "TIME (UTC)", "ACTOR", "ACTION", "WHAT"}, func(p client.Past) []string {
			return []string{strconv.FormatUint(p.Seq, 10), p.Time.UTC().Format(time.DateTime), p.Actor[:min(8, len(p.Actor))], p.Action, summary(p.Changes, p.More, 3)}
		})
	}
	return cmd
}

// summary says the first changes in words.
func summary(parts []client.Part, more, most int) string {
	var said []string
	for i := range parts {
		if i == most {
			more += len(parts) - most
			break
		}
		said = append(said, sentence(&parts[i]))
	}
	if more > 0 {
		said = append(said, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(said, "; ")
}

// row is what sentences are made of, of rows of all kinds.
type row struct {
	Name, Type, Content, Value, Body, Status string
	Proxied, Paused                          bool
	TTL                                      uint32
	Hosts                                    []string
	Version                                  int64
}

func read(text json.RawMessage) *row {
	var r *row
	if json.Unmarshal(text, &r) != nil {
		return nil
	}
	return r
}

// sentence says what became of a row: "A www.example.com 192.0.2.1 → 192.0.2.2".
func sentence(p *client.Part) string {
	before, after := read(p.Before), read(p.After)
	what, id, _ := strings.Cut(p.Part, "/")
	word := id
	var say func(*row) string
	switch what {
	case "dns_records":
		if r := after; r != nil || before != nil {
			if r == nil {
				r = before
			}
			word = r.Type + " " + r.Name
		}
		say = func(r *row) string {
			text := fmt.Sprintf("%s ttl %d", short(r.Content), r.TTL)
			if r.Proxied {
				text += " proxied"
			}
			return text
		}
	case "settings":
		say = func(r *row) string { return short(r.Value) }
	case "rulesets":
		say = func(r *row) string { return fmt.Sprintf("version %d", r.Version) }
	case "custom_certificates":
		word, say = "certificate", func(r *row) string { return strings.Join(r.Hosts, " ") }
	default:
		word, say = "zone", func(r *row) string {
			if r.Paused {
				return r.Status + " paused"
			}
			return r.Status
		}
	}
	switch {
	case before == nil && after == nil:
		return word
	case before == nil:
		return "+ " + word + " " + say(after)
	case after == nil:
		return "- " + word + " " + say(before)
	}
	if a, b := say(before), say(after); a != b {
		return word + " " + a + " → " + b
	}
	return word + " changed"
}

// short keeps a text to one cell.
func short(text string) string {
	const most = 60
	if r := []rune(text); len(r) > most {
		return string(r[:most]) + "…"
	}
	return text
}

// Rollback is "zone rollback".
func (k *Kit) Rollback() *cobra.Command {
	var to uint64
	var dry, keep bool
	cmd := &cobra.Command{
		Use:   "rollback NAME --to SEQ",
		Short: "Give a zone an earlier state back",
		Long: `Give a zone its state as of an earlier change back: records, settings, rules and
certificates, with their identifiers, in one new change. --to is a number of
"selvage zone history", or any change's between. It is shown first what that changes;
when somebody else changes the zone meanwhile, nothing is done.

  selvage zone rollback example.com --to 1234 --dry-run
  selvage zone rollback example.com --to 1234

A certificate that was deleted or replaced since cannot come back, since its key
is erased: --keep-certificates leaves the zone's as they are. A zone that is gone
is named by its identifier.`,
		Args: k.Args(1, "the zone's name, such as example.com"),
	}
	connect := k.Flags(cmd)
	cmd.Flags().Uint64Var(&to, "to", 0, "number `SEQ` of the change whose state comes back")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only show what would change")
	cmd.Flags().BoolVar(&keep, "keep-certificates", false, "leave the zone's certificates as they are")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if to == 0 {
			return k.Usage("it is not said where to go back to; give --to SEQ, a number that \"selvage zone history %s\" shows", args[0])
		}
		cl, err := connect()
		if err != nil {
			return err
		}
		id, name, err := k.zoneOf(cmd.Context(), cl, args[0])
		if err != nil {
			return err
		}
		r := client.Rollback{To: to, Dry: true}
		if keep {
			r.Certificates = "keep"
		}
		plan, err := cl.Rollback(cmd.Context(), id, r)
		if err != nil {
			return err
		}
		if len(plan.Changes) == 0 {
			_, err := fmt.Fprintf(k.Out, "zone %s is as it was at %d: nothing to do\n", name, to)
			return err
		}
		var text bytes.Buffer
		for i := range plan.Changes {
			fmt.Fprintln(&text, "  "+table.Line(sentence(&plan.Changes[i])))
		}
		if plan.More > 0 {
			fmt.Fprintf(&text, "  and %d more\n", plan.More)
		}
		if _, err := k.Out.Write(text.Bytes()); err != nil || dry {
			return err
		}
		r.Dry, r.From = false, plan.From
		done, err := cl.Rollback(cmd.Context(), id, r)
		if err != nil {
			return err
		}
		who, err := k.Wait(cmd.Context(), cl, done.Seq, fmt.Sprintf("zone %s is as it was at %d", name, to))
		if err == nil {
			_, err = fmt.Fprintf(k.Out, "zone %s is as it was at %d on %s (seq %d)\n", name, to, who, done.Seq)
		}
		return err
	}
	return cmd
}

// Kill are the commands below "kill": list, set, clear.
func (k *Kit) Kill() []*cobra.Command {
	return []*cobra.Command{k.killList(), k.killSet(), k.killClear()}
}

func (k *Kit) killList() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the kill switches that are set",
		Long: `List the kill switches that are set: why, by whom, since when, until when.

  selvage kill list`,
		Args: k.Args(0, ""),
	}
	connect := k.Flags(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, with the API's names of fields")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cl, err := connect()
		if err != nil {
			return err
		}
		all, err := cl.Kills(cmd.Context())
		if err != nil {
			return err
		}
		names := map[string]string{}
		if slices.ContainsFunc(all, func(s client.Kill) bool { return strings.HasPrefix(s.Name, "zone/") }) && !asJSON {
			zones, err := cl.Zones(cmd.Context())
			if err != nil {
				return err
			}
			for _, z := range zones {
				names[zone.KillZone(z.ID)] = zone.KillZone(z.Name)
			}
		}
		return table.Print(k.Out, asJSON, all, []string{"SWITCH", "SINCE (UTC)", "UNTIL (UTC)", "BY", "REASON"}, func(s client.Kill) []string {
			name, until := s.Name, "-"
			if names[name] != "" {
				name = names[name]
			}
			if s.Expires != nil {
				until = s.Expires.UTC().Format(time.DateTime)
			}
			return []string{name, s.Since.UTC().Format(time.DateTime), until, s.By[:min(8, len(s.By))], s.Reason}
		})
	}
	return cmd
}

func (k *Kit) killSet() *cobra.Command {
	var reason string
	var life conf.Duration
	cmd := &cobra.Command{
		Use:   "set SWITCH --reason TEXT",
		Short: "Switch a part of the edge, or a zone, off everywhere",
		Long: `Switch a part of the edge off at every edge, or one zone (zone/NAME). With --for it
is on again after that time by itself.

  selvage kill set cache --reason "wrong variants served, incident 12" --for 2h
  selvage kill set zone/example.com --reason "phishing"

The switches:

` + names(),
		Args: k.Args(1, "the switch, such as cache or zone/example.com"),
	}
	connect := k.Flags(cmd)
	cmd.Flags().StringVar(&reason, "reason", "", "`TEXT` for those who find it set")
	cmd.Flags().Var(&life, "for", "after how long it clears itself (default never)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if strings.TrimSpace(reason) == "" {
			return k.Usage("the reason is missing; say it with --reason, for those who find the switch set")
		}
		return k.switched(cmd, connect, args[0], "off", func(cl *client.Client, name string) (uint64, error) {
			return cl.SetKill(cmd.Context(), name, reason, time.Duration(life))
		})
	}
	return cmd
}

// width is the longest line that a help text has.
const width = 96

func names() string {
	var b strings.Builder
	for _, s := range zone.KillTable {
		line := fmt.Sprintf("  %-13s", s.Name)
		for word := range strings.FieldsSeq(s.Doc) {
			if len(line)+1+len(word) > width {
				b.WriteString(line + "\n")
				line = strings.Repeat(" ", 15)
			}
			line += " " + word
		}
		b.WriteString(line + "\n")
	}
	b.WriteString("  zone/NAME     requests for that zone are answered 503")
	return b.String()
}

func (k *Kit) killClear() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "clear SWITCH",
		Short: "Switch it on again",
		Long: `Clear a kill switch at every edge.

  selvage kill clear cache
  selvage kill clear zone/example.com`,
		Args: k.Args(1, "the switch, such as cache or zone/example.com"),
	}
	connect := k.Flags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return k.switched(cmd, connect, args[0], "on again", func(cl *client.Client, name string) (uint64, error) {
			return cl.ClearKill(cmd.Context(), name)
		})
	}
	return cmd
}

// switched writes a switch and waits for the edges. A zone may be named or
// identified.
func (k *Kit) switched(cmd *cobra.Command, connect func() (*client.Client, error), name, now string, write func(*client.Client, string) (uint64, error)) error {
	cl, err := connect()
	if err != nil {
		return err
	}
	said := name
	if typed, ok := zone.KilledZone(name); ok {
		id, _, err := k.zoneOf(cmd.Context(), cl, typed)
		if err != nil {
			return err
		}
		name = zone.KillZone(id)
	}
	seq, err := write(cl, name)
	if err != nil {
		return err
	}
	who, err := k.Wait(cmd.Context(), cl, seq, said+" is "+now)
	if err == nil {
		_, err = fmt.Fprintf(k.Out, "%s is %s on %s (seq %d)\n", said, now, who, seq)
	}
	return err
}
