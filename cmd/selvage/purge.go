package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/selvage-edge/selvage/cmd/selvage/internal/onboard"
	"github.com/selvage-edge/selvage/zone"
)

func (a *app) purgeCommand() *cobra.Command {
	var p zone.Purge
	cmd := &cobra.Command{
		Use:   "purge ZONE [--url URL | --tag TAG | --prefix HOST/PATH | --host HOST ... | --everything | --reserve]",
		Short: "Drop cached objects from every edge",
		Long: `Drop cached objects of a zone from every edge, so that the next visitor gets them
fresh from the origin. It returns when every connected edge has acknowledged, or
after 5 s with the names of those that have not (exit code 3).

  selvage purge example.com --url https://example.com/news.html --url https://example.com/site.css
  selvage purge example.com --tag news --tag front-page
  selvage purge example.com --prefix www.example.com/img
  selvage purge example.com --host shop.example.com
  selvage purge example.com --everything

With --soft they stay and count as stale: the next visitor makes the edge ask the
origin whether they are still good, and gets the stale one where its
stale-while-revalidate says so, or while the origin fails.

  selvage purge example.com --tag news --soft

--reserve clears what the cache reserve has of the zone and leaves the rest.`,
		Args: exactly(1, "the zone's name, such as example.com"),
	}
	c := a.connection(cmd)
	flags := cmd.Flags()
	flags.StringArrayVar(&p.Files, "url", nil, "`URL` of an object to drop; may repeat")
	flags.StringArrayVar(&p.Tags, "tag", nil, "drop what the origin gave this Cache-Tag (`TAG`); may repeat")
	flags.StringArrayVar(&p.Prefixes, "prefix", nil, "drop what is at or below this host and path (`HOST/PATH`); may repeat")
	flags.StringArrayVar(&p.Hosts, "host", nil, "drop all of this `HOST`; may repeat")
	flags.BoolVar(&p.Everything, "everything", false, "drop all cached objects of the zone")
	flags.BoolVar(&p.Reserve, "reserve", false, "drop what the cache reserve has of the zone, and nothing else")
	flags.BoolVar(&p.Soft, "soft", false, "make them stale instead")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := checkPurge(args[0], p); err != nil {
			return err
		}
		cl, z, err := c.zone(cmd, args[0])
		if err != nil {
			return err
		}
		seq, err := cl.Purge(cmd.Context(), z.ID, p)
		if err != nil {
			return err
		}
		done := purged(z.Name, p)
		who, err := wait(cmd.Context(), cl, seq, done)
		if err != nil {
			return err
		}
		fmt.Fprintf(a.out, "%s on %s (seq %d)\n", done, who, seq)
		return nil
	}
	return cmd
}

// purged says what was done.
func purged(zoneName string, p zone.Purge) string {
	verb := "purged"
	if p.Soft {
		verb = "stale"
	}
	named := len(p.Tags) + len(p.Prefixes) + len(p.Hosts)
	switch {
	case p.Reserve:
		return "the cache reserve of " + zoneName + " is cleared"
	case p.Everything:
		return "the whole cache of " + zoneName + " is " + verb
	case named == 0 && len(p.Files) == 1:
		return "one URL of " + zoneName + " is " + verb
	case named == 0:
		return fmt.Sprintf("%d URLs of %s are %s", len(p.Files), zoneName, verb)
	}
	var parts []string
	for _, of := range [...]struct {
		n    int
		kind string
	}{{len(p.Files), "URL"}, {len(p.Tags), "tag"}, {len(p.Prefixes), "prefix"}, {len(p.Hosts), "host"}} {
		switch of.n {
		case 0:
		case 1:
			parts = append(parts, "1 "+of.kind)
		default:
			parts = append(parts, fmt.Sprintf("%d %s", of.n, plural(of.kind)))
		}
	}
	return fmt.Sprintf("what %s has under %s is %s", zoneName, strings.Join(parts, ", "), verb)
}

func plural(kind string) string {
	if kind == "prefix" {
		return "prefixes"
	}
	return kind + "s"
}

func checkPurge(typed string, p zone.Purge) error {
	switch {
	case p.Empty():
		return usage("it is not said what to purge; give --url URL, --tag, --prefix or --host (they may repeat), --everything or --reserve")
	case p.Reserve && (p.Everything || p.Soft || len(p.Files)+len(p.Tags)+len(p.Prefixes)+len(p.Hosts) > 0):
		return usage("--reserve excludes all else; give one or the other")
	case p.Everything && len(p.Files)+len(p.Tags)+len(p.Prefixes)+len(p.Hosts) > 0:
		return usage("--everything excludes --url, --tag, --prefix and --host; give one or the other")
	}
	name, err := onboard.ParseZone(typed)
	if err != nil {
		return usage("%w", err)
	}
	if err := p.Check(name); err != nil {
		field, why, _ := strings.Cut(err.Error(), ": ")
		list, _, _ := strings.Cut(field, "[")
		flag := map[string]string{"files": "--url", "tags": "--tag", "prefixes": "--prefix", "hosts": "--host"}[list]
		return usage("%s: %s", flag, why)
	}
	return nil
}
