package feed

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"net"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// benchZone is the id of a zone, and benchRow one of its rows, of about size
// bytes that compress as JSON of records does.
func benchZone(n int) string {
	sum := sha256.Sum256([]byte{byte(n), byte(n >> 8), byte(n >> 16)})
	return hex.EncodeToString(sum[:16])
}

func benchRow(r *rand.Rand, zone string, n, size int) (key string, value []byte) {
	key = fmt.Sprintf("zone/%s/dns/host-%04d.example-%s.net", zone, n, zone[:6])
	for len(value) < size {
		value = fmt.Appendf(value, `{"id":"%016x%016x","type":"A","content":"203.0.%d.%d","ttl":300,"proxied":true,"comment":"host number %d"},`,
			r.Uint64(), r.Uint64(), r.IntN(256), r.IntN(256), r.IntN(10000))
	}
	return key, value[:size]
}

// benchCopy is a copy of so many zones, whole or with stubs.
func benchCopy(b *testing.B, opts CopyOptions, zones, rows, size int) *Copy {
	b.Helper()
	c, err := OpenCopy(filepath.Join(b.TempDir(), "copy"), opts)
	if err != nil {
		b.Fatal(err)
	}
	w, err := c.BeginSnapshot()
	if err != nil {
		b.Fatal(err)
	}
	ids := make([]string, zones)
	for i := range ids {
		ids[i] = benchZone(i)
	}
	slices.Sort(ids)
	r := rand.New(rand.NewPCG(1, 2))
	for i, id := range ids {
		for n := range rows {
			key, value := benchRow(r, id, n, size)
			if err := w.Add(b.Context(), key, value, uint64(i+1)); err != nil {
				b.Fatal(err)
			}
		}
	}
	if err := w.Commit(b.Context(), Cursor{Seq: uint64(zones)}); err != nil {
		b.Fatal(err)
	}
	return c
}

// BenchmarkReplicaDisk is what a zone costs on disk, in a whole copy and as
// stubs.
func BenchmarkReplicaDisk(b *testing.B) {
	const zones, rows = 10_000, 20
	for _, size := range []int{250, 1000} {
		for _, thin := range []string{"", "zone/"} {
			name := "full"
			if thin != "" {
				name = "partial"
			}
			b.Run(fmt.Sprintf("%dx%dB/%s", rows, size, name), func(b *testing.B) {
				for b.Loop() {
					c := benchCopy(b, CopyOptions{Thin: thin}, zones, rows, size)
					b.ReportMetric(float64(c.db.Metrics().DiskSpaceUsage())/zones, "disk-bytes/zone")
					if err := c.Close(); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkReplicaFetch is the first read of a zone, from a relay over TCP on
// this machine, beside that of one that is held.
func BenchmarkReplicaFetch(b *testing.B) {
	const zones, rows, size = 10_000, 20, 1000
	ca := newTestCA(b)
	whole := benchCopy(b, CopyOptions{}, zones, rows, size)
	thin := benchCopy(b, CopyOptions{Thin: "zone/"}, zones, rows, size)
	server := NewServer(ServerConfig{Log: NewRelayLog(whole), Copy: whole, Identity: ca.identity(nodeID(1), "FRA"+relaySuffix)})
	ln, err := (&net.ListenConfig{}).Listen(b.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	served, ran := make(chan error, 1), make(chan struct{})
	go func() { served <- server.Serve(ctx, ln) }()
	r := NewReplica(ReplicaConfig{Copy: thin, Parents: []string{ln.Addr().String()}, Identity: ca.identity(nodeID(2), "FRA"), Bytes: 1 << 40})
	go func() { defer close(ran); r.Run(ctx) }()
	b.Cleanup(func() {
		cancel()
		<-ran
		if err := <-served; err != nil {
			b.Error(err)
		}
		for _, c := range []*Copy{whole, thin} {
			if err := c.Close(); err != nil {
				b.Error(err)
			}
		}
	})
	read := func(b *testing.B, n int) {
		count := 0
		err := r.Scan("zone/"+benchZone(n%zones)+"/", func(string, []byte, uint64) error { count++; return nil })
		if err != nil || count != rows {
			b.Fatalf("%d rows, %v", count, err)
		}
	}
	read(b, 0)
	next := 1
	b.Run("cold", func(b *testing.B) {
		var took []time.Duration
		for b.Loop() {
			start := time.Now()
			read(b, next)
			took = append(took, time.Since(start))
			next++
		}
		slices.Sort(took)
		b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
		b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
	})
	b.Run("held", func(b *testing.B) {
		for b.Loop() {
			read(b, 0)
		}
	})
}
