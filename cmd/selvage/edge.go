package main

import (
	"log/slog"
	"net/netip"
	"time"

	"github.com/spf13/cobra"

	"github.com/selvage-edge/selvage/edge"
	"github.com/selvage-edge/selvage/feed"
	"github.com/selvage-edge/selvage/internal/conf"
	"github.com/selvage-edge/selvage/internal/inherit"
)

// edgeFlags are the settings of an edge before they become an edge.Config.
type edgeFlags struct {
	config                            edge.Config
	parents                           *conf.List[string]
	peerAdvertise                     *conf.List[string]
	advertise                         *conf.List[netip.Addr]
	allowOrigins                      *conf.List[netip.Prefix]
	geoIP                             *conf.List[string]
	accessLogMax                      conf.Size
	auditBytes                        conf.Size
	cacheBytes, zonesBytes, diskBytes conf.Size
	reserveBytes, relayBytes          conf.Size
	relayTime                         conf.Duration
	replicaBytes                      conf.Size
	drainTimeout                      conf.Duration
	reserveRetain                     conf.Duration
}

func (a *app) edgeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "edge",
		Short: "Run one edge server",
		Long: `Run one edge server: DNS, TLS, cache and origin connections, configured by the
feed of a control plane. It keeps its own copy of the configuration in --state
and serves from it also while the control plane is away.

The first start needs a join token, made on the control plane's machine:

  selvage control token --join --state /var/lib/selvage/control

  selvage edge --state /var/lib/selvage/edge --colo FRA --parent control.example.net:7843 \
    --join TOKEN --http :80 --https :443 --dns :53 --advertise 203.0.113.10

Later starts need no token. Instead of flags, a file (deploy/edge.yaml shows each
setting):

  selvage edge --config /etc/selvage/edge.yaml

When it is ready it writes edge.json into --state. SIGTERM drains: requests in
flight finish, for at most 30 s. Sockets that systemd opened are taken over by
their names http, https, https-udp, dns-tcp, dns-udp, metrics, peer
and relay.`,
		Args: exactly(0, ""),
	}
	f := defineEdge(cmd)
	withFile(cmd, func(cmd *cobra.Command) error {
		cfg, err := f.build(a.getenv)
		if err != nil {
			return err
		}
		e, err := edge.New(cfg, a.logger(slog.LevelInfo))
		if err != nil {
			return usage("%w", err)
		}
		return e.Run(cmd.Context())
	})
	return cmd
}

