//go:build deps

// Package deps pins modules while the first rooms are being built.
package deps

import (
	_ "github.com/cockroachdb/pebble/v2"
	_ "github.com/goccy/go-yaml"
	_ "github.com/miekg/dns"
	_ "github.com/oschwald/maxminddb-golang/v2"
	_ "github.com/pressly/goose/v3"
	_ "github.com/prometheus/client_golang/prometheus/promhttp"
	_ "github.com/rogpeppe/go-internal/testscript"
	_ "github.com/spf13/cobra"
	_ "golang.org/x/net/http/httpguts"
	_ "golang.org/x/net/idna"
	_ "golang.org/x/sync/singleflight"
	_ "golang.org/x/sys/unix"
	_ "gopkg.in/natefinch/lumberjack.v2"
	_ "modernc.org/sqlite"
)
