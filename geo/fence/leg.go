package fence

import (
	"math"

	"github.com/mustermesh/muster/geo"
)

// leg is the way from one fix of a subject to the next, or that of a pair from
// one moment to the next: who moves, moves along a great circle at an even speed.
type leg struct {
	area           *area   // a fence's, or nil for a pair:
	radius         float64 // how near they are to be
	a0, a1, b0, b1 geo.Vec // b only of a pair
	t0, t1         int64
	sigma0, sigma1 float64 // standard deviation across any line, metres
	length         float64 // metres; no distance changes by more
	guess          bool    // too long, or too far, to say what was between
}

// at returns the distance to the edge after a part of the way.
func (l *leg) at(part float64) float64 {
	a := along(l.a0, l.a1, part)
	if l.area != nil {
		return l.area.distance(a)
	}
	return geo.Chord2Distance(a.Chord2(along(l.b0, l.b1, part))) - l.radius
}

// along returns a point of the great circle from a to b. Parts of the chord
// stand for parts of the arc: over 100 km they differ by less than a metre.
func along(a, b geo.Vec, part float64) geo.Vec {
	switch {
	case part <= 0 || a == b:
		return a
	case part >= 1:
		return b
	}
	return unit(lerp(a, b, part))
}

func (l *leg) sigma(part float64) float64 { return l.sigma0 + (l.sigma1-l.sigma0)*part }

func (l *leg) time(part float64) int64 {
	return l.t0 + int64(math.Round(float64(l.t1-l.t0)*min(max(part, 0), 1)))
}

// pass is what a leg does to an edge, seen from the side where one was.
type pass struct {
	over   int64   // the last time the path went over to the other side, or noTime
	peak   float64 // how far it got there, in standard deviations
	peakAt int64
	in     int64 // when it went over before the peak, or noTime: before this leg
	out    int64 // when it came back after the peak, or noTime
}

const noTime = math.MinInt64

// maxSteps bounds what a leg that follows an edge for very long may cost.
const maxSteps = 1024

// walk follows the leg. side is 1 for somebody who was outside and -1 for
// somebody inside; own0 and own1 are how far on this side of the edge it starts
// and ends, in metres.
//
// A distance can't change by more than the path is long, so from a point that
// is d metres from the edge the next d metres need no look; near the edge the
// steps are a standard deviation long, less than what counts.
func (l *leg) walk(side, own0, own1 float64) pass {
	p := pass{over: noTime, in: noTime, out: noTime}
	least := max(l.sigma0, l.sigma1, l.length/maxSteps)
	part, own := 0.0, own0
	for {
		if depth := -own / l.sigma(part); depth > p.peak {
			p.peak, p.peakAt, p.in, p.out = depth, l.time(part), p.over, noTime
		}
		if part >= 1 {
			return p
		}
		before, was := part, own
		step := own
		if own < 0 {
			step = -own / 2 // finer, to find how deep it gets
		}
		if part += max(step, least) / max(l.length, 1e-3); !(part < 1) {
			part, own = 1, own1
		} else {
			own = side * l.at(part)
		}
		if (was < 0) == (own < 0) {
			continue
		}
		edge := l.time(before + (part-before)*was/(was-own))
		if own < 0 {
			p.over = edge
		} else if p.out == noTime {
			p.out = edge
		}
	}
}

// over returns when the edge was passed between two ends on different sides, as
// if the distance to it had changed evenly.
func (l *leg) over(d0, d1 float64) int64 {
	if d0 == d1 {
		return l.t1
	}
	return l.time(d0 / (d0 - d1))
}
