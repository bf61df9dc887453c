package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/selvage-edge/selvage/client"
	"github.com/selvage-edge/selvage/cmd/selvage/internal/table"
	"github.com/selvage-edge/selvage/zone"
)

func (a *app) dnsCommand() *cobra.Command {
	return group("dns", "List, import and export a zone's DNS records", `The records that the edges answer with, as authoritative servers of the zone.

  selvage dns list example.com
  selvage dns import example.com example.com.zone
  selvage dns export example.com > backup.zone`, a.dnsListCommand(), a.dnsImportCommand(), a.dnsExportCommand())
}

func (a *app) dnsListCommand() *cobra.Command {
	var asJSON bool
	var filter client.RecordFilter
	cmd := &cobra.Command{
		Use:   "list ZONE",
		Short: "List a zone's records",
		Long: `List a zone's records. A proxied one answers with the edges' addresses instead of
its content.

  selvage dns list example.com
  selvage dns list example.com --type MX
  selvage dns list example.com --json`,
		Args: exactly(1, "the zone's name, such as example.com"),
	}
	c := a.connection(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, with the API's names of fields")
	cmd.Flags().StringVar(&filter.Type, "type", "", "only records of this `TYPE`, such as A")
	cmd.Flags().StringVar(&filter.Name, "name", "", "only records of this full `NAME`")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		cl, z, err := c.zone(cmd, args[0])
		if err != nil {
			return err
		}
		records, err := cl.Records(cmd.Context(), z.ID, filter)
		if err != nil {
			return err
		}
		return table.Print(a.out, asJSON, records, []string{"NAME", "TYPE", "TTL", "PROXIED", "CONTENT"}, func(r zone.Record) []string {
			return []string{r.Name, r.Type, ttl(r.TTL), onOff(r.Proxied), content(r)}
		})
	}
	return cmd
}

func ttl(seconds uint32) string {
	if seconds == 1 {
		return "auto"
	}
	return strconv.FormatUint(uint64(seconds), 10)
}

func content(r zone.Record) string {
	if r.Priority != nil { // MX, SRV
		return fmt.Sprintf("%d %s", *r.Priority, r.Content)
	}
	return r.Content
}

func (a *app) dnsImportCommand() *cobra.Command {
	var proxied bool
	cmd := &cobra.Command{
		Use:   "import ZONE FILE",
		Short: "Add the records of a zone file",
		Long: `Add the records of a zone file (RFC 1035 master file, as other providers export
it); "-" reads standard input. All of them are added or none. With --proxied
those of type A, AAAA and CNAME go through the edge.

  selvage dns import example.com example.com.zone
  selvage dns import example.com - --proxied < example.com.zone`,
		Args: exactly(2, "the zone's name and a zone file, such as: example.com example.com.zone"),
	}
	c := a.connection(cmd).rolls(cmd, client.RolloutAll)
	cmd.Flags().BoolVar(&proxied, "proxied", false, "send visitors of A, AAAA and CNAME records through the edge")
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		file := cmd.InOrStdin()
		if args[1] != "-" {
			f, err := os.Open(args[1])
			if err != nil {
				return usage("zone file cannot be read: %w; give the path of a file, or - for standard input", err)
			}
			defer func() { err = errors.Join(err, f.Close()) }()
			if info, err := f.Stat(); err != nil || info.IsDir() {
				return usage("%s is no zone file; give the path of a file, or - for standard input", args[1])
			}
			file = f
		}
		cl, z, err := c.zone(cmd, args[0])
		if err != nil {
			return err
		}
		added, seq, err := cl.Import(cmd.Context(), z.ID, file, proxied)
		if err != nil {
			return err
		}
		return a.told(cmd, cl, seq, fmt.Sprintf("%d of %d records are added to %s", added.Added, added.Parsed, z.Name))
	}
	return cmd
}

func (a *app) dnsExportCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "export ZONE",
		Short: "Print a zone's records as a zone file",
		Long: `Print a zone's records as a zone file, with the contents that were given, not
with what proxied names answer.

  selvage dns export example.com > example.com.zone`,
		Args: exactly(1, "the zone's name, such as example.com"),
	}
	c := a.connection(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		cl, z, err := c.zone(cmd, args[0])
		if err != nil {
			return err
		}
		text, err := cl.Export(cmd.Context(), z.ID)
		if err != nil {
			return err
		}
		_, err = a.out.Write(text)
		return err
	}
	return cmd
}
