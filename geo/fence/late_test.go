package fence

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/geo"
)

// told is what somebody who listens to an engine knows: the events by their
// identity. It checks the promises on the way.
type told map[identity]Event

type identity struct {
	fence, pair, subject string
	n                    uint32
}

func (k told) hear(t testing.TB, events []Event) {
	for _, ev := range events {
		id := identity{ev.Fence, ev.Pair, ev.Subject, ev.N}
		old, was := k[id]
		if (ev.Kind == Enter) != (ev.N%2 == 1) {
			t.Fatalf("enters are odd: %v", ev)
		}
		change := ev.Change
		ev.Change = Told
		switch change {
		case Told:
			require.False(t, was, "told twice: %v", ev)
			k[id] = ev
		case Amended:
			require.True(t, was && old != ev, "nothing to amend: %v", ev)
			k[id] = ev
		case Retracted:
			require.True(t, was, "nothing to take back: %v", ev)
			delete(k, id)
		}
	}
}

// check that each fence and subject have events 1, 2, 3 … in the order of time.
func (k told) check(t testing.TB) {
	sorted := k.sorted()
	for i, ev := range sorted {
		if i > 0 && sorted[i-1].Fence == ev.Fence && sorted[i-1].Pair == ev.Pair && sorted[i-1].Subject == ev.Subject {
			require.Equal(t, sorted[i-1].N+1, ev.N)
			require.False(t, ev.At.Before(sorted[i-1].At), "%v before %v", ev, sorted[i-1])
		} else {
			require.EqualValues(t, 1, ev.N)
		}
	}
}

func (k told) sorted() []Event {
	all := []Event{}
	for _, ev := range k {
		all = append(all, ev)
	}
	slices.SortFunc(all, func(a, b Event) int {
		return cmp.Or(cmp.Compare(a.Fence, b.Fence), cmp.Compare(a.Pair, b.Pair), cmp.Compare(a.Subject, b.Subject), cmp.Compare(a.N, b.N))
	})
	return all
}

// report is a fix of somebody.
type report struct {
	who string
	Fix
}

// world is people who walk about among fences, and their reports in order.
func world(r *rand.Rand, origin geo.Point) (fences []Fence, pairs []Pair, reports []report) {
	for i := range 12 {
		center := xy{2000 * (r.Float64() - 0.5), 2000 * (r.Float64() - 0.5)}.on(origin)
		f := Fence{ID: fmt.Sprint("f", i), Shape: circle(center, 20+300*r.Float64())}
		if i%3 == 1 {
			f.Shape = convex(r, center, 20+300*r.Float64(), 3+r.IntN(5))
		}
		if i%4 == 2 {
			f.Dwell = time.Duration(r.IntN(200)) * time.Second
		}
		if i%5 == 4 {
			f.From = at(600 * r.Float64())
		}
		fences = append(fences, f)
	}
	for i := range 3 {
		who := fmt.Sprint("s", i)
		var w way
		for w.walk(xy{}, 1, 0); w.end() < 900; {
			to := xy{2500 * (r.Float64() - 0.5), 2500 * (r.Float64() - 0.5)}
			w.walk(to, []float64{1.4, 4, 15, 30}[r.IntN(4)], 120*r.Float64())
		}
		every := []float64{2, 5, 15, 30}[r.IntN(4)]
		gap := 900 * r.Float64()
		length := []float64{0, 60, 200, 400}[r.IntN(4)]
		for _, f := range w.fixes(&phone{r: r, accuracy: 3 + 20*r.Float64()}, every, origin, func(t float64) bool { return t > gap && t < gap+length }) {
			if r.IntN(40) == 0 { // a jump that nobody can travel
				f.Point = geo.Destination(f.Point, 360*r.Float64(), 50_000)
			}
			if r.IntN(40) == 0 {
				f.Accuracy = 1500 // a coarse one
			}
			reports = append(reports, report{who, f})
			if r.IntN(40) == 0 { // and another one of the same moment
				f.Point = geo.Destination(f.Point, 360*r.Float64(), 30)
				reports = append(reports, report{who, f})
			}
		}
	}
	pairs = []Pair{
		{ID: "p0", A: "s0", B: "s1", Radius: 200},
		{ID: "p1", A: "s2", B: "s1", Radius: 400, Dwell: 20 * time.Second},
		{ID: "p2", A: "s2", B: "s0", Radius: 100, From: at(100)},
	}
	slices.SortStableFunc(reports, func(a, b report) int { return a.At.Compare(b.At) })
	return fences, pairs, reports
}

// shuffled returns the reports in an order in which none is later than window.
func shuffled(r *rand.Rand, reports []report, window time.Duration) []report {
	type arrival struct {
		report
		at time.Time
	}
	var as []arrival
	for _, p := range reports {
		by := time.Duration(0)
		if r.IntN(3) == 0 {
			by = time.Duration(r.Int64N(int64(window)))
		}
		as = append(as, arrival{p, p.At.Add(by)})
	}
	slices.SortStableFunc(as, func(a, b arrival) int { return a.at.Compare(b.at) })
	var out []report
	for _, a := range as {
		out = append(out, a.report)
	}
	return out
}

