package fence

import (
	"encoding/json"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/geo/h3"
)

// The distance to an edge against that to points all along it, and the inside
// against a ray along the meridian.
func TestDistances(t *testing.T) {
	for i := range tracks(t, 800) {
		r := seeded(uint64(i))
		origin := origins[i%len(origins)]
		radius := math.Pow(10, 1+4.5*r.Float64()) // 10 m to 300 km
		var ring, hole []geo.Point
		corners := 3 + r.IntN(9)
		for k := range corners {
			angle := float64(k) * 2 * math.Pi / float64(corners)
			far := radius * (0.5 + 0.5*r.Float64())
			ring = append(ring, polar(angle, far).on(origin))
			hole = append(hole, polar(angle, radius*0.1).on(origin))
		}
		rings := [][]geo.Point{ring}
		if i%2 == 1 && corners > 4 {
			rings = append(rings, hole)
		}
		a, err := compile(Shape{Polygon: rings})
		require.NoError(t, err, "%d", i)
		for range 15 {
			p := polar(2*math.Pi*r.Float64(), 2*radius*r.Float64())
			v := p.on(origin).Vec()
			least := math.MaxFloat64
			for _, ring := range rings {
				for k := range ring {
					b, e := ring[k].Vec(), ring[(k+1)%len(ring)].Vec()
					for s := range 401 {
						least = min(least, geo.Distance(p.on(origin), pointOf(along(b, e, float64(s)/400))))
					}
				}
			}
			d := a.distance(v)
			require.InDelta(t, least, math.Abs(d), 0.01*radius, "%d", i)
			// Stars around the origin: the edge is passed once on the way out, and
			// that of the hole before.
			passed := 0
			for s, was := 1, a.distance(origin.Vec()); s <= 2000; s++ {
				now := a.distance(p.times(float64(s) / 2000).on(origin).Vec())
				if (was < 0) != (now < 0) {
					passed++
				}
				was = now
			}
			middle := len(rings) == 1
			require.Equal(t, middle, a.distance(origin.Vec()) < 0)
			require.Equal(t, middle != (passed%2 == 1), d < 0)
			require.LessOrEqual(t, passed, len(rings))
		}
		c, err := compile(circle(origin, radius))
		require.NoError(t, err)
		p := polar(2*math.Pi*r.Float64(), 2*radius*r.Float64()).on(origin)
		require.InDelta(t, geo.Distance(origin, p)-radius, c.distance(p.Vec()), 1e-6*radius)
	}
}

// Inside of a set of cells is what H3 says it is.
func TestCellSets(t *testing.T) {
	for i := range 200 {
		r := seeded(uint64(i))
		origin := origins[i%len(origins)]
		if i%4 == 3 { // a pentagon
			c, err := geo.ParseCell("8009fffffffffff")
			require.NoError(t, err)
			for range 5 {
				c = c.Child(0)
			}
			origin, err = h3.Center(c)
			require.NoError(t, err)
		}
		res := 3 + r.IntN(8)
		middle, err := h3.CellOf(origin, res)
		require.NoError(t, err)
		disk, err := h3.Disk(middle, 1+r.IntN(3))
		require.NoError(t, err)
		var cells []geo.Cell
		for _, c := range disk {
			if r.IntN(4) > 0 {
				cells = append(cells, c)
			}
		}
		if len(cells) == 0 {
			continue
		}
		fine := res
		if i%2 == 1 { // one of them by its children, which are not the same region
			last := cells[len(cells)-1]
			cells = cells[:len(cells)-1]
			for digit := range 7 {
				if c := last.Child(digit); c != 0 {
					cells = append(cells, c)
				}
			}
			fine++
		}
		set, err := atResolution(cells, fine)
		require.NoError(t, err)
		a, err := compile(Shape{Cells: cells})
		require.NoError(t, err)
		require.LessOrEqual(t, len(a.edges), 8*len(set))
		size := a.radius * 1.2
		for range 300 {
			p := polar(2*math.Pi*r.Float64(), size*r.Float64()).on(origin)
			c, err := h3.CellOf(p, fine)
			require.NoError(t, err)
			_, in := set[c]
			d := a.distance(p.Vec())
			// Edges that the icosahedron bends are straight to a thousandth.
			if math.Abs(d) > size*1e-3 {
				require.Equal(t, in, d < 0, "%d: %v m at %v", i, d, p)
			}
		}
	}
	whole, err := compile(Shape{Cells: []geo.Cell{mustCell(t, "8a1fb46622dffff"), mustCell(t, "8a1fb46622dffff")}})
	require.NoError(t, err)
	require.Len(t, whole.edges, 6)
}

func mustCell(t testing.TB, s string) geo.Cell {
	c, err := geo.ParseCell(s)
	require.NoError(t, err)
	return c
}

