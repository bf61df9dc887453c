package main

import (
	"context"
	"fmt"
	"runtime"
	"time"

	"github.com/selvage-edge/selvage/internal/figure"
)

// field is where the servers meet: one origin, and each server at most once.
type field struct {
	ctx     context.Context
	o       options
	dir     string
	origin  string // host:port
	cert    string // PEM files of the peers
	key     string
	running map[string]*server
	stops   []func()
	turns   int // of misses, so that each asks for objects of its own
}

// server is a program under load.
type server struct {
	name  string
	http  string                // host:port
	https string                // likewise; "" = none
	pids  func() ([]int, error) // whose CPU time and memory count
	// tells says that answers carry CF-Cache-Status.
	tells bool
	warm  map[string]bool // what has been asked for already
}

func (f *field) close() {
	for i := len(f.stops) - 1; i >= 0; i-- {
		f.stops[i]()
	}
}

var starters = map[string]func(*field, string) (*server, func(), error){
	"selvage": startSelvage, "selvage-disk": startSelvage,
	"nginx": startNginx, "varnish": startVarnish, "h2o": startH2O, "quic-go": startQUICGo,
}

// server returns a running server, started at first use.
func (f *field) server(name string) (*server, error) {
	if s := f.running[name]; s != nil {
		return s, nil
	}
	s, stop, err := starters[name](f, name)
	if err != nil {
		return nil, err
	}
	f.running[name] = s
	f.stops = append(f.stops, stop)
	return s, nil
}

// measure lets all take turns until there are enough rounds that the host did
// not disturb.
func (f *field) measure(w work) ([]figure.Figure, error) {
	if w.fresh {
		return f.alone(w)
	}
	list := []string{w.ours}
	for _, p := range w.peers {
		list = append(list, p.server)
	}
	servers := make([]*server, len(list))
	for i, name := range list {
		var err error
		if servers[i], err = f.server(name); err != nil {
			return nil, err
		}
	}
	var rounds []round
	for i := 0; len(rounds) < f.o.pairs; i++ {
		r, err := f.round(w, servers, i)
		if err != nil {
			return nil, err
		}
		note := ""
		if r.stolen > maxStolen && i < f.o.pairs*retries {
			note = fmt.Sprintf(" put aside: the host took %.0f %% of the time", r.stolen*100)
		} else {
			rounds = append(rounds, r)
		}
		fmt.Printf("%s round %d of %d:", w.name, len(rounds), f.o.pairs)
		for n, s := range servers {
			fmt.Printf(" %s %.2f %s,", s.name, r.costs[n], w.unit)
		}
		fmt.Println(note)
	}
	return summarise(w, rounds), nil
}

// round measures each once. Who begins goes round, so that nobody always has
// the warmer machine.
func (f *field) round(w work, servers []*server, n int) (round, error) {
	r := round{costs: make([]float64, len(servers))}
	before, err := stolen()
	if err != nil {
		return r, err
	}
	began := time.Now()
	for i := range servers {
		at := (i + n) % len(servers)
		if r.costs[at], err = w.load(f, servers[at]); err != nil {
			return r, fmt.Errorf("%s: %w", servers[at].name, err)
		}
	}
	after, err := stolen()
	r.stolen = float64(after-before) / float64(time.Since(began)*time.Duration(runtime.NumCPU()))
	return r, err
}

// alone measures a new server of ours each time.
func (f *field) alone(w work) ([]figure.Figure, error) {
	var rounds []round
	for range f.o.pairs {
		s, stop, err := starters[w.ours](f, w.ours)
		if err != nil {
			return nil, err
		}
		cost, err := w.load(f, s)
		stop()
		if err != nil {
			return nil, err
		}
		fmt.Printf("%s: %.2f %s\n", w.name, cost, w.unit)
		rounds = append(rounds, round{costs: []float64{cost}})
	}
	return summarise(w, rounds), nil
}
