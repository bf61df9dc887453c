package main

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/selvage-edge/selvage/cmd/selvage/internal/dev"
	"github.com/selvage-edge/selvage/edge"
	"github.com/selvage-edge/selvage/edge/phase/cache/ssd"
	"github.com/selvage-edge/selvage/internal/conf"
)

func (a *app) devCommand() *cobra.Command {
	c := dev.Config{Environ: a.environ, Out: a.out, Err: a.err}
	var noDemo bool
	geoIP := conf.NewStrings("FILE,...")
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run everything on this machine, with a demo site",
		Long: `Run a control plane, two edges that stand for two data centers, and a demo site
at the zone demo.test, each as a process of its own that comes back when it dies.
When all is ready it prints where everything listens and lines to paste.

  selvage dev

Other ports (edge number i listens on port + i, port 0 takes a free one), three
edges, no demo, and a state folder that is thrown away:

  selvage dev --state /tmp/selvage --edges 3 --no-demo --api 127.0.0.1:0 --http 127.0.0.1:0 \
    --https 127.0.0.1:0 --dns 127.0.0.1:0

While it runs, DIR/dev.json says what runs where. The state (zones, certificates,
each edge's copy) stays in DIR for the next start; delete the folder to begin
anew. Logs go to stderr and, by process, to DIR/log; a terminal is kept clear of
them unless -v is given. Ctrl-C stops everything.

Edges of dev may reach origins on this machine, which edges otherwise refuse.`,
		Args: exactly(0, ""),
	}
	fl := cmd.Flags()
	fl.StringVar(&c.State, "state", "", "state `DIR` (default $SELVAGE_STATE, else "+dev.DefaultState+")")
	fl.IntVar(&c.Edges, "edges", 2, fmt.Sprintf("`N` edges, from 1 to %d", dev.MaxEdges))
	fl.StringVar(&c.API, "api", "127.0.0.1:8787", "listen `ADDR` of the API")
	fl.StringVar(&c.Feed, "feed", "127.0.0.1:0", "listen `ADDR` of the feed")
	fl.StringVar(&c.HTTP, "http", "127.0.0.1:8080", "listen `ADDR` of the first edge's http")
	fl.StringVar(&c.HTTPS, "https", "127.0.0.1:8443", "listen `ADDR` of the first edge's https")
	fl.StringVar(&c.DNS, "dns", "127.0.0.1:5300", "listen `ADDR` of the first edge's DNS")
	fl.StringVar(&c.Metrics, "metrics", "127.0.0.1:0", "listen `ADDR` of the first edge's /metrics")
	fl.StringVar(&c.Peer, "peer", "127.0.0.1:0", "listen `ADDR` of the first edge for other edges")
	fl.BoolVar(&noDemo, "no-demo", false, "neither demo zone nor demo site")
	fl.BoolVarP(&c.Verbose, "verbose", "v", false, "print what the processes log")
	fl.Var(geoIP, "geoip", "MMDB files for visitors' country and network (default share/geoip/country.mmdb of this source tree)")
	sizes := defineSizes(fl)
	withFile(cmd, func(cmd *cobra.Command) error {
		if err := sizes.check(); err != nil {
			return err
		}
		c.State = a.stateFolder(c.State)
		c.Demo = !noDemo
		c.Verbose = c.Verbose || !terminal(os.Stderr)
		c.EdgeArgs = append(sizes.args(), geoArgs(geoIP.Values, a.executable)...)
		level := slog.LevelWarn
		if c.Verbose {
			level = slog.LevelInfo
		}
		c.Log = a.logger(level)
		if err := c.Check(); err != nil {
			return usage("%w", err)
		}
		self, err := a.executable()
		if err != nil {
			return fmt.Errorf("own path: %w", err)
		}
		c.Binary = self
		if c.Folder, err = os.Getwd(); err != nil {
			return fmt.Errorf("current folder: %w", err)
		}
		return dev.Run(cmd.Context(), c)
	})
	return cmd
}

// devSizes is what each edge of dev may keep.
type devSizes struct{ memory, disk conf.Size }

func defineSizes(fl *pflag.FlagSet) *devSizes {
	s := &devSizes{memory: edge.DefaultCacheBytes, disk: devDiskBytes}
	fl.Var(&s.memory, "cache-bytes", "memory for cached objects of each edge")
	fl.Var(&s.disk, "cache-disk-bytes", "disk for cached objects of each edge; 0 = none")
	return s
}

func (s *devSizes) check() error {
	if s.memory < edge.MinCacheBytes {
		return usage("--cache-bytes: at least %d bytes are needed, got %d", edge.MinCacheBytes, s.memory)
	}
	if s.disk != 0 && s.disk < ssd.MinBytes {
		return usage("--cache-disk-bytes: 0 for no disk, or at least %d bytes are needed, got %d", ssd.MinBytes, s.disk)
	}
	return nil
}

func (s *devSizes) args() []string {
	return []string{"--cache-bytes", s.memory.String(), "--cache-disk-bytes", s.disk.String()}
}

// devDiskBytes is what each edge of dev may keep on disk.
const devDiskBytes = 256 << 20

// terminal reports whether a person looks at what is printed there.
func terminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// geoArgs passes on the table that was asked for, else the one that make puts
// beside the binary's folder.
func geoArgs(asked []string, executable func() (string, error)) []string {
	if len(asked) > 0 {
		return []string{"--geoip", strings.Join(asked, ",")}
	}
	self, err := executable()
	if err != nil {
		return nil
	}
	file := filepath.Join(filepath.Dir(self), "..", "share", "geoip", "country.mmdb")
	if _, err := os.Stat(file); err != nil {
		return nil
	}
	return []string{"--geoip", file}
}
