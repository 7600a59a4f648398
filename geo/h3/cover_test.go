package h3

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/geo"
)

// shape is something to cover, with a way to find points in it.
type shape struct {
	what     any
	cover    func(res, limit int) ([]geo.Cell, error)
	inside   func() geo.Point
	distance func(geo.Point) float64 // 0 inside; not less than it is by more than 1 %
}

// check covers a shape and looks for points in it that aren't in the cover, and
// for cells that don't belong there.
func (s shape) check(t *testing.T, r *rand.Rand) {
	const limit = 200
	res := r.IntN(16)
	cells, err := s.cover(res, limit)
	for err != nil {
		require.ErrorIs(t, err, ErrTooMany)
		require.Empty(t, cells)
		if res--; res < 0 {
			return
		}
		cells, err = s.cover(res, limit)
	}
	has := map[geo.Cell]bool{}
	for _, c := range cells {
		require.False(t, has[c], "twice")
		has[c] = true
		if r.IntN(len(cells)) > 20 {
			continue
		}
		center, err := Center(c)
		require.NoError(t, err)
		require.LessOrEqual(t, s.distance(center), geo.MaxRadius(res)*1.0001+0.001, "%v: %v at %d", s.what, c, res)
	}
	for range 30 {
		p := s.inside()
		direct, err := CellOf(p, res)
		require.NoError(t, err)
		finest, err := CellOf(p, 15)
		require.NoError(t, err)
		require.True(t, has[direct] && has[finest.Parent(res)], "%v: %v, in %v and %v, is not covered at %d", s.what, p, direct, finest.Parent(res), res)
	}
}

func TestCircleCovers(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 4))
	nasty := nastyPoints(t)
	for range queries(t) / 200 {
		p := near(r, nasty[r.IntN(len(nasty))])
		radius := math.Pow(10, 8*r.Float64()-1)
		if r.IntN(20) == 0 {
			radius = 0
		}
		shape{
			what:  []any{p, radius},
			cover: func(res, limit int) ([]geo.Cell, error) { return Circle(nil, p, radius, res, limit) },
			inside: func() geo.Point {
				d := radius * math.Sqrt(r.Float64())
				return valid(geo.Destination(p, 360*r.Float64(), min(d, math.Pi*geo.Radius)*(1-1e-12)))
			},
			distance: func(q geo.Point) float64 { return max(geo.Distance(p, q)-radius, 0) },
		}.check(t, r)
	}
	all, err := Circle(nil, geo.Point{}, math.Inf(1), 0, 122)
	require.NoError(t, err)
	require.Len(t, all, 122)
	_, err = Circle(nil, geo.Point{}, 1, 5, 0)
	require.ErrorIs(t, err, ErrTooMany)
	kept, err := Circle([]geo.Cell{1, 2}, geo.Point{}, 1e6, 5, 10)
	require.ErrorIs(t, err, ErrTooMany)
	require.Equal(t, []geo.Cell{1, 2}, kept)
}

func valid(p geo.Point) geo.Point {
	return geo.Point{Lat: min(max(p.Lat, -90), 90), Lng: min(max(p.Lng, -180), 180)}
}

func TestViewportCovers(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 5))
	nasty := nastyPoints(t)
	for range queries(t) / 200 {
		corner := near(r, nasty[r.IntN(len(nasty))])
		width, height := 360*math.Pow(10, -5*r.Float64()), 180*math.Pow(10, -5*r.Float64())
		if r.IntN(10) == 0 {
			width = 360
		}
		b := Box{South: corner.Lat, West: corner.Lng, North: min(corner.Lat+height, 90), East: corner.Lng + width}
		if width == 360 {
			b.West, b.East = -180, 180
		} else if b.East > 180 {
			b.East -= 360 // over the antimeridian
		}
		require.True(t, b.Valid(), "%+v", b)
		shape{
			what:  b,
			cover: func(res, limit int) ([]geo.Cell, error) { return Viewport(nil, b, res, limit) },
			inside: func() geo.Point {
				p := geo.Point{Lat: b.South + r.Float64()*(b.North-b.South), Lng: b.West + r.Float64()*b.width()}
				switch r.IntN(4) { // corners and edges
				case 0:
					p.Lat = b.North
				case 1:
					p.Lng = b.West
				}
				if p.Lng > 180 {
					p.Lng -= 360
				}
				require.True(t, b.Contains(p), "%+v %+v", b, p)
				return p
			},
			distance: func(p geo.Point) float64 {
				// By many points of the edges, instead of by a formula.
				if b.Contains(p) {
					return 0
				}
				nearest := math.Inf(1)
				for i := range 201 {
					f := float64(i) / 200
					lat, lng := b.South+f*(b.North-b.South), b.West+f*b.width()
					for _, q := range []geo.Point{{Lat: lat, Lng: b.West}, {Lat: lat, Lng: b.East}, {Lat: b.South, Lng: lng}, {Lat: b.North, Lng: lng}} {
						nearest = min(nearest, p.Vec().Chord2(q.Vec()))
					}
				}
				// The steps between those points are what it may be too much by.
				step := math.Pi * geo.Radius / 180 / 200 * max(b.North-b.South, b.width())
				return max(geo.Chord2Distance(nearest)-step, 0)
			},
		}.check(t, r)
	}
}