func engineOf(t testing.TB, fences []Fence, pairs []Pair) *Engine {
	e := mustEngine(t, Config{}, fences...)
	for _, p := range pairs {
		_, err := e.AddPair(nil, p)
		require.NoError(t, err)
	}
	return e
}

// Whatever the order in which fixes come, what is known at the end is the same:
// what the brute force finds that has all of them in order and tests each against
// each fence. Meanwhile the engine is saved, loaded, and asked to expire.
func TestLateFixesLeadToTheSameEvents(t *testing.T) {
	events, changed := 0, 0
	for i := range tracks(t, 2000) {
		r := seeded(uint64(i))
		fences, pairs, reports := world(r, origins[i%len(origins)])

		inOrder := told{}
		e := engineOf(t, fences, pairs)
		for _, p := range reports {
			evs, _, err := e.Observe(nil, p.who, p.Fix)
			require.NoError(t, err)
			inOrder.hear(t, evs)
		}
		inOrder.check(t)
		events += len(inOrder)

		late := told{}
		l := engineOf(t, fences, pairs)
		for n, p := range shuffled(r, reports, 2*time.Minute) {
			evs, _, err := l.Observe(nil, p.who, p.Fix)
			require.NoError(t, err)
			if late.hear(t, evs); len(evs) > 0 {
				late.check(t)
			}
			for _, ev := range evs {
				if ev.Change != Told {
					changed++
				}
			}
			if n%97 == 50 {
				saved := l.Save(nil)
				l = engineOf(t, fences, pairs)
				require.NoError(t, l.Load(saved))
				require.Equal(t, saved, l.Save(nil))
			}
		}
		require.Equal(t, inOrder.sorted(), late.sorted(), "world %d", i)

		// So it is with a clock that ends pairs, but for pairs that it ends last.
		ticked := told{}
		k := engineOf(t, fences, pairs)
		for _, p := range shuffled(r, reports, time.Minute) {
			evs, _, _ := k.Observe(nil, p.who, p.Fix)
			ticked.hear(t, evs)
			if r.IntN(5) == 0 {
				ticked.hear(t, k.Expire(nil, p.At.Add(time.Duration(r.Int64N(int64(3*time.Minute))))))
			}
		}
		ticked.check(t)
		end := at(1e5)
		ticked.hear(t, k.Expire(nil, end))
		inOrder.hear(t, e.Expire(nil, end))
		require.Equal(t, inOrder.sorted(), ticked.sorted(), "world %d", i)
		for _, p := range pairs {
			require.NotEqual(t, Inside, k.PairStanding(p.ID).State)
		}

		require.Equal(t, bruteForce(t, fences, reports), onlyFences(inOrder.sorted()), "world %d", i)
	}
	t.Logf("%d events; late fixes amended or took back %d more that had been told", events, changed)
}

func onlyFences(events []Event) []Event {
	return slices.DeleteFunc(events, func(ev Event) bool { return ev.Pair != "" })
}

// bruteForce moves every machine by every fix.
func bruteForce(t testing.TB, fences []Fence, reports []report) []Event {
	e := mustEngine(t, Config{}, fences...)
	all := []Event{}
	for _, who := range []string{"s0", "s1", "s2"} {
		var fixes []stamped
		for _, p := range reports {
			s, err := p.sample()
			require.NoError(t, err)
			switch n := len(fixes); {
			case p.who != who:
			case n > 0 && fixes[n-1].t == s.t:
				if two := (stamped{sample: s}); two.better(&fixes[n-1]) {
					fixes[n-1] = two
				}
			default:
				fixes = append(fixes, stamped{sample: s})
			}
		}
		for _, f := range fences {
			entry := e.fences[f.ID]
			var filter filter
			var m machine
			var prev sample
			tell := teller{fence: f.ID, subject: who}
			for _, s := range fixes {
				accepted, n := filter.pass(s.sample, e.cfg.MaxSpeed)
				for _, cur := range accepted[:n] {
					if cur.t < entry.from {
						continue
					}
					l := leg{area: entry.area, a1: cur.v, t1: cur.t, sigma1: cur.acc * sigmaOfAccuracy}
					if m.seen {
						l.a0, l.t0, l.sigma0 = prev.v, prev.t, prev.acc*sigmaOfAccuracy
						l.length = distance(prev.v, cur.v)
						l.guess = e.cfg.guess(&l, e.cfg.MaxSpeed, prev.acc+cur.acc)
					}
					m.step(&l, cur.acc, f.Dwell.Milliseconds(), &tell)
					prev = cur
				}
			}
			all = append(all, tell.events...)
		}
	}
	slices.SortStableFunc(all, func(a, b Event) int { return cmp.Or(cmp.Compare(a.Fence, b.Fence), cmp.Compare(a.Subject, b.Subject)) })
	return all
}
