package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
)

// round is one turn of each: ours, then the peers in the work's order.
type round struct {
	costs  []float64
	stolen float64 // share of the machine's time that its host took
}

// figure is one line of the result. Ours and Peer are medians, Ratio is the
// median of the rounds' ratios, Spread their quartiles (of ours, without peer).
type figure struct {
	Name     string     `json:"name"`
	Unit     string     `json:"unit"`
	Ours     float64    `json:"ours"`
	Peer     *float64   `json:"peer"`
	PeerName *string    `json:"peer_name"`
	Ratio    *float64   `json:"ratio"`
	Spread   [2]float64 `json:"spread"`
	Pairs    int        `json:"pairs"`
	Bar      *float64   `json:"bar"` // null = none is set
	Sense    string     `json:"sense"`
	Met      *bool      `json:"met"`
}

// summarise makes a figure for each peer, or one of ours alone.
func summarise(w work, rounds []round) []figure {
	if len(w.peers) == 0 {
		ours := column(rounds, func(r round) float64 { return r.costs[0] })
		f := figure{Name: w.title, Unit: w.unit, Ours: quantile(ours, .5), Pairs: len(rounds), Sense: "<="}
		f.Spread = [2]float64{quantile(ours, .25), quantile(ours, .75)}
		return []figure{f.judged(w.bar)}
	}
	var figures []figure
	for i, p := range w.peers {
		ratios := column(rounds, func(r round) float64 { return r.costs[0] / r.costs[i+1] })
		theirs := quantile(column(rounds, func(r round) float64 { return r.costs[i+1] }), .5)
		ratio := quantile(ratios, .5)
		f := figure{
			Name: w.title, Unit: w.unit, Pairs: len(rounds), Sense: "<=",
			Ours: quantile(column(rounds, func(r round) float64 { return r.costs[0] }), .5),
			Peer: &theirs, PeerName: &p.server, Ratio: &ratio,
			Spread: [2]float64{quantile(ratios, .25), quantile(ratios, .75)},
		}
		figures = append(figures, f.judged(p.bar))
	}
	return figures
}

// judged sets bar and verdict: the upper quartile has to be within the bar.
func (f figure) judged(bar float64) figure {
	if bar > 0 {
		met := f.Spread[1] <= bar
		f.Bar, f.Met = &bar, &met
	}
	return f
}

func column(rounds []round, pick func(round) float64) []float64 {
	values := make([]float64, len(rounds))
	for i, r := range rounds {
		values[i] = pick(r)
	}
	slices.Sort(values)
	return values
}

// quantile interpolates between the sorted values.
func quantile(sorted []float64, q float64) float64 {
	at := q * float64(len(sorted)-1)
	low := math.Floor(at)
	high := math.Ceil(at)
	return sorted[int(low)] + (at-low)*(sorted[int(high)]-sorted[int(low)])
}

func (f figure) String() string {
	verdict := "no bar set"
	if f.Bar != nil {
		verdict = fmt.Sprintf("bar %.2f missed", *f.Bar)
		if *f.Met {
			verdict = fmt.Sprintf("bar %.2f met", *f.Bar)
		}
	}
	if f.Peer == nil {
		return fmt.Sprintf("= %s: %.2f %s (quartiles %.2f to %.2f of %d), %s", f.Name, f.Ours, f.Unit, f.Spread[0], f.Spread[1], f.Pairs, verdict)
	}
	return fmt.Sprintf("= %s: selvage %.2f %s, %s %.2f %s, ratio %.3f (quartiles %.3f to %.3f of %d pairs), %s",
		f.Name, f.Ours, f.Unit, *f.PeerName, *f.Peer, f.Unit, *f.Ratio, f.Spread[0], f.Spread[1], f.Pairs, verdict)
}

func write(file string, figures []figure) error {
	text, err := json.MarshalIndent(figures, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	return os.WriteFile(file, append(text, '\n'), 0o644)
}

// missed names the bars that were missed.
func missed(figures []figure) (err error) {
	for _, f := range figures {
		if f.Met != nil && !*f.Met {
			err = errors.Join(err, fmt.Errorf("bar missed: %s", f))
		}
	}
	return err
}
