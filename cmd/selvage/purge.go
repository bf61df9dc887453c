package main

import (
	"fmt"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/selvage-edge/selvage/zone"
)

func (a *app) purgeCommand() *cobra.Command {
	var p zone.Purge
	cmd := &cobra.Command{
		Use:   "purge ZONE [--url URL ... | --everything]",
		Short: "Drop cached objects from every edge",
		Long: `Drop cached objects of a zone from every edge, so that the next visitor gets them
fresh from the origin. It returns when every connected edge has acknowledged, or
after 5 s with the names of those that have not (exit code 3).

  selvage purge example.com --url https://example.com/news.html --url https://example.com/site.css
  selvage purge example.com --everything`,
		Args: exactly(1, "the zone's name, such as example.com"),
	}
	c := a.connection(cmd)
	cmd.Flags().StringArrayVar(&p.Files, "url", nil, "URL of an object to drop; may repeat")
	cmd.Flags().BoolVar(&p.Everything, "everything", false, "drop all cached objects of the zone")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := checkPurge(p); err != nil {
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
		done := fmt.Sprintf("%d URLs of %s are purged", len(p.Files), z.Name)
		if p.Everything {
			done = "the whole cache of " + z.Name + " is purged"
		} else if len(p.Files) == 1 {
			done = "one URL of " + z.Name + " is purged"
		}
		who, err := wait(cmd.Context(), cl, seq, done)
		if err != nil {
			return err
		}
		fmt.Fprintf(a.out, "%s on %s (seq %d)\n", done, who, seq)
		return nil
	}
	return cmd
}

func checkPurge(p zone.Purge) error {
	switch {
	case p.Everything && len(p.Files) > 0:
		return usage("--everything and --url exclude each other; give one of them")
	case !p.Everything && len(p.Files) == 0:
		return usage("it is not said what to purge; give --url URL (it may repeat) or --everything")
	case len(p.Files) > zone.MaxPurgeFiles:
		return usage("%d URLs are too many for one purge; give at most %d, or --everything", len(p.Files), zone.MaxPurgeFiles)
	}
	for _, f := range p.Files {
		if u, err := url.Parse(f); err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
			return usage("%q is no URL; give it whole, such as https://example.com/news.html", f)
		}
	}
	return nil
}
