package grant

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/geo/h3"
)

// A life, as the attacker's victims lead it: home, a commute, work, errands,
// pacing over the edge of a cell and standing at its corner, seen by a GPS
// receiver that is off by metres and sometimes by a hundred.

// living says where in its cell a victim's home is.
type living int

const (
	anywhere living = iota
	onEdge          // within 5 m of an edge
	onCorner        // within 5 m of a corner
	livings
)

func (l living) String() string { return [...]string{"anywhere", "on an edge", "on a corner"}[l] }

type victim struct {
	rng              *rand.Rand
	home, work, shop geo.Point
	near, far        geo.Point // on both sides of an edge: where they pace
	corner           geo.Point // where they wait for the bus

	at       geo.Point
	now      time.Time
	errE     float64 // of the receiver, in metres
	errN     float64
	fix      func(now time.Time, truth geo.Point, raw Raw)
	t        testing.TB
	everySec int
	wide     float64 // how much further than a city's people they get about
}

// newVictim lives around a random city, where cells are of a resolution.
func newVictim(t testing.TB, seed uint64, res int, how living, fix func(time.Time, geo.Point, Raw)) *victim {
	rng := rand.New(rand.NewPCG(seed, uint64(res)))
	v := &victim{rng: rng, fix: fix, t: t, everySec: 20}
	city := geo.Destination(geo.Point{Lat: 52.52, Lng: 13.4}, rng.Float64()*360, rng.Float64()*100_000)
	radius := geo.EdgeLength(res)
	v.wide = max(1, radius/5000) // or all would be in one cell
	v.home = city
	switch how {
	case onEdge:
		v.home, _, _ = edgeNear(t, city, res, rng)
		v.home = geo.Destination(v.home, rng.Float64()*360, rng.Float64()*5)
	case onCorner:
		v.home = geo.Destination(cornerNear(t, city, res, rng), rng.Float64()*360, rng.Float64()*5)
	}
	v.work = geo.Destination(v.home, rng.Float64()*360, v.wide*(3000+rng.Float64()*5000))
	v.shop = geo.Destination(v.home, rng.Float64()*360, 200+rng.Float64()*1500)
	_, v.near, v.far = edgeNear(t, geo.Destination(v.work, rng.Float64()*360, radius/2), res, rng)
	v.corner = cornerNear(t, v.work, res, rng)
	v.at, v.now = v.home, time.Date(2027, 3, 1, 0, 0, 0, 0, time.UTC)
	return v
}

// edgeNear returns a point on an edge of the cell that p is in, and points 60 m
// to both sides.
func edgeNear(t testing.TB, p geo.Point, res int, rng *rand.Rand) (on, in, out geo.Point) {
	c := mustCell(t, p, res)
	center, err := h3.Center(c)
	require.NoError(t, err)
	bearing, low, high := rng.Float64()*360, 0.0, 2.5*geo.EdgeLength(res)
	for high-low > 0.1 {
		if mid := (low + high) / 2; mustCell(t, geo.Destination(center, bearing, mid), res) == c {
			low = mid
		} else {
			high = mid
		}
	}
	d := func(m float64) geo.Point { return geo.Destination(center, bearing, low+m) }
	return d(0), d(-60), d(60)
}

func cornerNear(t testing.TB, p geo.Point, res int, rng *rand.Rand) geo.Point {
	corners, err := h3.Boundary(mustCell(t, p, res))
	require.NoError(t, err)
	return corners[rng.IntN(len(corners))]
}

func mustCell(t testing.TB, p geo.Point, res int) geo.Cell {
	c, err := cellOf(p, res)
	require.NoError(t, err)
	return c
}

// day lives one day, from midnight to midnight.
func (v *victim) day() {
	end := v.now.Add(24 * time.Hour)
	minutes := func(low, high int) time.Duration {
		return time.Duration(low*60+v.rng.IntN((high-low)*60)) * time.Second
	}
	drive := func(speed float64) float64 { return speed * math.Sqrt(v.wide) }
	// What is too far for a walk of 40 minutes they go to in that time.
	walk := func(to geo.Point) float64 { return max(1.4, geo.Distance(v.at, to)/2400) }
	v.stay(minutes(6*60+30, 8*60))
	v.travel(geo.Destination(v.at, v.rng.Float64()*360, 300), 1.4) // to the car
	v.travel(v.work, drive(7+v.rng.Float64()*8))
	v.stay(minutes(180, 260))
	v.travel(v.near, walk(v.near))
	for range 12 { // lunch on the phone, to and fro
		v.travel(v.far, 1.2)
		v.travel(v.near, 1.2)
	}
	v.travel(v.work, walk(v.work))
	v.stay(minutes(180, 240))
	v.travel(v.corner, walk(v.corner))
	v.stay(minutes(10, 30))
	v.travel(v.shop, drive(7+v.rng.Float64()*8))
	v.stay(minutes(10, 40))
	v.travel(v.home, 1.4)
	v.stay(minutes(60, 120))
	v.travel(geo.Destination(v.home, v.rng.Float64()*360, 400), 1.3) // the dog
	v.travel(v.home, 1.3)
	require.Less(v.t, v.now, end)
	v.stay(end.Sub(v.now))
	v.now = end
}

func (v *victim) stay(d time.Duration) {
	for end := v.now.Add(d); v.now.Before(end); {
		v.report(receiver)
	}
}

func (v *victim) travel(to geo.Point, speed float64) {
	step := speed * float64(v.everySec)
	for geo.Distance(v.at, to) > step {
		v.at = geo.Destination(v.at, geo.Bearing(v.at, to), step)
		v.report(6)
	}
	v.at = to
	v.report(6)
}

// report gives out a fix with an error of the given metres in each direction,
// which wanders with a correlation of a minute; one in 200 is far off and says
// that it is not.
func (v *victim) report(sigma float64) {
	keep := math.Exp(-float64(v.everySec) / 60)
	fresh := sigma * math.Sqrt(1-keep*keep)
	v.errE, v.errN = v.errE*keep+v.rng.NormFloat64()*fresh, v.errN*keep+v.rng.NormFloat64()*fresh
	off, accuracy := math.Hypot(v.errE, v.errN), sigma*1.5*(0.8+0.4*v.rng.Float64())
	bearing := math.Atan2(v.errE, v.errN) * 180 / math.Pi
	if v.rng.IntN(200) == 0 {
		off += 60 + 80*v.rng.Float64()
	}
	raw, err := NewRaw(geo.Destination(v.at, bearing, off), float32(accuracy), Read(1), Read(90), Read(0.5), v.now)
	require.NoError(v.t, err)
	v.fix(v.now, v.at, raw)
	v.now = v.now.Add(time.Duration(v.everySec) * time.Second)
}

// newTelling returns a snapper that tells cells from its first fix on.
func newTelling(subject string) *Snapper {
	s := NewSnapper([]byte("secret"), subject)
	s.told = new(told)
	return s
}
