package matching

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/geo/grant"
)

// The attacker program of geo/grant, against matching. A victim stays at home for a
// night, shares coarsely with whoever is near, and is open to talk. The attacker has
// 20 puppets who ask matching from wherever they like, and knows all but secrets. What
// they are told are classes of distance and who is within a radius; into the order,
// too, distance goes by class. The edge of a class, and of the radius, is at an exact
// distance from a point: so they go along a line until the answer changes, to the
// metre, from several sides, in every hour of the night, and trilaterate.
//
// The measure is that of geo/grant: the attacker must not come closer to the home, on
// average, than whoever is told the true cell of one moment and guesses its centre,
// up to a tenth of the cell's radius, 12 m that the receiver is off, and chance (two
// standard errors). That the attack is good is shown against a map that tells the fix:
// there it must find the bed, through the same module.

const receiver = 12

// night is what is told of a victim who stays at home, hour by hour: by us, and as
// their receiver has it.
type night struct {
	home, center geo.Point // of the true cell
	ours, naive  []grant.View
	at           []time.Time
}

func newNight(t testing.TB, seed uint64, res int, hours int) (n night) {
	rng := rand.New(rand.NewPCG(seed, uint64(res)))
	city := geo.Destination(geo.Point{Lat: 52.52, Lng: 13.4}, rng.Float64()*360, rng.Float64()*100_000)
	n.home = city
	if seed%3 > 0 { // two of three live at the edge of their cell, where averaging tells most
		n.home = edgeNear(t, city, res, rng)
	}
	n.center = snapped(t, n.home, res, noon).Point
	s, set := grant.NewSnapper([]byte("secret"), fmt.Sprint(seed)), discoverable(t, res)
	now := noon
	var errE, errN float64
	for end := now.Add(time.Duration(hours) * time.Hour); now.Before(end); now = now.Add(20 * time.Second) {
		keep := math.Exp(-20.0 / 60)
		fresh := receiver * math.Sqrt(1-keep*keep)
		errE, errN = errE*keep+rng.NormFloat64()*fresh, errN*keep+rng.NormFloat64()*fresh
		p := geo.Destination(n.home, math.Atan2(errE, errN)*180/math.Pi, math.Hypot(errE, errN))
		raw, err := grant.NewRaw(p, receiver*1.5, grant.Read(1), grant.Read(90), grant.Read(.5), now)
		require.NoError(t, err)
		_, err = s.Take(raw, now)
		require.NoError(t, err)
		v, ok := set.View(now, s, everybody)
		require.True(t, ok)
		if now.Sub(noon)%time.Hour == 30*time.Minute {
			n.ours, n.naive, n.at = append(n.ours, v), append(n.naive, grant.Own(raw)), append(n.at, now)
		}
	}
	return n
}

// edgeNear returns a point on the edge of the cell that p is in.
func edgeNear(t testing.TB, p geo.Point, res int, rng *rand.Rand) geo.Point {
	cell := snapped(t, p, res, noon)
	bearing, low, high := rng.Float64()*360, 0.0, 2.5*geo.EdgeLength(res)
	for high-low > 0.1 {
		if mid := (low + high) / 2; snapped(t, geo.Destination(cell.Point, bearing, mid), res, noon).Cell == cell.Cell {
			low = mid
		} else {
			high = mid
		}
	}
	return geo.Destination(cell.Point, bearing, low)
}

// attacker asks as 20 puppets, in turn.
type attacker struct {
	*world
	puppets []core.UserID
	victim  core.UserID
	decoy   core.UserID // one of their own, who stands where they like
	asked   int
}

func newAttacker(w *world) *attacker {
	a := &attacker{world: w, victim: w.person(), decoy: w.person()}
	for range 20 {
		a.puppets = append(a.puppets, w.person())
	}
	return a
}

// ask returns what a puppet sees of the victim from a point; nil: nothing.
func (a *attacker) ask(from geo.Point, radius float64) (*Person, int) {
	a.asked++
	page, err := a.People(a.t.Context(), a.puppets[a.asked%len(a.puppets)], Look{At: &from, Radius: radius, Limit: 100})
	require.NoError(a.t, err)
	for i, p := range page.People {
		if p.User == a.victim {
			return &p, i
		}
	}
	return nil, -1
}

// edge goes out from a point near the victim until an answer changes, and returns how
// far that is, to the metre: so far from where it changed the victim is at radius.
func (a *attacker) edge(guess geo.Point, bearing, radius, reach float64, inside func(p *Person) bool, ask float64) (from geo.Point) {
	low, high := radius-reach, radius+reach
	for high-low > 1 {
		mid := (low + high) / 2
		p, _ := a.ask(geo.Destination(guess, bearing, mid), ask)
		if p != nil && inside(p) {
			low = mid
		} else {
			high = mid
		}
	}
	return geo.Destination(guess, bearing, (low+high)/2)
}

// ring is that somebody is at a distance from a point.
type ring struct {
	from geo.Point
	d    float64
}

// trilaterate finds the point that fits rings best (Gauss and Newton).
func trilaterate(guess geo.Point, rings []ring) geo.Point {
	for range 8 {
		var xx, xy, yy, xd, yd float64
		for _, m := range rings {
			sin, cos := math.Sincos(geo.Bearing(m.from, guess) * math.Pi / 180)
			d := m.d - geo.Distance(m.from, guess)
			xx, xy, yy, xd, yd = xx+sin*sin, xy+sin*cos, yy+cos*cos, xd+sin*d, yd+cos*d
		}
		det := xx*yy - xy*xy
		e, n := (yy*xd-xy*yd)/det, (xx*yd-xy*xd)/det
		guess = geo.Destination(guess, math.Atan2(e, n)*180/math.Pi, math.Hypot(e, n))
	}
	return guess
}

