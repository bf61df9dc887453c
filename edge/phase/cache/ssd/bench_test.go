package ssd

import (
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// fillStore writes records of a size until there are n.
func fillStore(b *testing.B, s *Store, n, size int) {
	b.Helper()
	body, meta := body(1, size), meta(1)
	for id := range n {
		for !s.Put(key(id), meta, body, nil) {
			runtime.Gosched()
		}
	}
	settle(b, s)
}

// BenchmarkRestart opens a folder with a million records, after Close and
// after an end without it.
func BenchmarkRestart(b *testing.B) {
	const records = 1 << 20
	dir := b.TempDir()
	cfg := Config{Dir: dir, Bytes: 4 << 30, Scrub: -1}
	s := open(b, cfg)
	fillStore(b, s, records, 400)
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	var slowest time.Duration
	for b.Loop() {
		began := time.Now()
		s, err := Open(cfg)
		if err != nil {
			b.Fatal(err)
		}
		slowest = max(slowest, time.Since(began))
		st := s.Stats()
		if st.Records != records {
			b.Fatalf("%d of %d records are found", st.Records, records)
		}
		b.ReportMetric(float64(st.IndexBytes)/float64(st.Records), "index-bytes/record")
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(slowest.Milliseconds()), "slowest-ms")
}

func BenchmarkFind(b *testing.B) {
	for _, bench := range []struct {
		name  string
		size  int
		whole int64
	}{{"1KiB", 1 << 10, 64 << 10}, {"100KiB-whole", 100 << 10, 128 << 10}, {"100KiB-head", 100 << 10, 0}} {
		b.Run(bench.name, func(b *testing.B) {
			s := open(b, Config{Dir: b.TempDir(), Bytes: 512 << 20})
			const n = 500
			fillStore(b, s, n, bench.size)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				r := s.Find(key(i%n), bench.whole)
				if r == nil {
					b.Fatal("not found")
				}
				r.Close()
			}
		})
	}
}

// BenchmarkReadWhileWriting reads records of 4 KiB at a steady pace, alone and
// while another goroutine writes as fast as the disk takes it.
func BenchmarkReadWhileWriting(b *testing.B) {
	for _, writing := range []bool{false, true} {
		name := "idle"
		if writing {
			name = "writing"
		}
		b.Run(name, func(b *testing.B) {
			s := open(b, Config{Dir: b.TempDir(), Bytes: 2 << 30})
			const n = 20000
			fillStore(b, s, n, 4<<10)
			var stop atomic.Bool
			var work sync.WaitGroup
			if writing {
				work.Go(func() {
					body, meta := body(2, 60<<10), meta(2)
					for id := n; !stop.Load(); id++ {
						if !s.Put(key(id), meta, body, nil) {
							<-time.After(time.Millisecond)
						}
					}
				})
			}
			before := s.Stats().Written
			began := time.Now()
			var took []time.Duration
			for i := 0; b.Loop(); i++ {
				t := time.Now()
				r := s.Find(key(i*7919%n), 64<<10)
				took = append(took, time.Since(t))
				if r != nil {
					r.Close()
				}
				if i%8 == 7 {
					<-time.After(time.Millisecond)
				}
			}
			stop.Store(true)
			work.Wait()
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Nanoseconds())/1e3, "p50-us")
			b.ReportMetric(float64(took[len(took)*99/100].Nanoseconds())/1e3, "p99-us")
			b.ReportMetric(float64(s.Stats().Written-before)/1e6/time.Since(began).Seconds(), "written-MB/s")
		})
	}
}
