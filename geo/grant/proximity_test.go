package grant_test

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/geo/grant"
)

func at(p geo.Point, accuracy float32) grant.View {
	return grant.View{Point: p, Precision: grant.Exact, Accuracy: accuracy}
}

func TestBetween(t *testing.T) {
	here := geo.Point{Lat: 52.52, Lng: 13.4}
	east := geo.Destination(here, 90, 1234.4)

	p := grant.Between(at(here, 0), at(east, 0))
	require.Equal(t, grant.Proximity{Distance: 1234, Uncertainty: 0, Direction: 90, Spread: 0}, p)

	p = grant.Between(at(here, 10), at(east, 90))
	require.Equal(t, grant.Proximity{Distance: 1250, Uncertainty: 100, Direction: 90, Spread: 5}, p)

	p = grant.Between(at(here, 10), at(east, 1500))
	require.Equal(t, 180.0, p.Spread, "they may be at the same place")
	require.Equal(t, 1000.0, p.Distance)

	p = grant.Between(at(here, 0), at(here, 0))
	require.Equal(t, grant.Proximity{Spread: 180}, p)
}

func TestBetweenAlwaysHoldsTheTruth(t *testing.T) {
	// Whoever stands anywhere within both accuracies is within what was said.
	here := geo.Point{Lat: -33.9, Lng: 179.99}
	for i := range 2000 {
		f := float64(i)
		there := geo.Destination(here, math.Mod(f*77, 360), 30+f*3)
		a, b := float32(5+i%50), float32(i%700)
		p := grant.Between(at(here, a), at(there, b))
		trueFrom := geo.Destination(here, math.Mod(f*31, 360), float64(a))
		trueTo := geo.Destination(there, math.Mod(f*53, 360), float64(b))
		require.InDelta(t, geo.Distance(trueFrom, trueTo), p.Distance, 1.25*p.Uncertainty+1)
		if p.Spread < 180 {
			off := math.Abs(math.Remainder(geo.Bearing(trueFrom, trueTo)-p.Direction, 360))
			require.LessOrEqual(t, off, p.Spread+1)
		}
		require.True(t, p.Direction >= 0 && p.Direction < 360)
	}
}

func TestCompass(t *testing.T) {
	for deg, want := range map[float64]string{
		0: "N", 22: "N", 23: "NE", 45: "NE", 90: "E", 135: "SE", 180: "S", 225: "SW", 270: "W", 315: "NW",
		337: "NW", 338: "N", 359.9: "N", 360: "N", -90: "W", 720: "N", -1: "N",
	} {
		require.Equal(t, want, grant.Compass(deg), "%v", deg)
	}
}
