package main

import "github.com/selvage-edge/selvage/internal/figure"

// round is one turn of each: ours, then the peers in the work's order.
type round struct {
	costs  []float64
	stolen float64 // share of the machine's time that its host took
}

// summarise makes a figure for each peer, and one of ours alone where that has a
// bar or there is no peer.
func summarise(w work, rounds []round) (figures []figure.Figure) {
	ours := column(rounds, 0)
	if len(w.peers) == 0 || w.bar > 0 {
		figures = append(figures, figure.Alone(w.title, w.unit, ours, w.bar))
	}
	for i, p := range w.peers {
		figures = append(figures, figure.Beside(w.title, w.unit, p.server, ours, column(rounds, i+1), p.bar))
	}
	return figures
}

func column(rounds []round, i int) []float64 {
	values := make([]float64, len(rounds))
	for n, r := range rounds {
		values[n] = r.costs[i]
	}
	return values
}
