// Package figure is one line of a measurement's result, and the one way to judge
// it and to write it down.
package figure

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
)

// Figure compares ours with a peer's, or with a bar alone. Ours and Peer are
// medians, Ratio is the median of the rounds' ratios, Spread their quartiles (of
// ours, where there is no peer).
type Figure struct {
	Name     string     `json:"name"`
	Unit     string     `json:"unit"`
	Ours     float64    `json:"ours"`
	Peer     *float64   `json:"peer"`
	PeerName *string    `json:"peer_name"`
	Ratio    *float64   `json:"ratio"`
	Spread   [2]float64 `json:"spread"`
	Pairs    int        `json:"pairs"` // rounds
	Bar      *float64   `json:"bar"`   // null = none is set
	Sense    string     `json:"sense"` // "<=": a bar is the most that is accepted
	Met      *bool      `json:"met"`
}

// Alone makes a figure of ours, measured several times.
func Alone(name, unit string, ours []float64, bar float64) Figure {
	ours = sorted(ours)
	f := Figure{Name: name, Unit: unit, Ours: Quantile(ours, .5), Pairs: len(ours), Sense: "<="}
	f.Spread = [2]float64{Quantile(ours, .25), Quantile(ours, .75)}
	return f.judged(bar)
}

// Beside makes a figure of ours and a peer's, measured in turns; bar is the
// highest ratio that is accepted, 0 = none is set.
func Beside(name, unit, peer string, ours, theirs []float64, bar float64) Figure {
	ratios := make([]float64, len(ours))
	for i := range ours {
		ratios[i] = ours[i] / theirs[i]
	}
	ratios = sorted(ratios)
	median, ratio := Quantile(sorted(theirs), .5), Quantile(ratios, .5)
	f := Figure{
		Name: name, Unit: unit, Pairs: len(ours), Sense: "<=", Ours: Quantile(sorted(ours), .5),
		Peer: &median, PeerName: &peer, Ratio: &ratio,
		Spread: [2]float64{Quantile(ratios, .25), Quantile(ratios, .75)},
	}
	return f.judged(bar)
}

// Most makes a figure of which at most bar is accepted, 0 included: the
// q-quantile of values.
func Most(name, unit string, values []float64, q, bar float64) Figure {
	values = sorted(values)
	ours := Quantile(values, q)
	met := ours <= bar
	return Figure{
		Name: name, Unit: unit, Ours: ours, Pairs: len(values), Sense: "<=", Bar: &bar, Met: &met,
		Spread: [2]float64{Quantile(values, .25), Quantile(values, .75)},
	}
}

// Count is Most of one number.
func Count(name, unit string, n, bar int) Figure {
	return Most(name, unit, []float64{float64(n)}, 0, float64(bar))
}

// judged sets bar and verdict: the upper quartile has to be within the bar.
func (f Figure) judged(bar float64) Figure {
	if bar > 0 {
		met := f.Spread[1] <= bar
		f.Bar, f.Met = &bar, &met
	}
	return f
}

func sorted(values []float64) []float64 {
	values = slices.Clone(values)
	slices.Sort(values)
	return values
}

// Quantile interpolates between sorted values.
func Quantile(sorted []float64, q float64) float64 {
	at := q * float64(len(sorted)-1)
	low := math.Floor(at)
	high := math.Ceil(at)
	return sorted[int(low)] + (at-low)*(sorted[int(high)]-sorted[int(low)])
}

func (f Figure) String() string {
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
	return fmt.Sprintf("= %s: selvage %.3g %s, %s %.3g %s, ratio %.3f (quartiles %.3f to %.3f of %d pairs), %s",
		f.Name, f.Ours, f.Unit, *f.PeerName, *f.Peer, f.Unit, *f.Ratio, f.Spread[0], f.Spread[1], f.Pairs, verdict)
}

// Write replaces a file by the figures as JSON.
func Write(file string, figures []Figure) error {
	text, err := json.MarshalIndent(figures, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	return os.WriteFile(file, append(text, '\n'), 0o644)
}

// Append adds f to a file of figures, one a line.
func Append(file string, f Figure) error {
	line, err := json.Marshal(f)
	if err != nil {
		return err
	}
	out, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = out.Write(append(line, '\n'))
	return errors.Join(err, out.Close())
}

// Read returns what Append wrote to a file.
func Read(file string) (figures []Figure, err error) {
	in, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	for lines := json.NewDecoder(in); ; {
		var f Figure
		switch err := lines.Decode(&f); err {
		case nil:
			figures = append(figures, f)
		case io.EOF:
			return figures, nil
		default:
			return nil, fmt.Errorf("read figures of %s: %w", file, err)
		}
	}
}

// Missed names the bars that were missed; nil when none was.
func Missed(figures []Figure) (err error) {
	for _, f := range figures {
		if f.Met != nil && !*f.Met {
			err = errors.Join(err, fmt.Errorf("bar missed: %s", f))
		}
	}
	return err
}