func defineEdge(cmd *cobra.Command) *edgeFlags {
	f := &edgeFlags{
		parents: conf.NewStrings("HOST:PORT,..."), peerAdvertise: conf.NewStrings("HOST:PORT,..."), advertise: conf.NewAddrs(), allowOrigins: conf.NewPrefixes(), geoIP: conf.NewStrings("FILE,..."),
		accessLogMax: edge.DefaultAccessLogMaxBytes, auditBytes: feed.DefaultSpoolBytes, cacheBytes: edge.DefaultCacheBytes, zonesBytes: edge.DefaultZonesCacheBytes, reserveBytes: edge.DefaultReserveBytes, drainTimeout: conf.Duration(edge.DefaultDrainTimeout), reserveRetain: conf.Duration(edge.DefaultReserveRetain),
		relayBytes: edge.DefaultRelayKeepBytes, relayTime: conf.Duration(edge.DefaultRelayKeepTime), replicaBytes: edge.DefaultReplicaBytes,
	}
	fl := cmd.Flags()
	fl.StringVar(&f.config.State, "state", "", "`DIR` for identity, copy of the configuration and edge.json")
	fl.StringVar(&f.config.Colo, "colo", "", "data center `CODE`: three capital letters, such as FRA")
	fl.Var(f.parents, "parent", "relay or control plane to take the feed from; the first that can be had, may repeat")
	fl.StringVar(&f.config.Join, "join", "", "join `TOKEN` for the first start (default $SELVAGE_JOIN)")
	fl.StringVar(&f.config.HTTP, "http", ":80", "listen `ADDR` for http")
	fl.StringVar(&f.config.HTTPS, "https", ":443", "listen `ADDR` for https: TCP, and UDP of the same port for HTTP/3")
	fl.StringVar(&f.config.DNS, "dns", ":53", "listen `ADDR` for DNS, UDP and TCP on one port")
	fl.StringVar(&f.config.Metrics, "metrics", "127.0.0.1:9180", "listen `ADDR` for /metrics, /healthz and /readyz")
	fl.StringVar(&f.config.Peer, "peer", "", "listen `ADDR` for other edges; none when empty")
	fl.Var(f.peerAdvertise, "peer-advertise", "where other edges reach --peer (default its own address)")
	fl.StringVar(&f.config.Relay, "relay", "", "listen `ADDR` for edges that take the feed from this one; none when empty")
	fl.IntVar(&f.config.RelayKeepEntries, "relay-keep-entries", edge.DefaultRelayKeepEntries, "`N` newest entries of the feed kept for them")
	fl.Var(&f.relayTime, "relay-keep-time", "how long entries are kept for them, at least 1m")
	fl.Var(&f.relayBytes, "relay-keep-bytes", "disk for the entries that are kept, at least 1MiB")
	fl.StringVar(&f.config.Replica, "replica", edge.ReplicaFull, "`MODE`: full holds every value of the feed, partial those that are used here; the others come from a parent that is a relay")
	fl.Var(&f.replicaBytes, "replica-bytes", "disk for the values that a partial replica holds, at least 16MiB")
	fl.StringVar(&f.config.Region, "region", "", "`NAME` that data centers near each other share; none when empty")
	fl.BoolVar(&f.config.Hub, "hub", false, "this data center collects for its region")
	fl.Var(f.advertise, "advertise", "addresses that proxied names answer with (default 127.0.0.1)")
	fl.Var(f.allowOrigins, "allow-origins", "inside networks that origins may be in (default none)")
	fl.Var(f.geoIP, "geoip", "MMDB files for visitors' country and network (default none)")
	fl.StringVar(&f.config.AccessLog, "access-log", "stderr", "`FILE`, stderr or off: one JSON line per request")
	fl.Var(&f.accessLogMax, "access-log-max-bytes", "size at which the access log's file is rotated")
	fl.Var(&f.auditBytes, "audit-bytes", "disk for audit events until the control plane has stored them, at least 1MiB")
	fl.Var(&f.cacheBytes, "cache-bytes", "memory for cached objects")
	fl.Var(&f.zonesBytes, "zones-cache-bytes", "memory for compiled zones, at least 16MiB; others are compiled when they are asked for")
	fl.Var(&f.diskBytes, "cache-disk-bytes", "disk for cached objects that memory has no room for, at least 8MiB; 0 = none")
	fl.StringVar(&f.config.CacheReserve, "cache-reserve", "", "S3 bucket for zones with cache_reserve, an `URL` as https://HOST/BUCKET, or off (default a folder in the state folder)")
	fl.Var(&f.reserveBytes, "cache-reserve-bytes", "disk for that folder; with a bucket, for large objects on their way there")
	fl.Var(&f.reserveRetain, "cache-reserve-retain", "how long an object stays in the reserve that nobody asks for, at least 1h")
	fl.StringVar(&f.config.CacheDiskDir, "cache-disk-dir", "", "`DIR` for them (default cache in the state folder)")
	fl.IntVar(&f.config.MaxConnections, "max-connections", edge.DefaultMaxConnections, "`N` visitors' connections at a time")
	fl.IntVar(&f.config.MinRate, "min-rate", edge.DefaultMinRate, "`BYTES` a second, 1 to 1048576, that visitors send of a body or take of an answer; who falls 30 s behind is cut")
	fl.IntVar(&f.config.AltPort, "alt-port", 0, "UDP `PORT` at which visitors find HTTP/3, where a translation of ports is before --https; 0 = the port of --https")
	fl.Var(&f.drainTimeout, "drain-timeout", "how long requests in flight may finish after SIGTERM, at most 30s")
	return f
}

// build checks the settings together, before anything is opened.
func (f *edgeFlags) build(getenv func(string) string) (edge.Config, error) {
	cfg := f.config
	if cfg.MaxConnections < 1 { // 0 would be the default to edge.Config
		return cfg, usage("max_connections: at least 1 is needed, got %d; \"selvage edge --help\" shows an example", cfg.MaxConnections)
	}
	if cfg.MinRate < 1 { // likewise
		return cfg, usage("min_rate: at least 1 is needed, got %d; \"selvage edge --help\" shows an example", cfg.MinRate)
	}
	if cfg.RelayKeepEntries < 1 { // likewise
		return cfg, usage("relay_keep_entries: at least 1 is needed, got %d; \"selvage edge --help\" shows an example", cfg.RelayKeepEntries)
	}
	cfg.RelayKeepTime, cfg.RelayKeepBytes = time.Duration(f.relayTime), int64(f.relayBytes)
	cfg.ReplicaBytes = int64(f.replicaBytes)
	cfg.Parents = f.parents.Values
	cfg.PeerAdvertise = f.peerAdvertise.Values
	cfg.Advertise = f.advertise.Values
	cfg.AllowOrigins = f.allowOrigins.Values
	cfg.GeoIP = f.geoIP.Values
	cfg.AccessLogMaxBytes, cfg.AuditBytes = int64(f.accessLogMax), int64(f.auditBytes)
	cfg.CacheBytes, cfg.ZonesCacheBytes = int64(f.cacheBytes), int64(f.zonesBytes)
	cfg.CacheDiskBytes = int64(f.diskBytes)
	cfg.CacheReserveBytes = int64(f.reserveBytes)
	cfg.CacheReserveKey, cfg.CacheReserveSecret = getenv("SELVAGE_RESERVE_KEY"), getenv("SELVAGE_RESERVE_SECRET")
	cfg.CacheReserveRetain = time.Duration(f.reserveRetain)
	cfg.DrainTimeout = time.Duration(f.drainTimeout)
	if cfg.Join == "" {
		cfg.Join = getenv("SELVAGE_JOIN")
	}
	if err := cfg.Check(); err != nil {
		return cfg, usage("%w; \"selvage edge --help\" shows an example", err)
	}
	sockets, err := inherit.FromEnv(getenv)
	if err != nil {
		return cfg, err
	}
	cfg.Sockets = sockets
	return cfg, nil
}
