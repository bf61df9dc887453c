package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/selvage-edge/selvage/client"
	"github.com/selvage-edge/selvage/cmd/selvage/internal/dev"
	"github.com/selvage-edge/selvage/cmd/selvage/internal/onboard"
	"github.com/selvage-edge/selvage/cmd/selvage/internal/past"
	"github.com/selvage-edge/selvage/fault"
)

// connection holds the flags of commands that speak to the API.
type connection struct {
	a                 *app
	api, token, state string
	rollout           string // of commands that say so; else empty
	verbose           bool
}

func (a *app) connection(cmd *cobra.Command) *connection {
	c := &connection{a: a}
	f := cmd.Flags()
	f.StringVar(&c.api, "api", "", "`URL` of the API, such as http://127.0.0.1:8787/client/v4 (default $SELVAGE_API)")
	f.StringVar(&c.token, "token", "", "API `TOKEN` (default $SELVAGE_TOKEN)")
	f.StringVar(&c.state, "state", "", "state `DIR` of a running selvage dev or control (default $SELVAGE_STATE, else "+dev.DefaultState+")")
	f.BoolVarP(&c.verbose, "verbose", "v", false, "print each API call and its answer on stderr")
	return c
}

// rolls adds the flag that says how a change goes out.
func (c *connection) rolls(cmd *cobra.Command, byDefault string) *connection {
	cmd.Flags().StringVar(&c.rollout, "rollout", byDefault, "`HOW` the change goes out: all (everywhere at once) or rings (canaries first, see selvage rings)")
	return c
}

// client finds the API: flags first, then --state, then the environment, then
// the state folder that make run uses.
func (c *connection) client() (*client.Client, error) {
	api, token := c.api, c.token
	if c.state == "" {
		if api == "" {
			api = c.a.getenv("SELVAGE_API")
		}
		if token == "" {
			token = c.a.getenv("SELVAGE_TOKEN")
		}
	}
	if api == "" || token == "" {
		if c.state == "" && (api != "" || token != "") {
			return nil, usage("%s", halfConnection(api))
		}
		found, key, err := dev.Connection(c.a.stateFolder(c.state))
		if errors.Is(err, os.ErrNotExist) {
			return nil, usage("no selvage runs with the state folder %s; start one with \"selvage dev\", or say where the API is with --api URL --token T", c.a.stateFolder(c.state))
		}
		if err != nil {
			return nil, fmt.Errorf("state folder %s: %w", c.a.stateFolder(c.state), err)
		}
		if api == "" {
			api = found
		}
		if token == "" {
			token = key
		}
	}
	if c.rollout != "" && c.rollout != client.RolloutRings && c.rollout != client.RolloutAll {
		return nil, usage("--rollout is all (everywhere at once) or rings, not %q", c.rollout)
	}
	config := client.Config{API: api, Token: token, Rollout: c.rollout}
	if c.verbose {
		config.Trace = c.trace
	}
	cl, err := client.New(config)
	if err != nil {
		return nil, usage("%w", err)
	}
	return cl, nil
}

func halfConnection(api string) string {
	if api == "" {
		return "there is a token but no address of the API; give it with --api URL or SELVAGE_API"
	}
	return "there is an address of the API but no token; give it with --token T or SELVAGE_TOKEN"
}

// stateFolder is the folder that was asked for, else the default one.
func (a *app) stateFolder(asked string) string {
	if asked == "" {
		asked = a.getenv("SELVAGE_STATE")
	}
	if asked == "" {
		asked = dev.DefaultState
	}
	return asked
}

// trace prints a call as one line for each of request, body and answer.
func (c *connection) trace(t client.Call) {
	fmt.Fprintf(c.a.err, "> %s %s\n", t.Method, t.Path)
	if len(t.Body) > 0 {
		fmt.Fprintf(c.a.err, "> %s\n", t.Body)
	}
	switch {
	case t.Status == 0:
		fmt.Fprintf(c.a.err, "< %v\n", t.Err)
	case t.Seq != 0:
		fmt.Fprintf(c.a.err, "< %d seq %d\n", t.Status, t.Seq)
	default:
		fmt.Fprintf(c.a.err, "< %d\n", t.Status)
	}
}

// wait ends a command that changed something: every connected edge has it, or
// the missing are named. It returns who has it, in words.
func wait(ctx context.Context, c *client.Client, seq uint64, done string) (who string, err error) {
	reached, err := c.Wait(ctx, seq)
	if err != nil {
		return "", fmt.Errorf("%s (seq %d), but it is not known which edges have it: %w", done, seq, err)
	}
	if len(reached.Missing) > 0 {
		return "", &codedError{exitMissing, fmt.Errorf("%s (seq %d), but within %s these edges have not acknowledged it: %s; they get it as soon as they can, see their logs and /readyz",
			done, seq, client.WaitLimit, strings.Join(reached.Missing, ", "))}
	}
	if reached.Edges == 0 {
		return "no edge yet, since none is connected", nil
	}
	return "every connected edge", nil
}

// past is what the commands of its package need.
func (a *app) past() *past.Kit {
	return &past.Kit{Out: a.out, Wait: wait, Usage: usage, Args: exactly,
		Flags: func(cmd *cobra.Command) func() (*client.Client, error) { return a.connection(cmd).client },
		Find: func(ctx context.Context, cl *client.Client, typed string) (client.Zone, error) {
			name, err := onboard.ParseZone(typed)
			if err != nil {
				return client.Zone{}, usage("%w", err)
			}
			return findZone(ctx, cl, name)
		},
	}
}

// findZone looks a zone up by the name that the user typed.
func findZone(ctx context.Context, c *client.Client, name string) (client.Zone, error) {
	z, err := c.FindZone(ctx, name)
	if fault.Is(err, fault.NotFound) {
		return z, &codedError{exitRefused, fmt.Errorf("there is no zone %s; \"selvage zone list\" shows those that exist, \"selvage zone add %[1]s --origin URL\" adds it", name)}
	}
	return z, err
}
