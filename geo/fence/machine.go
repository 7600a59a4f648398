package fence

import (
	"math"
	"time"
)

// What it takes to be sure. All are in standard deviations across the edge,
// one of which is accuracy / 1.51: within 1.51 of them is a point of a normal
// distribution in the plane with 68 %. What they lead to is in
// docs/adr/0094-fences.md.
const (
	sigmaOfAccuracy = 1 / 1.51

	// The evidence of one fix on the other side by z is z²/2 (as a logarithm of
	// odds), less an allowance: only a disc that lies wholly beyond the edge counts,
	// by 1.3 accuracies.
	allowance = 2
	// enough evidence passes the edge. A single fix has it from z = 4.5 on.
	enough = 8
	// Errors of fixes that follow each other closely are alike, so that a fix
	// counts by how much time passed since the one before: fully after this.
	independent = 30 * time.Second

	// beyond is how far a path must have been on a side to count as having been
	// there, and prominence how far it must have gone from one to the other, or,
	// after a long stay at the edge, beyond it: more than errors alone ever do.
	beyond     = 3
	prominence = 8
	// recent is how old a place before a visit may be, besides the last leg.
	recent = time.Minute
)

// machine decides whether a subject is inside, from its distances to the edge.
//
//	            evidence for inside ≥ enough
//	outside ──────────────────────────────────▶ inside
//	   ▲  │ ◀────────────────────────────────── │  ▲
//	   │  │     evidence for outside ≥ enough   │  │
//	   └──┘                                     └──┘
//	   the path was surely inside (outside) between two
//	   places surely outside (inside): both events at once
//
// The evidence is a cumulative sum that never falls below zero (E. S. Page,
// "Continuous Inspection Schemes", Biometrika 41, 1954): standing at the edge it
// falls as often as it rises, and the allowance makes it fall more.
//
// Own means: on the side where the subject is taken to be, other: beyond the
// edge. A machine that was not seen takes it to be outside.
type machine struct {
	fence *entry // nil in a pair
	n     uint32 // events told

	inside  bool
	known   bool // it was surely on the own side once
	seen    bool // there was a fix before
	told    bool // the enter was; n is odd
	first   bool // it was inside when first seen
	crossed bool // the enter was on a path only
	dormant bool // surely outside and far away: only n means anything
	near    bool // in this step

	d        float64 // metres from the edge at the last fix, negative inside
	evidence float64 // for the other side
	over     int64   // when the path last went to the other side
	flipped  int64   // when the edge was passed last: entered, if inside
	unclear  int64   // since when discs lay over the edge, or noTime

	// The farthest recent place on the own side.
	own   float64
	ownAt int64
	// A visit to the other side that is not told yet: how far it got, if it did.
	peak            float64
	peakAt, in, out int64
	peakByFix       bool
}

// teller collects the events of a step.
type teller struct {
	events               []Event
	fence, pair, subject string
}

func (m *machine) tell(t *teller, kind Kind, at int64, reason Reason, crossed bool) {
	m.n++
	t.events = append(t.events, Event{
		Fence: t.fence, Pair: t.pair, Subject: t.subject, N: m.n, Kind: kind,
		At: time.UnixMilli(at).UTC(), Reason: reason, Crossed: crossed,
	})
}

// side is 1 outside and -1 inside, so that side × distance is positive on the
// own side.
func (m *machine) side() float64 {
	if m.inside {
		return -1
	}
	return 1
}

