package main

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/url"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
)

const natsBucket = "bench"

// peerHello is where a peer is reached.
type peerHello struct{ Addr string }

// newNATS is a NATS server with a JetStream key-value bucket on disk, synced at
// each write as ours is, and without TLS, which is its advantage. Changes are put
// by a client inside of its process, each with its acknowledgement.
func newNATS(ctx context.Context, first json.RawMessage) (role, error) {
	var o struct{ Dir string }
	if err := json.Unmarshal(first, &o); err != nil {
		return nil, err
	}
	s, err := natsserver.NewServer(&natsserver.Options{
		Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: o.Dir, SyncAlways: true, NoLog: true, NoSigs: true,
	})
	if err != nil {
		return nil, err
	}
	s.Start()
	if !s.ReadyForConnections(30 * time.Second) {
		return nil, errors.New("NATS does not become ready")
	}
	conn, err := nats.Connect("", nats.InProcessServer(s))
	if err != nil {
		return nil, err
	}
	js, err := jetstream.New(conn)
	if err != nil {
		return nil, err
	}
	kv, err := js.CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: natsBucket, Storage: jetstream.FileStorage})
	if err != nil {
		return nil, err
	}
	return &server{
		hello: peerHello{s.ClientURL()},
		put: func(ctx context.Context, key string, value []byte) error {
			_, err := kv.Put(ctx, key, value)
			return err
		},
		stop: func() error {
			conn.Close()
			s.Shutdown()
			s.WaitForShutdown()
			return nil
		},
	}, nil
}

// newEtcd is an etcd of one member, with its write-ahead log synced as it is by
// default, and without TLS. Changes are put by a client inside of its process.
func newEtcd(ctx context.Context, first json.RawMessage) (role, error) {
	var o struct{ Dir string }
	if err := json.Unmarshal(first, &o); err != nil {
		return nil, err
	}
	cfg := embed.NewConfig()
	cfg.Dir, cfg.LogLevel, cfg.LogOutputs = o.Dir, "error", []string{"/dev/null"}
	var err error
	if cfg.ListenClientUrls, err = freeURL(ctx); err != nil {
		return nil, err
	}
	if cfg.ListenPeerUrls, err = freeURL(ctx); err != nil {
		return nil, err
	}
	cfg.AdvertiseClientUrls, cfg.AdvertisePeerUrls = cfg.ListenClientUrls, cfg.ListenPeerUrls
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	e, err := embed.StartEtcd(cfg)
	if err != nil {
		return nil, err
	}
	select {
	case <-e.Server.ReadyNotify():
	case <-time.After(30 * time.Second):
		return nil, errors.New("etcd does not become ready")
	}
	c := v3client.New(e.Server)
	return &server{
		hello: peerHello{cfg.ListenClientUrls[0].Host},
		put: func(ctx context.Context, key string, value []byte) error {
			_, err := c.Put(ctx, key, string(value))
			return err
		},
		stop: func() error {
			_ = c.Close() // says that it was closed
			e.Close()
			return nil
		},
	}, nil
}

// freeURL is an address that was free a moment ago.
func freeURL(ctx context.Context) ([]url.URL, error) {
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	return []url.URL{{Scheme: "http", Host: ln.Addr().String()}}, ln.Close()
}