func TestShapesAsJSON(t *testing.T) {
	for _, good := range []string{
		`{"circle":{"center":{"lat":45.3,"lng":14},"radius":200}}`,
		`{"polygon":[[{"lat":0,"lng":0},{"lat":0,"lng":1},{"lat":1,"lng":0}]]}`,
		`{"polygon":[[{"lat":-1,"lng":179.5},{"lat":-1,"lng":-179.5},{"lat":1,"lng":-179.5},{"lat":1,"lng":179.5}]]}`,
		`{"polygon":[[{"lat":80,"lng":0},{"lat":80,"lng":120},{"lat":80,"lng":-120}]]}`,
		`{"cells":["8a1fb46622dffff","891fb466227ffff"]}`,
	} {
		s, err := ParseShape([]byte(good))
		require.NoError(t, err, good)
		again, err := json.Marshal(s)
		require.NoError(t, err)
		require.JSONEq(t, good, string(again))
	}
	for bad, why := range map[string]string{
		`{}`: "one of",
		`{"circle":{"center":{"lat":0,"lng":0},"radius":5},"cells":["8a1fb46622dffff"]}`: "one of",
		`{"circle":{"center":{"lat":91,"lng":0},"radius":5}}`:                            "lat",
		`{"circle":{"center":{"lat":1,"lng":0},"radius":0}}`:                             "radius",
		`{"circle":{"center":{"lat":1,"lng":0},"radius":1e9}}`:                           "radius",
		`{"circle":{"center":{"lat":1,"lng":0},"radius":5,"color":"red"}}`:               "color",
		`{"circle":{"center":{"lat":1,"lng":0},"radius":5}}{}`:                           "follows",
		`{"cells":[]}`:     "from 1",
		`{"cells":["zz"]}`: "H3",
		`{"cells":["8009fffffffffff","8f2830828052d25"]}`: "different sizes",
		`{"polygon":[]}`: "ring",
		`{"polygon":[[{"lat":0,"lng":0},{"lat":0,"lng":1},{"lat":0,"lng":0}]]}`:                                                                                                                         "three",
		`{"polygon":[[{"lat":0,"lng":0},{"lat":1,"lng":1},{"lat":0,"lng":1},{"lat":1,"lng":0}]]}`:                                                                                                       "cross",
		`{"polygon":[[{"lat":0,"lng":0},{"lat":0,"lng":1},{"lat":0,"lng":0.5}]]}`:                                                                                                                       "",
		`{"polygon":[[{"lat":0,"lng":0},{"lat":0,"lng":90},{"lat":0,"lng":180},{"lat":0,"lng":-90}]]}`:                                                                                                  "km",
		`{"polygon":[[{"lat":0,"lng":0},{"lat":0,"lng":1},{"lat":1,"lng":0}],[{"lat":5,"lng":5},{"lat":5,"lng":6},{"lat":6,"lng":5}]]}`:                                                                 "holes",
		`{"polygon":[[{"lat":0,"lng":0},{"lat":0,"lng":9},{"lat":9,"lng":0}],[{"lat":1,"lng":1},{"lat":1,"lng":4},{"lat":4,"lng":1}],[{"lat":1.5,"lng":1.5},{"lat":1.5,"lng":2},{"lat":2,"lng":1.5}]]}`: "holes",
		`[]`: "shape",
	} {
		_, err := ParseShape([]byte(bad))
		require.ErrorIs(t, err, ErrInvalid, bad)
		require.ErrorContains(t, err, why, bad)
	}
}

func FuzzParseShape(f *testing.F) {
	f.Add([]byte(`{"circle":{"center":{"lat":45.3,"lng":14},"radius":200}}`), 45.3, 14.0)
	f.Add([]byte(`{"polygon":[[{"lat":80,"lng":0},{"lat":80,"lng":120},{"lat":80,"lng":-120}]]}`), 90.0, 0.0)
	f.Add([]byte(`{"cells":["8a1fb46622dffff","8b1fb4662200fff"]}`), 0.0, 180.0)
	f.Fuzz(func(t *testing.T, data []byte, lat, lng float64) {
		s, err := ParseShape(data)
		if err != nil {
			require.ErrorIs(t, err, ErrInvalid)
			return
		}
		a, err := compile(s)
		require.NoError(t, err)
		p := geo.Point{Lat: lat, Lng: lng}
		if !p.Valid() {
			return
		}
		d := a.distance(p.Vec())
		require.False(t, math.IsNaN(d))
		// No point inside is outside of the circle that the index goes by.
		if d < 0 {
			require.LessOrEqual(t, distance(p.Vec(), a.center), a.radius*(1+1e-9)+1e-6)
		}
		out, err := json.Marshal(s)
		require.NoError(t, err)
		again, err := ParseShape(out)
		require.NoError(t, err)
		require.Equal(t, s, again)
	})
}
