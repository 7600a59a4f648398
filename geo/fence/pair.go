package fence

import (
	"math"
	"slices"

	"github.com/mustermesh/muster/geo"
)

// meeting is what is known of a pair after some of the fixes of both, in order.
// Where both are is compared at the moments of all fixes of either, the other
// one's place being interpolated. So of the one whose fixes are ahead, they wait
// until the other one is heard of: nobody's path is guessed forwards.
type meeting struct {
	p       *pair
	filters [2]filter
	last    [2]sample // up to which both were compared, and from where to interpolate
	has     [2]bool
	heard   [2]int64 // when there was a fix, also one that is kept aside
	lead    int      // whose fixes wait
	ahead   []sample // they

	machine machine
	// The moment before.
	moment [2]geo.Vec
	acc    float64
	at     int64 // noTime: none
}

// maxAhead bounds the fixes that wait. Beyond it the way is remembered less
// finely, its ends exactly.
const maxAhead = 128

func newMeeting(p *pair) *meeting { return &meeting{p: p, at: noTime} }

func (k *meeting) set(from reducer) {
	o := from.(*meeting)
	ahead := append(k.ahead[:0], o.ahead...)
	*k = *o
	k.ahead = ahead
}

func (k *meeting) setAside() (sample, bool) { return sample{}, false }

func (k *meeting) step(e *Engine, s stamped, t *teller) {
	if s.t < k.p.from {
		return
	}
	k.tick(e, s.t, t)
	k.heard[s.side] = s.t
	accepted, n := k.filters[s.side].pass(s.sample, e.cfg.MaxSpeed)
	for _, f := range accepted[:n] {
		k.accept(e, int(s.side), f, t)
	}
}

// newest returns the last fix of a side.
func (k *meeting) newest(side int) *sample {
	if n := len(k.ahead); n > 0 && k.lead == side {
		return &k.ahead[n-1]
	}
	return &k.last[side]
}

// tick ends the pair if a side had not been heard of for too long by now. It goes
// by capture times alone, so that the next fix finds the same.
func (k *meeting) tick(e *Engine, now int64, t *teller) {
	stale := e.cfg.Stale.Milliseconds()
	ends := int64(math.MaxInt64)
	for side := range k.has {
		if k.has[side] && now-k.heard[side] > stale {
			ends = min(ends, k.heard[side]+stale)
		}
	}
	if ends == math.MaxInt64 {
		return
	}
	k.machine.end(t, ends, k.p.Dwell.Milliseconds(), Stale)
	k.at = noTime
	for side := range k.has {
		k.last[side] = *k.newest(side)
		if now-k.heard[side] > stale {
			k.has[side], k.filters[side].hasAside = false, false
		}
	}
	k.ahead = k.ahead[:0]
}

func (k *meeting) accept(e *Engine, side int, f sample, t *teller) {
	other := 1 - side
	// What is ahead may be newer than a fix that was kept aside until now.
	if len(k.ahead) > 0 && k.lead == other {
		i := 0
		for ; i < len(k.ahead) && k.ahead[i].t <= f.t; i++ {
			q := k.ahead[i]
			if k.has[side] {
				k.compare(e, side, between(&k.last[side], &f, q.t), q, t)
			}
			k.last[other] = q
		}
		k.ahead = slices.Delete(k.ahead, 0, i)
	}
	switch {
	case !k.has[side] || len(k.ahead) > 0 && k.lead == other:
		k.last[side], k.has[side] = f, true
		if k.has[other] && len(k.ahead) == 0 {
			k.lead, k.ahead = side, append(k.ahead, f)
		}
	case !k.has[other]:
		k.last[side] = f
	default:
		if len(k.ahead) == maxAhead {
			k.ahead = slices.Delete(k.ahead, 1, 2)
		}
		k.lead, k.ahead = side, append(k.ahead, f)
	}
}

// between returns where somebody was at a time, between two fixes.
func between(a, b *sample, t int64) sample {
	if b.t <= a.t || distance(a.v, b.v) > maxPath {
		return *b
	}
	part := min(max(float64(t-a.t)/float64(b.t-a.t), 0), 1)
	return sample{t, along(a.v, b.v, part), a.acc + (b.acc-a.acc)*part}
}

// compare moves the machine to the moment of q, of the other side than x.
func (k *meeting) compare(e *Engine, side int, x, q sample, t *teller) {
	if k.at != noTime && q.t <= k.at {
		return
	}
	now := [2]geo.Vec{}
	now[side], now[1-side] = x.v, q.v
	// Along the line between them the errors of both add up.
	acc := math.Hypot(x.acc, q.acc)
	l := leg{radius: k.p.Radius, a1: now[0], b1: now[1], t1: q.t, sigma1: acc * sigmaOfAccuracy}
	if k.at != noTime {
		l.a0, l.b0, l.t0, l.sigma0 = k.moment[0], k.moment[1], k.at, k.acc*sigmaOfAccuracy
		l.length = distance(l.a0, l.a1) + distance(l.b0, l.b1)
		l.guess = e.cfg.guess(&l, 2*e.cfg.MaxSpeed, 2*(k.acc+acc))
	}
	k.machine.step(&l, acc, k.p.Dwell.Milliseconds(), t)
	k.moment, k.acc, k.at = now, acc, q.t
}

// pair is a pair of an engine.
type pair struct {
	Pair
	from int64
	timeline
}

func newPair(p Pair) *pair {
	x := &pair{Pair: p, from: noTime}
	if !p.From.IsZero() {
		x.from = p.From.UnixMilli()
	}
	x.timeline = newTimeline(newMeeting(x), newMeeting(x))
	return x
}

func (p *pair) side(subject string) uint8 {
	if p.A == subject {
		return 0
	}
	return 1
}

func (p *pair) teller(dst []Event) teller { return teller{events: dst, pair: p.ID} }
