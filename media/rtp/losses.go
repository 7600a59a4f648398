package rtp

import "time"

// LossConfig says how missing packets are asked for. Zero values are replaced by what
// stands beside them.
type LossConfig struct {
	// Wait is 5 ms: before the first time, since packets overtake each other. It grows to
	// what was seen to be late and not lost, up to a quarter of Age, and back again.
	Wait    time.Duration
	Spacing time.Duration // 20 ms: at least this, and at least the round trip, between two times
	Tries   int           // 10: times
	Age     time.Duration // 1 s: after that it is given up
	Most    int           // 256: numbers waited for at a time; of more the oldest are given up
}

// Arrival is what a packet's number says of it.
type Arrival uint8

const (
	Newest    Arrival = iota // higher than all before
	Filled                   // was missing
	Duplicate                // came before
	Outdated                 // older than what is remembered
)

// Losses follows the sequence numbers of one source: which are missing, when to ask for
// which, and which are given up. It belongs to one goroutine, or to its owner's lock.
type Losses struct {
	c       LossConfig
	missing []missing // by number, the oldest first
	came    [64]uint64
	begun   bool
	highest uint16
	from    uint16 // the oldest number that `came` says something about
	strange uint16 // the number after one that is older
	lost    uint64
	wait    time.Duration // see LossConfig.Wait
	trip    time.Duration // round trip, of the last question
}

type missing struct {
	seq   uint16
	tries uint16
	since time.Time
	asked time.Time
}

// remembered is how many numbers back duplicates are known.
const remembered = 64 * 64

// NewLosses returns one that has seen nothing.
func NewLosses(c LossConfig) *Losses {
	or := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	or(&c.Wait, 5*time.Millisecond)
	or(&c.Spacing, 20*time.Millisecond)
	or(&c.Age, time.Second)
	if c.Tries <= 0 {
		c.Tries = 10
	}
	if c.Most <= 0 {
		c.Most = 256
	}
	return &Losses{c: c, wait: c.Wait, missing: make([]missing, 0, c.Most)}
}

// Begin says which number is the first, if that is known: those from it on are missed,
// even if a later one comes first.
func (l *Losses) Begin(seq uint16) {
	l.begun, l.highest, l.from = true, seq-1, seq
}

// Came tells of a packet that arrived.
func (l *Losses) Came(seq uint16, now time.Time) Arrival {
	if !l.begun {
		l.begun, l.highest, l.from = true, seq, seq
		l.mark(seq, true)
		return Newest
	}
	if int16(seq-l.highest) > 0 {
		l.upTo(seq-1, now)
		l.highest = seq
		l.mark(seq, true)
		l.forget()
		l.wait -= (l.wait - l.c.Wait) / 1024
		return Newest
	}
	if l.highest-seq > l.highest-l.from {
		if seq == l.strange { // two in a row: the numbers go on elsewhere
			l.lost += uint64(len(l.missing))
			*l = Losses{c: l.c, wait: l.wait, missing: l.missing[:0], lost: l.lost}
			return l.Came(seq, now)
		}
		l.strange = seq + 1
		return Outdated
	}
	if l.marked(seq) {
		return Duplicate
	}
	l.mark(seq, true)
	if i, ok := l.find(seq); ok {
		// It came by itself, if before an answer could.
		if m := &l.missing[i]; m.tries == 0 || m.tries == 1 && now.Sub(m.asked) < l.trip*3/4 {
			l.wait = max(l.wait, min(now.Sub(m.since)*5/4, l.c.Age/4))
		}
		l.missing = append(l.missing[:i], l.missing[i+1:]...)
	} else {
		l.lost-- // given up, and here after all
	}
	return Filled
}

// Sent tells that packets up to this number were sent, whether or not they come: the
// last of a burst is missed by nothing that follows.
func (l *Losses) Sent(seq uint16, now time.Time) {
	if l.begun && int16(seq-l.highest) > 0 {
		l.upTo(seq, now)
		l.forget()
	}
}

// upTo has all numbers after the highest one up to this one be missing.
func (l *Losses) upTo(seq uint16, now time.Time) {
	n := int(seq - l.highest)
	if skip := n - l.c.Most; skip > 0 {
		// More than is waited for: what was missing is given up, and the oldest of these.
		l.lost += uint64(skip + len(l.missing))
		l.missing = l.missing[:0]
		if skip >= remembered {
			l.highest += uint16(skip)
			l.from = l.highest
			clear(l.came[:])
			skip = 0
		}
		for ; skip > 0; skip-- {
			l.highest++
			l.mark(l.highest, false)
		}
	}
	for l.highest != seq {
		l.highest++
		l.mark(l.highest, false)
		if len(l.missing) == l.c.Most {
			l.lost++
			l.missing = append(l.missing[:0], l.missing[1:]...)
		}
		l.missing = append(l.missing, missing{seq: l.highest, since: now})
	}
}

// Ask appends the numbers to be asked for now to dst. roundTrip 0: not known. What is
// too old, or was asked for often enough, is given up.
func (l *Losses) Ask(dst []uint16, now time.Time, roundTrip time.Duration) []uint16 {
	l.trip = roundTrip
	spacing := max(roundTrip+roundTrip/4, l.c.Spacing)
	keep := l.missing[:0]
	for _, m := range l.missing {
		last := int(m.tries) >= l.c.Tries && now.Sub(m.asked) >= spacing
		if last || now.Sub(m.since) >= l.c.Age {
			l.lost++
			continue
		}
		due := m.tries == 0 && now.Sub(m.since) >= l.wait || m.tries > 0 && now.Sub(m.asked) >= spacing
		if due && int(m.tries) < l.c.Tries {
			m.asked = now
			m.tries++
			dst = append(dst, m.seq)
		}
		keep = append(keep, m)
	}
	l.missing = keep
	return dst
}

// Missing is how many numbers are waited for.
func (l *Losses) Missing() int { return len(l.missing) }

// Lost is how many were given up and did not come after all.
func (l *Losses) Lost() uint64 { return l.lost }

func (l *Losses) find(seq uint16) (int, bool) {
	// By binary search: ages, which are below 32,768, fall.
	lo, hi := 0, len(l.missing)
	for lo < hi {
		mid := (lo + hi) / 2
		if int16(l.missing[mid].seq-seq) < 0 {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo, lo < len(l.missing) && l.missing[lo].seq == seq
}

func (l *Losses) forget() {
	if l.highest-l.from >= remembered {
		l.from = l.highest - remembered + 1
	}
}

func (l *Losses) mark(seq uint16, came bool) {
	w, bit := &l.came[seq/64%64], uint64(1)<<(seq%64)
	*w &^= bit
	if came {
		*w |= bit
	}
}

func (l *Losses) marked(seq uint16) bool { return l.came[seq/64%64]>>(seq%64)&1 == 1 }