func TestBox(t *testing.T) {
	fiji := Box{South: -20, West: 176, North: -15, East: -178}
	require.True(t, fiji.Contains(geo.Point{Lat: -17, Lng: 180}))
	require.True(t, fiji.Contains(geo.Point{Lat: -17, Lng: -180}))
	require.True(t, fiji.Contains(geo.Point{Lat: -20, Lng: -178}))
	require.False(t, fiji.Contains(geo.Point{Lat: -17, Lng: 0}))
	require.False(t, fiji.Contains(geo.Point{Lat: -17, Lng: -177}))
	require.InDelta(t, geo.Distance(geo.Point{}, geo.Point{Lng: 1}), Box{South: -1, West: 1, North: 1, East: 2}.distance(geo.Point{}), 1e-6)

	arctic := Box{South: 80, West: -180, North: 90, East: 180}
	require.True(t, arctic.Contains(geo.Point{Lat: 85, Lng: 180}))
	require.True(t, arctic.Contains(geo.Point{Lat: 85, Lng: 17}))
	require.True(t, Box{South: 80, West: 1, North: 90, East: 2}.Contains(geo.Point{Lat: 90, Lng: 50}), "the pole has all longitudes")
	cells, err := Viewport(nil, arctic, 2, 1000)
	require.NoError(t, err)
	pole, err := CellOf(geo.Point{Lat: 90}, 2)
	require.NoError(t, err)
	require.Contains(t, cells, pole)
}

func TestPolygonCovers(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	nasty := nastyPoints(t)
	for range queries(t) / 200 {
		// A star: corners at random distances around a point, which sees all of it.
		middle := near(r, nasty[r.IntN(len(nasty))])
		size, n := 2e6*math.Pow(10, -6*r.Float64()), 3+r.IntN(10)
		var corners []geo.Point
		for i := range n {
			bearing := 360 * (float64(i) + r.Float64()/2) / float64(n)
			corners = append(corners, valid(geo.Destination(middle, bearing, size*(0.2+0.8*r.Float64()))))
		}
		if r.IntN(2) == 0 {
			corners = append(corners, corners[0])
		}
		shape{
			what:  corners,
			cover: func(res, limit int) ([]geo.Cell, error) { return Polygon(nil, corners, res, limit) },
			inside: func() geo.Point {
				// Between the middle and a point of an edge, on great circles.
				i := r.IntN(n)
				a, b, m := corners[i].Vec(), corners[(i+1)%n].Vec(), middle.Vec()
				f, g := r.Float64(), math.Sqrt(r.Float64())
				v := geo.Vec{
					X: g*(f*a.X+(1-f)*b.X) + (1-g)*m.X,
					Y: g*(f*a.Y+(1-f)*b.Y) + (1-g)*m.Y,
					Z: g*(f*a.Z+(1-f)*b.Z) + (1-g)*m.Z,
				}
				return geo.Point{Lat: math.Atan2(v.Z, math.Hypot(v.X, v.Y)) * 180 / math.Pi, Lng: math.Atan2(v.Y, v.X) * 180 / math.Pi}
			},
			// All of it is within the circle, at least.
			distance: func(p geo.Point) float64 { return max(geo.Distance(p, middle)-size, 0) },
		}.check(t, r)
	}
}

func TestPolygonIsNoLargerThanItIs(t *testing.T) {
	// A frame around the north pole without its middle is not to be had without
	// holes, but an L is: its cover must leave out the corner that it lacks.
	l := []geo.Point{{Lat: 0, Lng: 179}, {Lat: 0, Lng: -179}, {Lat: 0.2, Lng: -179}, {Lat: 0.2, Lng: 179.2}, {Lat: 2, Lng: 179.2}, {Lat: 2, Lng: 179}}
	cells, err := Polygon(nil, l, 5, 10_000)
	require.NoError(t, err)
	in := func(p geo.Point) bool {
		c, err := CellOf(p, 5)
		require.NoError(t, err)
		for _, o := range cells {
			if o == c {
				return true
			}
		}
		return false
	}
	require.True(t, in(geo.Point{Lat: 0.1, Lng: 180}))
	require.True(t, in(geo.Point{Lat: 1.9, Lng: 179.1}))
	require.False(t, in(geo.Point{Lat: 1.5, Lng: -179.5}))
	require.False(t, in(geo.Point{Lat: 1.5, Lng: 178.5}))
}

func TestPolygonsThatAreNone(t *testing.T) {
	for _, corners := range [][]geo.Point{
		nil,
		{{}, {Lat: 1}},
		{{}, {Lat: 1}, {Lat: math.NaN()}},
		{{Lng: 0}, {Lng: 120}, {Lng: -120}},
		{{Lng: 0}, {Lng: 100}, {Lat: 50}, {Lng: -100}},
	} {
		_, err := Polygon(nil, corners, 5, 10)
		require.ErrorIs(t, err, ErrInput)
	}
	_, err := Polygon(nil, []geo.Point{{}, {Lat: 1}, {Lng: 1}}, 16, 10)
	require.ErrorIs(t, err, ErrInput)
}
