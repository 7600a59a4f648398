package geo_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/geo"
)

// Chords order points as distances do, and turn into the same metres.
func TestChords(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for range 20_000 {
		p := geo.Point{Lat: 180*r.Float64() - 90, Lng: 360*r.Float64() - 180}
		d := math.Pow(10, 8*r.Float64()-1)
		if d > 0.9999*math.Pi*geo.Radius {
			continue
		}
		q := geo.Destination(p, 360*r.Float64(), d)
		c := p.Vec().Chord2(q.Vec())
		require.InDelta(t, d, geo.Chord2Distance(c), 1e-6+1e-9*d, "%v %v", p, q)
		require.InEpsilon(t, geo.Chord2(d), c, 1e-6)
		require.InDelta(t, d, geo.Chord2Distance(geo.Chord2(d)), 1e-6+1e-9*d)
	}
	require.Zero(t, geo.Chord2(0))
	require.Zero(t, geo.Chord2Distance(0))
	require.InDelta(t, math.Pi*geo.Radius, geo.Chord2Distance(4), 1e-6)
	require.InDelta(t, math.Pi*geo.Radius, geo.Chord2Distance(4.0000001), 1e-6)
	require.Equal(t, math.Inf(1), geo.Chord2(math.Pi*geo.Radius), "everything is nearer than half way round")
	require.Equal(t, math.Inf(1), geo.Chord2(math.Inf(1)))
}

func TestVecOfPolesAndTheAntimeridian(t *testing.T) {
	same := func(a, b geo.Point) {
		t.Helper()
		require.Less(t, a.Vec().Chord2(b.Vec()), 1e-30)
	}
	same(geo.Point{Lat: 90, Lng: 13}, geo.Point{Lat: 90, Lng: -100})
	same(geo.Point{Lat: -90, Lng: 13}, geo.Point{Lat: -90, Lng: 180})
	same(geo.Point{Lat: 12, Lng: 180}, geo.Point{Lat: 12, Lng: -180})
}
