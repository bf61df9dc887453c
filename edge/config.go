package edge

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/selvage-edge/selvage/edge/phase/cache/ssd"
	"github.com/selvage-edge/selvage/edge/shelf"
	"github.com/selvage-edge/selvage/feed"
	"github.com/selvage-edge/selvage/internal/clock"
	"github.com/selvage-edge/selvage/internal/inherit"
	"github.com/selvage-edge/selvage/zone"
)

// Config is everything an edge is told at start. Zero fields have the default
// that their comment names; Check refuses the rest.
type Config struct {
	State   string   // folder of this edge's state: identity, copy, edge.json
	Colo    string   // data center code: three capital letters
	Parents []string // host:port of relays and control planes; the first that can be had is used
	Join    string   // join token; needed at the first start only

	HTTP    string // listen addresses, host:port, port 0 = the kernel's choice
	HTTPS   string // TCP, and UDP on the same port for HTTP/3
	DNS     string // UDP and TCP on the same port
	Metrics string // /metrics, /healthz, /readyz
	Peer    string // edge to edge, mutual TLS; "" = no peer listener
	Relay   string // the feed for other edges, mutual TLS; "" = none

	// Replica is ReplicaFull, the default: this edge holds every value of the
	// feed; or ReplicaPartial: those that it uses, and fetches the others from a
	// parent that is a relay.
	Replica      string
	ReplicaBytes int64 // of values that a partial one holds; default 1 GiB, at least 16 MiB

	RelayKeepEntries int           // newest entries kept for them; default 100,000
	RelayKeepTime    time.Duration // and for how long; default 24 h
	RelayKeepBytes   int64         // and how much; default 1 GiB

	PeerAdvertise []string // host:port at which other edges reach Peer; default its own address, see advertised
	Region        string   // name that near data centers share; default none
	Hub           bool     // this data center collects for its region

	Advertise    []netip.Addr   // what proxied names answer with; default 127.0.0.1
	AllowOrigins []netip.Prefix // inside networks that origins may be in; default none
	GeoIP        []string       // MMDB files; none = country and network unknown

	AuditBytes int64 // disk for audit events that the control plane has not stored; default 16 MiB

	AccessLog         string // file, "stderr" or "off"; default "stderr"
	AccessLogMaxBytes int64  // rotate beyond; default 256 MiB
	CacheBytes        int64  // RAM tier; default 256 MiB, at least 1 MiB
	ZonesCacheBytes   int64  // compiled zones; default 256 MiB, at least 16 MiB
	CacheDiskBytes    int64  // disk tier below it; default none, at least 8 MiB
	CacheDiskDir      string // its folder; default State/cache

	CacheReserve       string // URL of an S3 bucket, or "off"; default the folder State/reserve
	CacheReserveBytes  int64  // what that folder may have, or large objects on their way to a bucket; default 1 GiB
	CacheReserveKey    string // access key of the bucket
	CacheReserveSecret string
	CacheReserveRetain time.Duration // how long an object stays there after its last use; default 30 days, at least 1 h

	MaxConnections int // visitors' connections at a time; default 65,536
	// MinRate is how many bytes a second a visitor has to send of a body, but of
	// gRPC's, or to take of an answer while it is waited for; it may fall 30 s
	// behind. Default 240, 1 to 1 MiB.
	MinRate int
	// AltPort is the UDP port at which visitors reach HTTPS for HTTP/3, where a
	// translation of ports is before this edge; default its own.
	AltPort      int
	DrainTimeout time.Duration

	// Sockets handed over by a supervisor (http, https, https-udp, dns-tcp, dns-udp,
	// metrics, peer, relay); they replace the addresses.
	Sockets inherit.Set
}

// Defaults of Config.
const (
	DefaultAccessLogMaxBytes = 256 << 20
	DefaultCacheBytes        = 256 << 20
	DefaultZonesCacheBytes   = shelf.DefaultBytes
	DefaultMaxConnections    = 65536
	DefaultMinRate           = clock.DefaultRate
	DefaultReserveBytes      = 1 << 30
	DefaultReserveRetain     = 30 * 24 * time.Hour // as Cloudflare documents
	MinReserveRetain         = time.Hour
	DefaultRelayKeepEntries  = 100_000
	DefaultRelayKeepTime     = 24 * time.Hour
	DefaultRelayKeepBytes    = 1 << 30
	DefaultDrainTimeout      = 30 * time.Second
	MinCacheBytes            = 1 << 20
)

