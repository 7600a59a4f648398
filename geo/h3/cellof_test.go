package h3

import (
	"math"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/geo"
)

// queries returns how many random cases to try: a twentieth of the full count
// unless the environment asks for another.
func queries(t *testing.T) int {
	if s := os.Getenv("MUSTER_GEO_QUERIES"); s != "" {
		n, err := strconv.Atoi(s)
		require.NoError(t, err)
		return n
	}
	return 50_000
}

// anywhere returns a point that is random on the sphere.
func anywhere(r *rand.Rand) geo.Point {
	return geo.Point{Lat: math.Asin(2*r.Float64()-1) * 180 / math.Pi, Lng: 360*r.Float64() - 180}
}

// nastyPoints returns points on and around everything that is special: poles,
// the antimeridian, the corners and centres of the icosahedron's faces.
func nastyPoints(t testing.TB) (points []geo.Point) {
	for _, lng := range []float64{-180, -90, 0, math.Copysign(0, -1), 1e-300, 13, 90, math.Nextafter(180, 0), 180} {
		for _, lat := range []float64{-90, math.Nextafter(-90, 0), -45, 0, 1e-300, 45, 89.9999999, 90} {
			points = append(points, geo.Point{Lat: lat, Lng: lng})
		}
	}
	for base := range 122 {
		cell := geo.Cell(1<<59 | uint64(base)<<45 | (1<<45 - 1))
		center, err := Center(cell)
		require.NoError(t, err)
		points = append(points, center)
		corners, err := Boundary(cell)
		require.NoError(t, err)
		points = append(points, corners...)
	}
	for _, v := range faceCenter {
		points = append(points, geo.Point{Lat: math.Asin(v.Z) * 180 / math.Pi, Lng: math.Atan2(v.Y, v.X) * 180 / math.Pi})
	}
	return points
}

// near returns a point around p, at distances of all magnitudes.
func near(r *rand.Rand, p geo.Point) geo.Point {
	q := geo.Destination(p, 360*r.Float64(), math.Pow(10, -9+15*r.Float64()))
	return geo.Point{Lat: min(max(q.Lat, -90), 90), Lng: q.Lng}
}

// The cells that are computed in Go are the library's, and seldom missing.
func TestCellOfIsTheLibrarys(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 1))
	nasty := nastyPoints(t)
	quick, all := 0, 0
	check := func(p geo.Point, res int) geo.Cell {
		want, err := libraryCellOf(p, res)
		require.NoError(t, err)
		got := quickCellOf(p.Vec(), res)
		if got != 0 && got != want {
			t.Fatalf("%v at %d: %v instead of %v", p, res, got, want)
		}
		if got != 0 {
			quick++
		}
		all++
		return want
	}
	for _, p := range nasty {
		for res := range geo.MaxResolution + 1 {
			check(p, res)
		}
	}
	quick, all = 0, 0
	for range queries(t) {
		check(anywhere(r), geo.MaxResolution)
		check(anywhere(r), r.IntN(geo.MaxResolution+1))
	}
	t.Logf("the library was asked for %d of %d cells of random points", all-quick, all)
	require.Less(t, float64(all-quick), float64(all)/1000)
	quick, all = 0, 0
	for range queries(t) {
		check(near(r, nasty[r.IntN(len(nasty))]), r.IntN(geo.MaxResolution+1))
		// On and around the edges and corners of a random cell.
		corners, err := Boundary(check(anywhere(r), r.IntN(geo.MaxResolution+1)))
		require.NoError(t, err)
		a, b, w := corners[0].Vec(), corners[1].Vec(), r.Float64()
		p := geo.Point{
			Lat: math.Atan2(w*a.Z+(1-w)*b.Z, math.Hypot(w*a.X+(1-w)*b.X, w*a.Y+(1-w)*b.Y)) * 180 / math.Pi,
			Lng: math.Atan2(w*a.Y+(1-w)*b.Y, w*a.X+(1-w)*b.X) * 180 / math.Pi,
		}
		for _, p := range []geo.Point{corners[0], p, near(r, p)} {
			check(p, r.IntN(geo.MaxResolution+1))
		}
	}
	t.Logf("of %d of %d cells of points where it is hard", all-quick, all)
}

func FuzzCellOf(f *testing.F) {
	for _, p := range nastyPoints(f) {
		f.Add(p.Lat, p.Lng, 15)
	}
	f.Fuzz(func(t *testing.T, lat, lng float64, res int) {
		p := geo.Point{Lat: lat, Lng: lng}
		got, err := CellOf(p, res)
		if !p.Valid() || res < 0 || res > 15 {
			require.ErrorIs(t, err, ErrInput)
			return
		}
		require.NoError(t, err)
		want, err := libraryCellOf(p, res)
		require.NoError(t, err)
		require.Equal(t, want, got)
		require.True(t, got.Valid())
		require.Equal(t, res, got.Resolution())
	})
}

func TestCellOfAllocatesNothing(t *testing.T) {
	p := geo.Point{Lat: 52.52, Lng: 13.405}
	require.Zero(t, testing.AllocsPerRun(100, func() { _, _ = CellOf(p, 15) }))
}

func BenchmarkCellOf(b *testing.B) {
	p := geo.Point{Lat: 52.52, Lng: 13.405}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		p.Lng += 1e-7
		_, _ = CellOf(p, 15)
	}
}

func BenchmarkCellOfLibrary(b *testing.B) {
	p := geo.Point{Lat: 52.52, Lng: 13.405}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		p.Lng += 1e-7
		_, _ = libraryCellOf(p, 15)
	}
}
