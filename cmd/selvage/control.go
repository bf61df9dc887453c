package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/spf13/cobra"

	"github.com/selvage-edge/selvage/control"
	"github.com/selvage-edge/selvage/control/api"
	"github.com/selvage-edge/selvage/control/publish"
	"github.com/selvage-edge/selvage/control/store"
	"github.com/selvage-edge/selvage/internal/conf"
	"github.com/selvage-edge/selvage/internal/inherit"
)

const (
	maxDrain = 30 * time.Second
	// A log that is shorter would send an edge a whole copy after each pause.
	minRetainBytes = 16 << 20
	minRetainFor   = time.Minute
	// Below, frames cost more than they bring; above, users wait.
	minGather = time.Millisecond
	maxGather = time.Second
)

func (a *app) controlCommand() *cobra.Command {
	var cfg control.Config
	nameServers := conf.NewStrings("NAME,...")
	drain, wait, retainFor, historyFor := conf.Duration(30*time.Second), conf.Duration(30*time.Second), conf.Duration(7*24*time.Hour), conf.Duration(publish.DefaultHistory)
	retainBytes := conf.Size(1 << 30)
	gather, gatherNumbers := conf.Duration(control.DefaultGather), conf.Duration(publish.DefaultGather)
	cmd := &cobra.Command{
		Use:   "control",
		Short: "Run the control plane",
		Long: `Run the control plane: the API that accepts changes, and the feed that sends them
to every edge. Its state is one folder with an embedded database, or with --db
a PostgreSQL beside it ("selvage db copy" moves from one to the other).

  selvage control --state /var/lib/selvage/control --api 127.0.0.1:8787 --feed :7843

The first start makes an API token and writes it to the file "token" in --state.
When it is ready it writes control.json there. Edges join with a token of their
own, which "selvage control token --join" makes. Instead of flags, a file
(deploy/control.yaml shows each setting):

  selvage control --config /etc/selvage/control.yaml

The API speaks plain http: let it listen on a private address, or behind a proxy
that ends TLS. SIGTERM lets calls in flight finish, for at most 30 s.`,
		Args: exactly(0, ""),
	}
	fl := cmd.Flags()
	fl.StringVar(&cfg.State, "state", "", "`DIR` for the database, keys and control.json")
	fl.StringVar(&cfg.Database, "db", "", "PostgreSQL (15 or newer) to keep everything in, as postgres://USER@HOST/NAME; empty for a file in --state")
	fl.StringVar(&cfg.API, "api", "127.0.0.1:8787", "listen `ADDR` for the API, /metrics, /healthz and /readyz")
	fl.StringVar(&cfg.Feed, "feed", ":7843", "listen `ADDR` for edges")
	fl.BoolVar(&cfg.AutoCertificate, "auto-certificate", false, "give each zone a certificate of this state folder's own CA; for trying things out")
	fl.Var(&wait, "certificate-wait", "how long a new certificate waits for connected edges that do not have it yet, before edges serve it; at most 10m")
	fl.Var(nameServers, "name-server", "names of the edges' DNS, for new zones (default ns1.selvage.invalid and ns2); may repeat")
	fl.IntVar(&cfg.Retain, "retain", 100_000, "`N` entries that the feed's log keeps; an edge that is further behind gets a whole copy")
	fl.Var(&retainBytes, "retain-bytes", "`SIZE` of the feed's log in all, as its entries are encoded")
	fl.Var(&retainFor, "retain-for", "how long the feed's log keeps an entry at most")
	fl.IntVar(&cfg.HistoryChanges, "history-changes", publish.DefaultHistoryChanges, "`N` changes of all zones that their history and the audit trail keep")
	fl.Var(&historyFor, "history-for", "how long zones' history and the audit trail keep a change at most")
	fl.Var(&gather, "gather", "least time between two batches that the feed sends, from 1ms to 1s; purges do not wait for it")
	fl.Var(&gatherNumbers, "gather-numbers", "how long a change waits for others to be numbered with, from 1ms to 1s; purges do not")
	fl.Float64Var(&cfg.Quota.Rate, "quota-rate", api.DefaultQuotaRate, "`N` changes a second that one account may make; below 0 for no bound")
	fl.IntVar(&cfg.Quota.Burst, "quota-burst", api.DefaultQuotaBurst, "`N` of them at once, after a pause")
	fl.IntVar(&cfg.Quota.Day, "quota-day", 0, "`N` changes a day that one account may make; 0 for no bound")
	fl.Var(&drain, "drain-timeout", "how long calls in flight may finish after SIGTERM, at most 30s")
	withFile(cmd, func(cmd *cobra.Command) error {
		cfg.RetainBytes, cfg.RetainFor, cfg.HistoryFor = int64(retainBytes), time.Duration(retainFor), time.Duration(historyFor)
		cfg.CertificateWait = time.Duration(wait)
		cfg.Gather, cfg.GatherNumbers = time.Duration(gather), time.Duration(gatherNumbers)
		if err := checkControl(&cfg, time.Duration(drain)); err != nil {
			return usage("%w; \"selvage control --help\" shows an example", err)
		}
		cfg.NameServers = nameServers.Values
		sockets, err := inherit.FromEnv(a.getenv)
		if err != nil {
			return err
		}
		cfg.Listen = sockets.Listen
		c, err := control.New(cmd.Context(), cfg, a.logger(slog.LevelInfo))
		if err != nil {
			return err
		}
		return c.Run(cmd.Context())
	})
	cmd.AddCommand(a.controlTokenCommand())
	return cmd
}

