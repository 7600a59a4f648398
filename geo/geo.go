// Package geo holds points on the Earth and the few great-circle formulas that
// the rest leans on: distance, bearing, destination. It is pure Go, so that the
// SDK builds without a C compiler; what needs H3 cells lives in geo/h3.
//
// The Earth is a sphere here. Against the WGS 84 ellipsoid a distance is wrong
// by at most about 0.5 %, which is less than what a phone's fix is off. The
// distance is the haversine formula, which keeps its precision for points close
// to each other and, clamped, for antipodes (R. W. Sinnott, "Virtues of the
// Haversine", Sky and Telescope 68(2), 1984); bearing and destination are the
// usual spherical ones (Ed Williams, "Aviation Formulary").
package geo

import "math"

// Radius is the mean radius of the Earth in metres (IUGG R1).
const Radius = 6_371_008.8

// Point is a position in degrees on WGS 84. Its JSON form is what the HTTP API
// and the frames use.
type Point struct {
	Lat float64 `json:"lat"`
	Lng float64 `json:"lng"`
}

// Valid reports whether both coordinates are numbers in range. Both poles and
// both names of the antimeridian (-180 and 180) are.
func (p Point) Valid() bool {
	// NaN fails every comparison, infinities the bounds.
	return p.Lat >= -90 && p.Lat <= 90 && p.Lng >= -180 && p.Lng <= 180
}

// Distance returns the great-circle distance between two points in metres.
func Distance(a, b Point) float64 {
	lat1, lat2 := radians(a.Lat), radians(b.Lat)
	sinLat := math.Sin((lat2 - lat1) / 2)
	sinLng := math.Sin(radians(b.Lng-a.Lng) / 2)
	h := sinLat*sinLat + math.Cos(lat1)*math.Cos(lat2)*sinLng*sinLng
	// Rounding can lift h a hair above 1 at antipodes.
	return 2 * Radius * math.Asin(math.Sqrt(min(h, 1)))
}

// Bearing returns the initial bearing of the great circle from a to b, in
// degrees from true north, in [0, 360). It is 0 for equal points; from a pole it
// is measured against the meridian that a.Lng names.
func Bearing(a, b Point) float64 { return a.Bearings().To(b) }

// Bearings are those from one point, for who asks for many.
type Bearings struct {
	from     Point
	sin, cos float64 // of the latitude
}

// Bearings returns the bearings from p.
func (p Point) Bearings() Bearings {
	sin, cos := math.Sincos(radians(p.Lat))
	return Bearings{p, sin, cos}
}

// To returns the bearing to another point.
func (from Bearings) To(b Point) float64 {
	// The usual x is cos·sin' - sin·cos'·cosLng; this is the same without taking
	// the difference of what is nearly equal.
	sinLat, versLat := sinVers(radians(b.Lat - from.from.Lat))
	sinLng, versLng := sinVers(radians(b.Lng - from.from.Lng))
	cosLat := from.cos*(1-versLat) - from.sin*sinLat // of b
	return turn(math.Atan2(sinLng*cosLat, sinLat+from.sin*cosLat*versLng) * 180 / math.Pi)
}

// sinVers returns an angle's sine, and one less its cosine: for what is up to
// 100 km away by series, of which the next terms are less than rounding.
func sinVers(x float64) (sin, vers float64) {
	if x2 := x * x; x2 < 3e-4 {
		return x * (1 - x2/6*(1-x2/20*(1-x2/42))), x2 / 2 * (1 - x2/12*(1-x2/30*(1-x2/56)))
	}
	half := math.Sin(x / 2)
	return math.Sin(x), 2 * half * half
}

// Destination returns the point that is reached from p along the great circle
// that starts with the given bearing, after the given metres. Its longitude is
// in [-180, 180).
func Destination(p Point, bearing, metres float64) Point {
	lat, b, d := radians(p.Lat), radians(bearing), metres/Radius
	// The unit vector of the destination in the frame of p's meridian. Taking
	// the latitude by atan2 instead of asin keeps millimetres near the poles.
	x := math.Cos(lat)*math.Cos(d) - math.Sin(lat)*math.Sin(d)*math.Cos(b)
	y := math.Sin(d) * math.Sin(b)
	z := math.Sin(lat)*math.Cos(d) + math.Cos(lat)*math.Sin(d)*math.Cos(b)
	return Point{
		Lat: math.Atan2(z, math.Hypot(x, y)) * 180 / math.Pi,
		Lng: turn(p.Lng+math.Atan2(y, x)*180/math.Pi+180) - 180,
	}
}

// turn brings an angle into [0, 360).
func turn(deg float64) float64 {
	deg = math.Mod(deg, 360)
	if deg < 0 {
		deg += 360
	}
	if deg >= 360 { // a tiny negative angle plus 360 rounds to 360
		return 0
	}
	return deg
}

func radians(deg float64) float64 { return deg * math.Pi / 180 }
