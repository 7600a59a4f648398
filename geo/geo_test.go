package geo_test

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/geo"
)

func TestValid(t *testing.T) {
	for _, p := range []geo.Point{{0, 0}, {90, 0}, {-90, 180}, {45, -180}} {
		require.True(t, p.Valid(), "%v", p)
	}
	for _, p := range []geo.Point{
		{90.000001, 0}, {-91, 0}, {0, 180.000001}, {0, -181},
		{math.NaN(), 0}, {0, math.NaN()}, {math.Inf(1), 0}, {0, math.Inf(-1)},
	} {
		require.False(t, p.Valid(), "%v", p)
	}
}

func TestDistance(t *testing.T) {
	half := math.Pi * geo.Radius
	for name, c := range map[string]struct {
		a, b geo.Point
		want float64
		off  float64
	}{
		"same point":                  {geo.Point{52.5, 13.4}, geo.Point{52.5, 13.4}, 0, 0},
		"Dublin to Ashburn":           {geo.Point{53.3498, -6.2603}, geo.Point{39.0438, -77.4874}, 5_442_000, 30_000},
		"one degree of the equator":   {geo.Point{0, 0}, geo.Point{0, 1}, half / 180, 1e-6},
		"across the antimeridian":     {geo.Point{0, 179.5}, geo.Point{0, -179.5}, half / 180, 1e-6},
		"two names of one meridian":   {geo.Point{10, 180}, geo.Point{10, -180}, 0, 1e-6},
		"pole to pole":                {geo.Point{90, 0}, geo.Point{-90, 77}, half, 1e-6},
		"a pole has all longitudes":   {geo.Point{90, 0}, geo.Point{90, 123}, 0, 1e-6},
		"antipodes on the equator":    {geo.Point{0, 0}, geo.Point{0, 180}, half, 1e-6},
		"a centimetre is not lost":    {geo.Point{45, 13}, geo.Point{45 + 1e-7, 13}, half / 180 * 1e-7, 1e-6},
		"over the pole, not round it": {geo.Point{89, 0}, geo.Point{89, 180}, half / 90, 1e-6},
	} {
		t.Run(name, func(t *testing.T) {
			require.InDelta(t, c.want, geo.Distance(c.a, c.b), c.off)
			require.InDelta(t, c.want, geo.Distance(c.b, c.a), c.off)
		})
	}
}

func TestBearing(t *testing.T) {
	for name, c := range map[string]struct {
		a, b geo.Point
		want float64
	}{
		"north":                        {geo.Point{0, 0}, geo.Point{1, 0}, 0},
		"east":                         {geo.Point{0, 0}, geo.Point{0, 1}, 90},
		"south":                        {geo.Point{0, 0}, geo.Point{-1, 0}, 180},
		"west":                         {geo.Point{0, 0}, geo.Point{0, -1}, 270},
		"east over the antimeridian":   {geo.Point{0, 179.9}, geo.Point{0, -179.9}, 90},
		"west over the antimeridian":   {geo.Point{0, -179.9}, geo.Point{0, 179.9}, 270},
		"everything is south of north": {geo.Point{90, 0}, geo.Point{0, 0}, 180},
		"everything is north of south": {geo.Point{-90, 0}, geo.Point{0, 0}, 0},
		"nowhere":                      {geo.Point{3, 4}, geo.Point{3, 4}, 0},
	} {
		t.Run(name, func(t *testing.T) { require.InDelta(t, c.want, geo.Bearing(c.a, c.b), 1e-9) })
	}
}

func TestDestination(t *testing.T) {
	degree := math.Pi * geo.Radius / 180
	near := func(want, got geo.Point) {
		t.Helper()
		require.InDelta(t, 0, geo.Distance(want, got), 1e-3, "want %v, got %v", want, got)
	}
	near(geo.Point{1, 0}, geo.Destination(geo.Point{0, 0}, 0, degree))
	near(geo.Point{0, -179.5}, geo.Destination(geo.Point{0, 179.5}, 90, degree))
	near(geo.Point{0, 179.5}, geo.Destination(geo.Point{0, -179.5}, 270, degree))
	near(geo.Point{89, 180}, geo.Destination(geo.Point{89, 0}, 0, 2*degree)) // over the pole
	near(geo.Point{45, 13}, geo.Destination(geo.Point{45, 13}, 77, 0))
}

func FuzzRoundTrip(f *testing.F) {
	f.Add(45.0, 13.0, 90.0, 1000.0)
	f.Add(90.0, 0.0, 180.0, 1e6)
	f.Add(-90.0, 180.0, 0.0, 1.0)
	f.Add(0.0, 180.0, 90.0, 2e7)
	f.Add(1e-300, -180.0, -1e-17, 1e7)
	f.Fuzz(func(t *testing.T, lat, lng, bearing, metres float64) {
		p := geo.Point{Lat: lat, Lng: lng}
		if !p.Valid() || !(math.Abs(bearing) <= 720) || !(metres >= 0 && metres < math.Pi*geo.Radius) {
			t.Skip()
		}
		q := geo.Destination(p, bearing, metres)
		require.True(t, q.Valid(), "%v", q)
		// Near the antipode asin is flat: a millimetre there is rounding.
		require.InDelta(t, metres, geo.Distance(p, q), 1e-3+metres*1e-6)
		b := geo.Bearing(p, q)
		require.True(t, b >= 0 && b < 360, "%v", b)
	})
}
