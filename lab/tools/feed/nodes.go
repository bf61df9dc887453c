package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/selvage-edge/selvage/client"
	"github.com/selvage-edge/selvage/feed"
)

// identities are nodes that have joined at a control plane, as many as are asked
// for, each with a folder of its own under dir. Those of an earlier round are
// used again.
func identities(ctx context.Context, at selvageHello, dir string, n int, relay bool) ([]*feed.Identity, error) {
	c, err := client.New(client.Config{API: at.API, Token: at.Token})
	if err != nil {
		return nil, err
	}
	all := make([]*feed.Identity, n)
	errs := make([]error, n)
	places := make(chan struct{}, 8)
	var work sync.WaitGroup
	for i := range all {
		work.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			all[i], errs[i] = identity(ctx, c, at.Feed, filepath.Join(dir, fmt.Sprint(i)), i, relay)
		})
	}
	work.Wait()
	return all, errors.Join(errs...)
}

func identity(ctx context.Context, c *client.Client, addr, dir string, i int, relay bool) (*feed.Identity, error) {
	if _, err := os.Stat(dir); err == nil {
		return feed.LoadIdentity(dir)
	}
	token, err := c.JoinToken(ctx, relay)
	if err != nil {
		return nil, err
	}
	return feed.Join(ctx, addr, token, dir, colo(i), fmt.Sprintf("bench %d", i))
}

// colo is the name of the i-th data center.
func colo(i int) string {
	return string([]byte{'A' + byte(i/676%26), 'A' + byte(i/26%26), 'A' + byte(i%26)})
}