// Check fills in defaults and refuses what cannot be meant, naming the field.
func (c *Config) Check() error {
	if c.State == "" {
		return errors.New("state: a folder is needed")
	}
	if !zone.ValidColo(c.Colo) {
		return fmt.Errorf("colo: three capital letters are needed, got %q", c.Colo)
	}
	if len(c.Parents) == 0 {
		return errors.New("parent: at least one feed address (host:port) is needed")
	}
	for _, p := range c.Parents {
		if _, _, err := net.SplitHostPort(p); err != nil {
			return fmt.Errorf("parent: %w", err)
		}
	}
	for name, addr := range map[string]string{"http": c.HTTP, "https": c.HTTPS, "dns": c.DNS, "metrics": c.Metrics} {
		if _, _, err := net.SplitHostPort(addr); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	for name, addr := range map[string]string{"peer": c.Peer, "relay": c.Relay} {
		if addr == "" {
			continue
		}
		if _, _, err := net.SplitHostPort(addr); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	if err := c.checkRelay(); err != nil {
		return err
	}
	if err := c.checkReplica(); err != nil {
		return err
	}
	if err := c.checkPlace(); err != nil {
		return err
	}
	if err := c.checkReserve(); err != nil {
		return err
	}
	return c.checkSizes()
}

func (c *Config) checkRelay() error {
	c.RelayKeepEntries = cmp.Or(c.RelayKeepEntries, DefaultRelayKeepEntries)
	c.RelayKeepTime = cmp.Or(c.RelayKeepTime, DefaultRelayKeepTime)
	c.RelayKeepBytes = cmp.Or(c.RelayKeepBytes, DefaultRelayKeepBytes)
	switch {
	case c.RelayKeepEntries < 1:
		return fmt.Errorf("relay_keep_entries: at least 1 is needed, got %d", c.RelayKeepEntries)
	case c.RelayKeepTime < time.Minute:
		return fmt.Errorf("relay_keep_time: at least %s is needed, got %s", time.Minute, c.RelayKeepTime)
	case c.RelayKeepBytes < 1<<20:
		return fmt.Errorf("relay_keep_bytes: at least %d bytes are needed, got %d", 1<<20, c.RelayKeepBytes)
	}
	return nil
}

// checkPlace judges what other edges are told of this one.
func (c *Config) checkPlace() error {
	said := feed.Announcement{Peer: c.PeerAdvertise}
	if err := said.Check(); err != nil {
		return fmt.Errorf("peer_advertise: %w", err)
	}
	if len(c.PeerAdvertise) > 0 && c.Peer == "" {
		return errors.New("peer_advertise: there is no listener for other edges; give --peer as well")
	}
	if c.Hub && c.Region == "" {
		return errors.New("hub: of no region; give --region as well")
	}
	return feed.CheckRegion(c.Region)
}

func (c *Config) checkSizes() error {
	if len(c.Advertise) == 0 {
		c.Advertise = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}
	}
	c.AccessLog = cmp.Or(c.AccessLog, "stderr")
	c.AccessLogMaxBytes = cmp.Or(c.AccessLogMaxBytes, DefaultAccessLogMaxBytes)
	c.AuditBytes = cmp.Or(c.AuditBytes, feed.DefaultSpoolBytes)
	c.CacheBytes = cmp.Or(c.CacheBytes, DefaultCacheBytes)
	c.ZonesCacheBytes = cmp.Or(c.ZonesCacheBytes, DefaultZonesCacheBytes)
	c.MaxConnections = cmp.Or(c.MaxConnections, DefaultMaxConnections)
	c.MinRate = cmp.Or(c.MinRate, DefaultMinRate)
	c.DrainTimeout = cmp.Or(c.DrainTimeout, DefaultDrainTimeout)
	if c.AuditBytes < feed.MinSpoolBytes {
		return fmt.Errorf("audit_bytes: at least %d bytes are needed, got %d", feed.MinSpoolBytes, c.AuditBytes)
	}
	if c.CacheBytes < MinCacheBytes {
		return fmt.Errorf("cache_bytes: at least %d bytes are needed, got %d", MinCacheBytes, c.CacheBytes)
	}
	if c.ZonesCacheBytes < shelf.MinBytes {
		return fmt.Errorf("zones_cache_bytes: at least %d bytes are needed, got %d", shelf.MinBytes, c.ZonesCacheBytes)
	}
	if c.CacheDiskBytes != 0 && c.CacheDiskBytes < ssd.MinBytes {
		return fmt.Errorf("cache_disk_bytes: 0 for no disk, or at least %d bytes are needed, got %d", ssd.MinBytes, c.CacheDiskBytes)
	}
	if c.CacheDiskDir != "" && c.CacheDiskBytes == 0 {
		return errors.New("cache_disk_dir: no bytes may be used there; give --cache-disk-bytes as well")
	}
	if c.AccessLogMaxBytes < 1<<20 {
		return fmt.Errorf("access_log_max_bytes: at least %d bytes are needed, got %d", 1<<20, c.AccessLogMaxBytes)
	}
	if c.MaxConnections < 1 {
		return fmt.Errorf("max_connections: at least 1 is needed, got %d", c.MaxConnections)
	}
	if c.MinRate < 1 || c.MinRate > 1<<20 {
		return fmt.Errorf("min_rate: from 1 to %d bytes a second, got %d", 1<<20, c.MinRate)
	}
	if c.AltPort < 0 || c.AltPort > 65535 {
		return fmt.Errorf("alt_port: 0 for the port of https, or a port from 1 to 65535, got %d", c.AltPort)
	}
	if c.DrainTimeout < 0 || c.DrainTimeout > DefaultDrainTimeout {
		return fmt.Errorf("drain_timeout: from 1ns to %s, got %s", DefaultDrainTimeout, c.DrainTimeout)
	}
	return nil
}
