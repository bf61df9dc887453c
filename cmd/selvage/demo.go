package main

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/selvage-edge/selvage/internal/inherit"
	"github.com/selvage-edge/selvage/lab/demo"
)

// demoOriginCommand is the server behind demo.test; dev starts it.
func (a *app) demoOriginCommand() *cobra.Command {
	var addr string
	cmd := &cobra.Command{
		Use:    "demo-origin",
		Short:  "Serve the demo site",
		Hidden: true,
		Long: `Serve the demo site of "selvage dev", which starts this by itself.

  selvage demo-origin --http 127.0.0.1:9000`,
		Args: exactly(0, ""),
	}
	cmd.Flags().StringVar(&addr, "http", "127.0.0.1:9000", "listen `ADDR`")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		ctx := cmd.Context()
		sockets, err := inherit.FromEnv(a.getenv)
		if err != nil {
			return err
		}
		l, err := sockets.Listen(ctx, "http", "tcp", addr)
		if err != nil {
			return err
		}
		server := &http.Server{Handler: demo.Handler(), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute}
		stopped := make(chan error, 1)
		context.AfterFunc(ctx, func() {
			limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			defer cancel()
			stopped <- server.Shutdown(limit)
		})
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return <-stopped
	}
	return cmd
}