// locate has the attacker ask all night, and say where the victim lives. by is what
// they go by: radius, class, order.
func (a *attacker) locate(start geo.Point, res int, views []grant.View, at []time.Time, by string, sides int) geo.Point {
	reach := 2.5 * geo.EdgeLength(res)
	var rings []ring
	for hour, v := range views {
		a.mu.Lock()
		a.now = at[hour]
		a.seen[a.victim] = v
		a.mu.Unlock()
		for side := range sides {
			bearing := float64(side*360/sides + hour*17)
			i, _ := slices.BinarySearch(classes[:], 1.5*reach) // an edge that is beyond the doubt
			radius := min(classes[i], maxRadius)
			inside := func(*Person) bool { return true }
			ask := radius
			if by == "class" {
				ask, inside = maxRadius, func(p *Person) bool { return p.Within <= radius }
			}
			rings = append(rings, ring{a.edge(start, bearing, radius, reach, inside, ask), radius})
		}
	}
	return trilaterate(start, rings)
}

// scores are how far guesses are off, in radii of the cell.
type scores struct{ ours, naive, cell []float64 }

func mean(v []float64) (m float64) {
	for _, x := range v {
		m += x / float64(len(v))
	}
	return m
}

// gain is how much closer attackers come than who is told the cell, and the
// standard error of it.
func gain(attack, cell []float64) (closer, sigma float64) {
	d := make([]float64, len(cell))
	for i := range d {
		d[i] = cell[i] - attack[i]
	}
	closer = mean(d)
	for _, x := range d {
		sigma += (x - closer) * (x - closer)
	}
	return closer, math.Sqrt(sigma / float64(max(1, len(d)-1)) / float64(len(d)))
}

// TestTrilateration is what the package comment says about where somebody is.
func TestTrilateration(t *testing.T) {
	lives, hours, sides, resolutions := 3, 2, 3, []int{8, 6}
	if full(t) > 1 {
		lives, hours, sides, resolutions = 15, 6, 6, []int{10, 9, 8, 7, 6, 5}
	}
	for _, res := range resolutions {
		for _, by := range []string{"radius", "class"} {
			t.Run(fmt.Sprintf("r%d by %s", res, by), func(t *testing.T) {
				t.Parallel()
				a := newAttacker(setup(t))
				var s scores
				r := geo.EdgeLength(res)
				for seed := range uint64(lives) {
					n := newNight(t, seed, res, hours)
					start := geo.Destination(n.home, float64(seed)*77, r/2)
					s.ours = append(s.ours, geo.Distance(a.locate(start, res, n.ours, n.at, by, sides), n.home)/r)
					s.naive = append(s.naive, geo.Distance(a.locate(start, res, n.naive, n.at, by, sides), n.home)/r)
					s.cell = append(s.cell, geo.Distance(n.center, n.home)/r)
				}
				closer, sigma := gain(s.ours, s.cell)
				t.Logf("attacker off by %.3f, told the cell %.3f, told the fix %.3f radii; closer by %+.3f ± %.3f, %d lives, %d questions", mean(s.ours), mean(s.cell), mean(s.naive), closer, sigma, lives, a.asked)
				require.LessOrEqual(t, closer, 0.1+receiver/r+2*sigma)
				require.Less(t, mean(s.naive), 0.3*mean(s.cell)+receiver/r, "the attack must be good where it can be")
			})
		}
	}
}

// TestNothingButTheViewShows has two lives that differ in all but the told cells: what
// 20 puppets are told by matching is the same, byte for byte.
func TestNothingButTheViewShows(t *testing.T) {
	w := setup(t)
	a := newAttacker(w)
	for seed := range uint64(3 * full(t)) {
		rng := rand.New(rand.NewPCG(seed, 3))
		res := 6 + rng.IntN(4)
		one := newNight(t, 3*seed, res, 1) // anywhere in its cell
		v := one.ours[0]
		other := geo.Destination(v.Point, rng.Float64()*360, rng.Float64()*geo.EdgeLength(res)*0.8)
		require.Equal(t, v.Point, snapped(t, other, res, noon).Point)
		told := func(home geo.Point) (all []string) {
			w.mu.Lock()
			w.own[a.victim], w.seen[a.victim] = grant.View{Point: home, Captured: one.at[0]}, v
			w.now = one.at[0]
			w.mu.Unlock()
			rng := rand.New(rand.NewPCG(seed, 4))
			w.exec(`DELETE FROM matching_shown`)
			w.exec(`UPDATE matching_profiles SET round = 0, bucket = 0`)
			for _, p := range a.puppets {
				from := geo.Destination(v.Point, rng.Float64()*360, rng.Float64()*6*geo.EdgeLength(res))
				w.mu.Lock()
				w.now = one.at[0]
				w.seen[a.decoy] = grant.View{Point: geo.Destination(v.Point, rng.Float64()*360, rng.Float64()*3000), Precision: grant.Exact, Captured: one.at[0]}
				w.mu.Unlock()
				page, err := w.People(t.Context(), p, Look{At: &from, Radius: 500 + rng.Float64()*20_000, Limit: 100})
				require.NoError(t, err)
				b, err := json.Marshal(page)
				require.NoError(t, err)
				all = append(all, string(b))
			}
			return all
		}
		require.Equal(t, told(one.home), told(other))
	}
}