// step takes the next fix: the end of a leg whose start the machine has seen, or
// which has no start. acc is the radius of its disc.
func (m *machine) step(l *leg, acc float64, dwell int64, t *teller) {
	d := l.at(1)
	was := m.d
	m.d = d
	own := clamp(m.side() * d / l.sigma1)
	weight := 1.0
	switch {
	case !m.seen:
		m.seen = true
		m.over = l.t1
		m.flipped = noTime
		m.unclear = noTime
		m.ownAt = noTime
	default:
		weight = min(1, float64(l.t1-l.t0)/float64(independent.Milliseconds()))
		m.follow(l, was, d)
	}

	m.evidence = max(0, m.evidence+weight*(odds(-own)-allowance))
	if m.peak < clampZ && l.t1-m.peakAt > l.recent() {
		m.peak = 0
	}
	switch {
	case m.evidence >= enough:
		m.flip(t, m.over, l.t1, dwell, !m.known, false)
		m.known = true
		m.own, m.ownAt = -own, l.t1
	case m.peak > 0 && own >= max(beyond, prominence-m.peak):
		crossed := !m.peakByFix
		in, out := m.in, m.out
		if out == noTime {
			out = l.t1
		}
		m.flip(t, in, l.t1, dwell, false, crossed)
		m.flip(t, out, l.t1, dwell, false, crossed)
		m.own, m.ownAt = own, l.t1
	case own > 0:
		m.known = m.known || own >= beyond
		if own >= m.own || m.ownAt == noTime || l.t1-m.ownAt > l.recent() {
			m.own, m.ownAt = own, l.t1
		}
	}
	if m.inside && !m.told && l.t1-m.flipped >= dwell {
		m.tellEnter(t)
	}
	if math.Abs(d) >= acc {
		m.unclear = noTime
	} else if m.unclear == noTime {
		m.unclear = l.t1
	}
}

// follow takes what the path to this fix did.
func (m *machine) follow(l *leg, was, d float64) {
	side := m.side()
	own0, own1 := side*was, side*d
	if l.guess {
		if own0 >= 0 && own1 < 0 {
			m.over = l.over(own0, own1)
		}
		return
	}
	if own0+own1 > l.length {
		return // it can't have reached the edge
	}
	p := l.walk(side, own0, own1)
	if p.in == noTime {
		p.in = m.over
	}
	if p.over != noTime {
		m.over = p.over
	}
	byFix := -own1/l.sigma1 >= p.peak
	if peak := min(p.peak, clampZ); peak >= beyond && peak > m.peak && (peak >= prominence ||
		m.own+peak >= prominence && m.ownAt != noTime && p.peakAt-m.ownAt <= l.recent()) {
		m.peak, m.peakAt, m.in, m.out, m.peakByFix = peak, p.peakAt, p.in, p.out, byFix
	} else if m.peak > 0 && m.out == noTime {
		m.out = p.out
	}
}

// recent is how old what belongs to a visit may be at this leg.
func (l *leg) recent() int64 { return recent.Milliseconds() + (l.t1 - l.t0) }

// flip passes the edge.
func (m *machine) flip(t *teller, at, now, dwell int64, first, crossed bool) {
	if at = min(max(at, m.flipped), now); at == noTime {
		at = now
	}
	if m.inside {
		if !m.told && at-m.flipped >= dwell {
			m.tellEnter(t)
		}
		if m.told {
			m.tell(t, Exit, at, Moved, crossed)
		}
		m.told = false
	} else {
		m.first, m.crossed = first, crossed
	}
	m.inside = !m.inside
	m.flipped, m.evidence, m.peak = at, 0, 0
}

func (m *machine) tellEnter(t *teller) {
	reason := Moved
	if m.first {
		reason = First
	}
	m.tell(t, Enter, m.flipped, reason, m.crossed)
	m.told = true
}

// end tells the exit of what can't go on, and leaves a machine that only counts.
func (m *machine) end(t *teller, at, dwell int64, reason Reason) {
	if m.inside {
		at = max(at, m.flipped)
		if !m.told && at-m.flipped >= dwell {
			m.tellEnter(t)
		}
		if m.told {
			m.tell(t, Exit, at, reason, false)
		}
	}
	*m = machine{fence: m.fence, n: m.n}
}

// settled reports whether what comes can be told without this machine but n: at
// its last fix, of time t, it was outside as far as counts.
func (m *machine) settled(t int64) bool {
	return !m.inside && m.evidence == 0 && m.peak == 0 && m.own >= clampZ && m.ownAt == t
}

func (m *machine) standing() Standing {
	var s Standing
	switch {
	case m.inside:
		s.State, s.Since = Inside, time.UnixMilli(m.flipped).UTC()
	case m.known:
		s.State = Outside
	}
	if m.seen && m.unclear != noTime {
		s.Unclear = time.UnixMilli(m.unclear).UTC()
	}
	return s
}

// clampZ is as far as far counts.
const clampZ = prominence

func clamp(z float64) float64 { return min(max(z, -clampZ), clampZ) }

// odds is about the logarithm of how much more likely it is that a point is on
// the side on which it was seen z standard deviations from the edge.
func odds(z float64) float64 { return z * math.Abs(z) / 2 }
