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

// pair is one turn of each, in µs per request.
type pair struct {
	ours, theirs float64 // µs per request
	stolen       float64 // share of the machine's time that its host took
}

func (p pair) ratio() float64 { return p.ours / p.theirs }

// figure is one line of the result. Ours and Peer are medians, Ratio is the
// median of the pairs' ratios, Spread their quartiles.
type figure struct {
	Name     string     `json:"name"`
	Unit     string     `json:"unit"`
	Ours     float64    `json:"ours"`
	Peer     float64    `json:"peer"`
	PeerName string     `json:"peer_name"`
	Ratio    float64    `json:"ratio"`
	Spread   [2]float64 `json:"spread"`
	Pairs    int        `json:"pairs"`
	Bar      *float64   `json:"bar"` // null = none is set
	Sense    string     `json:"sense"`
	Met      *bool      `json:"met"`
}

func summarise(w workload, peer string, pairs []pair) figure {
	column := func(pick func(pair) float64) []float64 {
		values := make([]float64, len(pairs))
		for i, p := range pairs {
			values[i] = pick(p)
		}
		slices.Sort(values)
		return values
	}
	ratios := column(pair.ratio)
	f := figure{
		Name: w.name, Unit: "µs", PeerName: peer, Pairs: len(pairs), Sense: "<=",
		Ours:  quantile(column(func(p pair) float64 { return p.ours }), .5),
		Peer:  quantile(column(func(p pair) float64 { return p.theirs }), .5),
		Ratio: quantile(ratios, .5), Spread: [2]float64{quantile(ratios, .25), quantile(ratios, .75)},
	}
	if w.bar > 0 {
		met := f.Spread[1] <= w.bar
		f.Bar, f.Met = &w.bar, &met
	}
	return f
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
	return fmt.Sprintf("%s: selvage %.2f %s, %s %.2f %s, ratio %.3f (quartiles %.3f to %.3f of %d pairs), %s",
		f.Name, f.Ours, f.Unit, f.PeerName, f.Peer, f.Unit, f.Ratio, f.Spread[0], f.Spread[1], f.Pairs, verdict)
}

// report writes the figures and returns an error when a bar is missed.
func report(file string, figures []figure) error {
	text, err := json.MarshalIndent(figures, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(file, append(text, '\n'), 0o644); err != nil {
		return err
	}
	for _, f := range figures {
		if f.Met != nil && !*f.Met {
			err = errors.Join(err, fmt.Errorf("bar missed: %s", f.Name))
		}
	}
	return err
}
