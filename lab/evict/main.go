// Program evict replays traces of real requests through eviction policies and
// prints which part of the requests, and of their bytes, each misses: the cache's
// own policy, by the very code that it runs, beside those of the literature.
package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/selvage-edge/selvage/edge/phase/cache/evict"
	"github.com/selvage-edge/selvage/internal/figure"
)

// request is one line of a trace.
type request struct {
	id   uint64
	size int64
}

var policies = []struct {
	name string
	make func(room int64) policy
}{
	{"LRU", newLRU}, {"SIEVE", newSIEVE}, {"S3-FIFO", newS3FIFO}, {"W-TinyLFU", newTinyLFU}, {"GDSF", newGDSF},
	{"ours", func(room int64) policy {
		if room < 1e6 { // of objects that count as one byte
			return newOurs(room, int(2*room))
		}
		return newOurs(room, int(room/evict.GhostEach))
	}},
}

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "evict:", err)
		os.Exit(1)
	}
}

func run(args []string, out io.Writer) error {
	fl := flag.NewFlagSet("evict", flag.ContinueOnError)
	keys := fl.String("keys", "", "trace of little-endian uint32 keys; each object counts as one byte")
	sized := fl.String("sized", "", "trace of lines time,id,size in bytes")
	file := fl.String("out", "bench/out/policy.json", "file for the figures")
	if err := fl.Parse(args); err != nil {
		return err
	}
	if *keys == "" && *sized == "" {
		return errors.New("which trace? See -help")
	}
	var figures []figure.Figure
	if *keys != "" {
		trace, err := readFile(*keys, readKeys)
		if err != nil {
			return err
		}
		figures = append(figures, compare(out, *keys, trace, []int64{256, 1024, 4096}, 1, "objects")...)
		printShares(out, *keys, trace)
	}
	if *sized != "" {
		trace, err := readFile(*sized, readSized)
		if err != nil {
			return err
		}
		figures = append(figures, compare(out, *sized, trace, []int64{5e6, 20e6, 80e6}, 1e6, "MB")...)
		printShares(out, *sized, trace)
	}
	return errors.Join(figure.Write(*file, figures), figure.Missed(figures))
}

func readFile(name string, read func(io.Reader) ([]request, error)) ([]request, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	trace, err := read(bufio.NewReader(f))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return trace, nil
}

func readKeys(r io.Reader) (trace []request, err error) {
	var b [4]byte
	for {
		if _, err = io.ReadFull(r, b[:]); err == io.EOF {
			return trace, nil
		}
		if err != nil {
			return nil, err
		}
		trace = append(trace, request{uint64(binary.LittleEndian.Uint32(b[:])), 1})
	}
}

func readSized(r io.Reader) (trace []request, err error) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		f := strings.Split(lines.Text(), ",")
		if len(f) != 3 {
			return nil, fmt.Errorf("line %d: %q is not time,id,size", len(trace)+1, lines.Text())
		}
		id, err1 := strconv.ParseUint(f[1], 10, 64)
		size, err2 := strconv.ParseInt(f[2], 10, 64)
		if err = errors.Join(err1, err2); err != nil {
			return nil, fmt.Errorf("line %d: %w", len(trace)+1, err)
		}
		trace = append(trace, request{id, max(size, 1)})
	}
	return trace, lines.Err()
}

// miss is what part of a trace's requests and bytes a policy had to fetch.
type miss struct{ objects, bytes float64 }

func replay(p policy, trace []request) (m miss) {
	var bytes int64
	for _, r := range trace {
		bytes += r.size
		if !p.access(r.id, r.size) {
			m.objects++
			m.bytes += float64(r.size)
		}
	}
	return miss{m.objects / float64(len(trace)), m.bytes / float64(bytes)}
}

// compare prints what each policy misses, and judges ours: it is to miss no more
// requests than S3-FIFO, of which it is a form.
func compare(out io.Writer, name string, trace []request, rooms []int64, unit int64, unitName string) (figures []figure.Figure) {
	fmt.Fprintf(out, "%s: %d requests; missed requests / missed bytes\n%-10s", name, len(trace), "")
	for _, room := range rooms {
		fmt.Fprintf(out, "  %6d %-8s", room/unit, unitName)
	}
	fmt.Fprintln(out)
	for _, p := range policies {
		fmt.Fprintf(out, "%-10s", p.name)
		for _, room := range rooms {
			m := replay(p.make(room), trace)
			fmt.Fprintf(out, "     %.3f / %.3f", m.objects, m.bytes)
		}
		fmt.Fprintln(out)
	}
	for _, room := range rooms {
		title := fmt.Sprintf("requests missed of %s with room for %d %s", filepath.Base(name), room/unit, unitName)
		f := judge(title, trace, room)
		fmt.Fprintln(out, f)
		figures = append(figures, f)
	}
	return figures
}

// judge replays ours several times, since what it remembers of the past hangs on
// a seed.
func judge(title string, trace []request, room int64) figure.Figure {
	var own, peer []float64
	theirs := replay(newS3FIFO(room), trace).objects
	for range 7 {
		own = append(own, replay(policies[len(policies)-1].make(room), trace).objects)
		peer = append(peer, theirs)
	}
	return figure.Beside(title, "of all", "S3-FIFO", own, peer, 1)
}
