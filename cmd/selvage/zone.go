package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/selvage-edge/selvage/client"
	"github.com/selvage-edge/selvage/cmd/selvage/internal/onboard"
	"github.com/selvage-edge/selvage/cmd/selvage/internal/table"
)

// codeZoneExists is the API's code for a name that is taken.
const codeZoneExists = 1061

func (a *app) zoneCommand() *cobra.Command {
	return group("zone", "Put sites behind the edge, list and remove them, set cache rules and topology", `A zone is a site by its domain name: its DNS records, settings, certificates and
rules. "zone add" makes one and points it at the server that holds the site.

  selvage zone add example.com --origin http://127.0.0.1:9000
  selvage zone list
  selvage zone cache-rules example.com rules.json
  selvage zone topology example.com smart
  selvage zone history example.com
  selvage zone delete example.com`, a.zoneAddCommand(), a.zoneListCommand(), a.cacheRulesCommand(), a.topologyCommand(), a.zoneDeleteCommand(), a.past().History(), a.past().Rollback())
}

func (a *app) zoneAddCommand() *cobra.Command {
	var origin string
	cmd := &cobra.Command{
		Use:   "add NAME --origin URL",
		Short: "Put a site behind the edge",
		Long: `Put a site behind the edge. It returns when every connected edge serves it, or
after 5 s with the names of those that do not yet (exit code 3).

The origin is the server that holds the site. With an address the names
NAME and www.NAME become A or AAAA records, with a name CNAME records, proxied
in each case: visitors see the edges' addresses, never the origin's. A port that
is not the scheme's own becomes an http_request_origin rule. http sets the zone's
ssl to flexible, https to full.

A site on this machine, while "selvage dev" runs (-v shows the API calls):

  selvage zone add example.com --origin http://127.0.0.1:9000 -v

A site on another server:

  selvage zone add example.com --origin https://192.0.2.10
  selvage zone add example.net --origin https://origin.example.org:8443`,
		Args: exactly(1, "the zone's name, such as example.com"),
	}
	c := a.connection(cmd)
	cmd.Flags().StringVar(&origin, "origin", "", "`URL` of the server that holds the site: scheme, host and maybe a port")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		name, err := onboard.ParseZone(args[0])
		if err != nil {
			return usage("%w", err)
		}
		if origin == "" {
			return usage("the origin is missing; say where the site is now with --origin http://ADDRESS:PORT")
		}
		o, err := onboard.ParseOrigin(origin)
		if err != nil {
			return usage("%w", err)
		}
		cl, err := c.client()
		if err != nil {
			return err
		}
		z, seq, err := onboard.Add(cmd.Context(), cl, name, o)
		if e, ok := errors.AsType[*client.Error](err); ok && e.Code() == codeZoneExists {
			return fmt.Errorf("zone %s is there already; change it by the API, or run \"selvage zone delete %[1]s\" and add it again: %w", name, err)
		}
		if err != nil {
			return err
		}
		who, err := wait(cmd.Context(), cl, seq, "zone "+name+" is made")
		if err != nil {
			return err
		}
		fmt.Fprintf(a.out, "zone %s is served by %s (seq %d, id %s)\n", name, who, seq, z.ID)
		return nil
	}
	return cmd
}

func (a *app) zoneListCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List zones",
		Long: `List the zones that the token may see.

  selvage zone list
  selvage zone list --json | jq -r '.[].name'`,
		Args: exactly(0, ""),
	}
	c := a.connection(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, with the API's names of fields")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cl, err := c.client()
		if err != nil {
			return err
		}
		zones, err := cl.Zones(cmd.Context())
		if err != nil {
			return err
		}
		return table.Print(a.out, asJSON, zones, []string{"NAME", "STATUS", "CREATED", "ID"}, func(z client.Zone) []string {
			return []string{z.Name, z.Status, z.Created.UTC().Format(time.DateTime), z.ID}
		})
	}
	return cmd
}

func (a *app) zoneDeleteCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "delete NAME",
		Short: "Remove a zone and everything in it",
		Long: `Remove a zone with its records, settings, certificates and rules, from every
edge. All but the certificates can come back, by the zone's identifier ("zone list"
shows it) and "selvage zone rollback", as long as history is kept.

  selvage zone delete example.com`,
		Args: exactly(1, "the zone's name, such as example.com"),
	}
	c := a.connection(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		cl, z, err := c.zone(cmd, args[0])
		if err != nil {
			return err
		}
		seq, err := cl.DeleteZone(cmd.Context(), z.ID)
		if err != nil {
			return err
		}
		who, err := wait(cmd.Context(), cl, seq, "zone "+z.Name+" is removed")
		if err != nil {
			return err
		}
		fmt.Fprintf(a.out, "zone %s is gone from %s (seq %d)\n", z.Name, who, seq)
		return nil
	}
	return cmd
}

// zone connects and finds the zone that a command is about.
func (c *connection) zone(cmd *cobra.Command, typed string) (*client.Client, client.Zone, error) {
	name, err := onboard.ParseZone(typed)
	if err != nil {
		return nil, client.Zone{}, usage("%w", err)
	}
	cl, err := c.client()
	if err != nil {
		return nil, client.Zone{}, err
	}
	z, err := findZone(cmd.Context(), cl, name)
	return cl, z, err
}
