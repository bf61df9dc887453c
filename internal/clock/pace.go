package clock

import "time"

// DefaultRate is the least that a visitor has to send or take, in bytes a
// second, where nobody says otherwise: what common servers ask for.
const DefaultRate = 240

// Pace bounds how long a side that sends or takes bytes is waited for: it has
// Most, and gets back what its bytes are worth at Rate, up to Most again. Who
// keeps to Rate is waited for without end, and who says a byte now and then is
// not. Not safe for concurrent use.
type Pace struct {
	Most time.Duration
	Rate int // bytes a second; 0 = any byte gives all of Most back

	spent time.Duration
}

// Left is how long the next byte may take; 0 or less when the time is over.
func (p *Pace) Left() time.Duration { return p.Most - p.spent }

// Moved counts n bytes that were waited for so long.
func (p *Pace) Moved(waited time.Duration, n int) {
	p.spent += max(0, waited)
	switch {
	case n <= 0:
	case p.Rate <= 0, n >= p.Rate*int(p.Most/time.Second+1):
		p.spent = 0
	default:
		p.spent = max(0, p.spent-time.Duration(n)*time.Second/time.Duration(p.Rate))
	}
}
