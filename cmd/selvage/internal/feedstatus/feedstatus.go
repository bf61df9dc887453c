// Package feedstatus shows people where the feed, or one change, stands. It
// promises that those in trouble come first, and that what it draws on a
// terminal fits.
package feedstatus

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/selvage-edge/selvage/client"
	"github.com/selvage-edge/selvage/cmd/selvage/internal/table"
	"github.com/selvage-edge/selvage/internal/conf"
)

// refreshEach is how often a table is drawn anew.
const refreshEach = time.Second

// Status shows where the feed, or one change, stands.
type Status struct {
	Client     *client.Client
	Seq        uint64 // 0: the feed
	Out        io.Writer
	Rows, Cols int // of the terminal; 0: none
}

// JSON prints it once, with the API's names of fields.
func (s *Status) JSON(ctx context.Context) error {
	var result any
	var err error
	if s.Seq > 0 {
		result, err = s.Client.Change(ctx, s.Seq)
	} else {
		result, err = s.Client.Feed(ctx)
	}
	if err != nil {
		return err
	}
	enc := json.NewEncoder(s.Out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(result)
}

// Show prints the table, once or until ctx ends or there is nothing left to
// come. It returns how many connected edges lacked the change in the end.
func (s *Status) Show(ctx context.Context, again bool) (lacking int, err error) {
	tick := time.NewTicker(refreshEach)
	defer tick.Stop()
	for first := true; ; first = false {
		var text bytes.Buffer
		done, lacking, err := s.table(ctx, &text)
		if ctx.Err() != nil && again && !first {
			return 0, nil // Ctrl-C ends what has no end
		}
		if err != nil {
			return 0, err
		}
		if err := s.draw(text.Bytes(), first, again); err != nil {
			return 0, err
		}
		if !again || done {
			return lacking, nil
		}
		select {
		case <-ctx.Done():
			return 0, nil
		case <-tick.C:
		}
	}
}

// draw puts text in the place of the one before on a terminal, else below it.
func (s *Status) draw(text []byte, first, again bool) error {
	if s.Rows == 0 || !again {
		if !first {
			text = append([]byte("\n"), text...)
		}
		_, err := s.Out.Write(text)
		return err
	}
	_, err := s.Out.Write(screen(text, s.Rows, s.Cols, first))
	return err
}

// screen makes of text what fills a terminal with it (ECMA-48: cursor home,
// erase to the end of line and screen), no line and no column too many.
func screen(text []byte, rows, cols int, first bool) []byte {
	var b bytes.Buffer
	if first {
		b.WriteString("\x1b[2J")
	}
	b.WriteString("\x1b[H")
	lines := bytes.Split(bytes.TrimRight(text, "\n"), []byte("\n"))
	if more := len(lines) - (rows - 1); more > 0 {
		lines = append(lines[:rows-2], fmt.Appendf(nil, "and %d more", more+1))
	}
	for _, line := range lines {
		if runes := []rune(string(line)); len(runes) > cols {
			line = []byte(string(runes[:cols]))
		}
		b.Write(line)
		b.WriteString("\x1b[K\n")
	}
	b.WriteString("\x1b[J")
	return b.Bytes()
}

// table writes where things stand and reports whether nothing is left to come,
// and how many connected edges lack the change.
func (s *Status) table(ctx context.Context, w io.Writer) (done bool, lacking int, err error) {
	if s.Seq == 0 {
		f, err := s.Client.Feed(ctx)
		if err != nil {
			return false, 0, err
		}
		return false, 0, printFeed(w, &f)
	}
	ch, err := s.Client.Change(ctx, s.Seq)
	if err != nil {
		return false, 0, err
	}
	lacking = len(ch.Rejected)
	for _, n := range ch.Pending {
		if n.Connected {
			lacking++
		}
	}
	return len(ch.Pending) == 0, lacking, printChange(w, &ch)
}

func printChange(w io.Writer, ch *client.Change) error {
	fmt.Fprintf(w, "%s\nchange %d, head %d\n", ch.Text, ch.Seq, ch.Head)
	lacking := append(slices.Clone(ch.Rejected), ch.Pending...)
	if len(lacking) == 0 {
		return nil
	}
	fmt.Fprintln(w)
	return table.Print(w, false, lacking, []string{"COLO", "NODE", "STATE", "APPLIED", "REJECTED"}, func(n client.Node) []string {
		state, applied := "missing", strconv.FormatUint(n.Applied, 10)
		switch {
		case n.Reason != "":
			state, applied = "rejected", "-"
		case n.Connected:
			state = "behind"
		}
		return []string{n.Colo, n.Node, state, applied, cmp.Or(n.Reason, "-")}
	})
}

func printFeed(w io.Writer, f *client.Feed) error {
	fmt.Fprintf(w, "%s\nhead %d", f.Text, f.Head.Seq)
	if !f.Head.Time.IsZero() {
		fmt.Fprintf(w, " of %s UTC", f.Head.Time.UTC().Format(time.DateTime))
	}
	fmt.Fprintf(w, ", the log holds %d entries (%s), led by %s\n", f.Retained.Entries, conf.Size(f.Retained.Bytes), cmp.Or(f.Leader, "nobody"))
	for _, k := range f.Kill {
		fmt.Fprintf(w, "switched off: %s since %s UTC (%s)\n", k.Name, k.Since.UTC().Format(time.DateTime), table.Line(k.Reason))
	}
	if len(f.Nodes) == 0 {
		return nil
	}
	fmt.Fprintln(w)
	slices.SortStableFunc(f.Nodes, func(a, b client.FeedNode) int {
		if a.Connected != b.Connected {
			if b.Connected {
				return -1
			}
			return 1
		}
		return cmp.Or(cmp.Compare(b.LagSeconds, a.LagSeconds), -cmp.Compare(len(a.Troubles()), len(b.Troubles())), cmp.Compare(a.Colo, b.Colo), cmp.Compare(a.Node, b.Node))
	})
	return table.Print(w, false, f.Nodes, []string{"COLO", "NODE", "STATE", "SINCE (UTC)", "APPLIED", "LAG", "TROUBLE"}, func(n client.FeedNode) []string {
		state, lag := "connected", "-"
		if !n.Connected {
			state = "missing"
		} else if n.Health != nil && n.Health.State != "ready" {
			state = n.Health.State
		}
		if n.LagEntries > 0 {
			lag = fmt.Sprintf("%d (%.1f s)", n.LagEntries, n.LagSeconds)
		}
		return []string{n.Colo, cmp.Or(n.Name, n.Node), state, n.Since.UTC().Format(time.DateTime), strconv.FormatUint(n.Applied, 10), lag, cmp.Or(strings.Join(n.Troubles(), "; "), "-")}
	})
}
