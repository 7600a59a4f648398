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
