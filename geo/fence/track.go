package fence

import (
	"cmp"
	"math"
	"slices"

	"github.com/mustermesh/muster/geo"
)

// filter keeps jumps aside that nobody can travel, until the next fix tells
// which of the two places is right.
type filter struct {
	last, aside       sample
	hasLast, hasAside bool
}

// pass returns how many fixes are accepted with s, the first n of the array.
func (f *filter) pass(s sample, maxSpeed float64) (accepted [2]sample, n int) {
	switch {
	case !f.hasLast || possible(&f.last, &s, maxSpeed):
		accepted[0], n = s, 1
	case f.hasAside && possible(&f.aside, &s, maxSpeed):
		accepted[0], accepted[1], n = f.aside, s, 2
	default:
		f.aside, f.hasAside = s, true
		return accepted, 0
	}
	f.last, f.hasLast, f.hasAside = s, true, false
	return accepted, n
}

// possible reports whether one can travel from somewhere in a's disc to
// somewhere in b's.
func possible(a, b *sample, maxSpeed float64) bool {
	return distance(a.v, b.v)-a.acc-b.acc <= maxSpeed*seconds(b.t-a.t)
}

func distance(a, b geo.Vec) float64 { return geo.Chord2Distance(a.Chord2(b)) }

func seconds(ms int64) float64 { return float64(ms) / 1000 }

// track is what is known of a subject after some of its fixes, in order.
type track struct {
	filter
	machines []machine // of fences that are or were near, by their seq
}

func (k *track) set(from reducer) {
	o := from.(*track)
	k.filter = o.filter
	k.machines = append(k.machines[:0], o.machines...)
}

func (k *track) step(e *Engine, s stamped, t *teller) {
	prev, had := k.last, k.hasLast
	accepted, n := k.pass(s.sample, e.cfg.MaxSpeed)
	for i := range n {
		k.apply(e, &prev, had, &accepted[i], t)
		prev, had = accepted[i], true
	}
}

func (k *track) tick(*Engine, int64, *teller) {} // who says nothing stays

func (k *track) setAside() (sample, bool) { return k.aside, k.hasAside }

// apply moves the machines of all fences that the leg from prev to cur could
// matter to. For the others, nothing would change if they were moved as well.
func (k *track) apply(e *Engine, prev *sample, had bool, cur *sample, t *teller) {
	l := leg{a1: cur.v, t1: cur.t, sigma1: cur.acc * sigmaOfAccuracy}
	reach := clampZ * l.sigma1
	near := boxOf(cur.v)
	if had {
		l.a0, l.t0, l.sigma0 = prev.v, prev.t, prev.acc*sigmaOfAccuracy
		l.length = distance(prev.v, cur.v)
		l.guess = e.cfg.guess(&l, e.cfg.MaxSpeed, prev.acc+cur.acc)
		if !l.guess {
			near = near.join(boxOf(prev.v)).grow(bulge(l.length))
			reach = max(reach, clampZ*l.sigma0)
		}
	}
	e.hits = e.tree.search(near.grow(reach/geo.Radius), e.hits[:0])
	slices.SortFunc(e.hits, func(a, b *entry) int { return cmp.Compare(a.seq, b.seq) })
	k.wake(e.hits, prev, had, cur)

	kept := k.machines[:0]
	for i := range k.machines {
		m := &k.machines[i]
		if m.near || !m.dormant {
			m.near = false
			l.area = m.fence.area
			t.fence = m.fence.ID
			m.step(&l, cur.acc, m.fence.Dwell.Milliseconds(), t)
			if m.settled(cur.t) {
				*m = machine{fence: m.fence, n: m.n, dormant: true}
			}
		}
		if !m.dormant || m.n > 0 {
			kept = append(kept, *m)
		}
	}
	k.machines = kept
}

// wake sees to it that each fence has a machine that knows the start of the leg.
func (k *track) wake(hits []*entry, prev *sample, had bool, cur *sample) {
	for _, f := range hits {
		if cur.t < f.from {
			continue
		}
		i, found := k.find(f)
		if found && !k.machines[i].dormant {
			k.machines[i].near = true
			continue
		}
		m := machine{fence: f, near: true}
		// A fence without a machine was so far away that only one state is
		// possible; or it is new, and none is known.
		if had && prev.t >= f.from {
			d := f.area.distance(prev.v)
			if d >= clampZ*prev.acc*sigmaOfAccuracy {
				m.seen, m.known, m.d, m.own, m.ownAt = true, true, d, clampZ, prev.t
				m.over, m.unclear, m.flipped = noTime, noTime, noTime
			}
		}
		if found {
			m.n = k.machines[i].n
			k.machines[i] = m
		} else {
			k.machines = slices.Insert(k.machines, i, m)
		}
	}
}

func (k *track) find(f *entry) (int, bool) {
	return slices.BinarySearchFunc(k.machines, f.seq, func(m machine, seq uint64) int {
		return cmp.Compare(m.fence.seq, seq)
	})
}

// maxPath is how far apart two fixes may be for the way between to mean
// anything; it also keeps them from being antipodes.
const maxPath = 1_000_000

// guess reports whether nothing can be said about the way between two fixes.
func (c *Config) guess(l *leg, maxSpeed, slack float64) bool {
	return l.t1-l.t0 > c.Gap.Milliseconds() || l.length > maxPath ||
		l.length-slack > maxSpeed*seconds(l.t1-l.t0)
}

// bulge is how far, in Earth radii, an arc of so many metres leaves its chord.
func bulge(metres float64) float64 {
	return 1 - math.Cos(metres/geo.Radius/2)
}