func checkControl(cfg *control.Config, drain time.Duration) error {
	if cfg.State == "" {
		return errors.New("state: a folder is needed")
	}
	if cfg.Database != "" && !store.IsPostgres(cfg.Database) {
		return errors.New("db: an address that begins with postgres:// is needed, or nothing for a file in the state folder")
	}
	for name, addr := range map[string]string{"api": cfg.API, "feed": cfg.Feed} {
		if _, _, err := net.SplitHostPort(addr); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	if cfg.Retain < 1 {
		return fmt.Errorf("retain: at least 1 entry is needed, got %d", cfg.Retain)
	}
	if cfg.RetainBytes < minRetainBytes {
		return fmt.Errorf("retain_bytes: at least %s is needed, got %s", conf.Size(minRetainBytes), conf.Size(cfg.RetainBytes))
	}
	if cfg.RetainFor < minRetainFor {
		return fmt.Errorf("retain_for: at least %s is needed, got %s", minRetainFor, cfg.RetainFor)
	}
	if err := checkKept(cfg); err != nil {
		return err
	}
	for name, d := range map[string]time.Duration{"gather": cfg.Gather, "gather_numbers": cfg.GatherNumbers} {
		if d < minGather || d > maxGather {
			return fmt.Errorf("%s: from %s to %s, got %s", name, minGather, maxGather, d)
		}
	}
	if drain <= 0 || drain > maxDrain {
		return fmt.Errorf("drain_timeout: from 1ns to %s, got %s", maxDrain, drain)
	}
	cfg.Drain = drain
	return nil
}

func checkKept(cfg *control.Config) error {
	if cfg.HistoryChanges < 1 {
		return fmt.Errorf("history_changes: at least 1 is needed, got %d", cfg.HistoryChanges)
	}
	if cfg.HistoryFor < minRetainFor {
		return fmt.Errorf("history_for: at least %s is needed, got %s", minRetainFor, cfg.HistoryFor)
	}
	q := &cfg.Quota
	if q.Rate == 0 || q.Burst < 1 || q.Day < 0 {
		return fmt.Errorf("quota_rate, quota_burst, quota_day: a rate other than 0, a burst of 1 or more and a day of 0 or more are needed, got %g, %d and %d", q.Rate, q.Burst, q.Day)
	}
	return nil
}

func (a *app) controlTokenCommand() *cobra.Command {
	var join, relay bool
	cmd := &cobra.Command{
		Use:   "token --join",
		Short: "Make a join token for an edge",
		Long: `Make a token with which one edge joins the control plane, once, within an hour.
It is printed here and stored hashed. On the machine of a running control plane
its state folder is enough; from elsewhere use --api and --token.

With --relay the edge may also serve the feed to others (its setting relay).

  selvage control token --join --state /var/lib/selvage/control
  selvage control token --join --api http://control.example.net:8787/client/v4 --token T`,
		Args: exactly(0, ""),
	}
	c := a.connection(cmd)
	cmd.Flags().BoolVar(&join, "join", false, "make a join token")
	cmd.Flags().BoolVar(&relay, "relay", false, "for an edge that serves the feed to others")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if !join {
			return usage("it is not said which token to make; give --join for one with which an edge joins")
		}
		cl, err := c.client()
		if err != nil {
			return err
		}
		token, err := cl.JoinToken(cmd.Context(), relay)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(a.out, token)
		return err
	}
	return cmd
}
