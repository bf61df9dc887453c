package ssd

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
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

// BenchmarkRestart opens a folder with a million records, after Close and after
// SIGKILL. slowest-ms is wall time, cpu-ms what of it the process worked.
func BenchmarkRestart(b *testing.B) {
	const records = 1 << 20
	cfg := Config{Dir: os.Getenv("SSD_KILLED"), Bytes: 4 << 30, Scrub: -1}
	if cfg.Dir != "" { // the one that is killed
		fillStore(b, open(b, cfg), records, 400)
		fmt.Println("written")
		select {}
	}
	for _, end := range []string{"closed", "killed"} {
		b.Run(end, func(b *testing.B) {
			cfg.Dir = b.TempDir()
			if end == "closed" {
				s := open(b, cfg)
				fillStore(b, s, records, 400)
				if err := s.Close(); err != nil {
					b.Fatal(err)
				}
			}
			var slowest, worked time.Duration
			for b.Loop() {
				if end == "killed" {
					b.StopTimer()
					writeAndKill(b, cfg.Dir)
					b.StartTimer()
				}
				began, before := time.Now(), cpuTime(b)
				s, err := Open(cfg)
				if err != nil {
					b.Fatal(err)
				}
				slowest = max(slowest, time.Since(began))
				worked = max(worked, cpuTime(b)-before)
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
			b.ReportMetric(float64(worked.Milliseconds()), "cpu-ms")
		})
	}
}

// writeAndKill has another process fill an empty folder, and kills it.
func writeAndKill(b *testing.B, dir string) {
	b.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		b.Fatal(err)
	}
	for _, name := range names {
		if err := os.Remove(name); err != nil {
			b.Fatal(err)
		}
	}
	cmd := exec.CommandContext(b.Context(), os.Args[0], "-test.run", "^$", "-test.bench", "^BenchmarkRestart$", "-test.benchtime", "1x")
	cmd.Env = append(os.Environ(), "SSD_KILLED="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	written := false
	for lines := bufio.NewScanner(out); !written && lines.Scan(); {
		written = strings.HasSuffix(lines.Text(), "written") // behind the benchmark's name
	}
	if err := cmd.Process.Kill(); err != nil {
		b.Fatal(err)
	}
	_ = cmd.Wait() // killed
	if !written {
		b.Fatal("the process that writes has ended")
	}
}

func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
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
