package geo

import "math"

// Vec is a position as a unit vector from the centre of the Earth: x towards
// 0° N 0° E, y towards 0° N 90° E, z towards the north pole. Comparing positions
// by it takes no trigonometry and knows no antimeridian and no poles.
type Vec struct{ X, Y, Z float64 }

// Vec returns the unit vector of p.
func (p Point) Vec() Vec {
	sinLat, cosLat := math.Sincos(radians(p.Lat))
	sinLng, cosLng := math.Sincos(radians(p.Lng))
	return Vec{cosLng * cosLat, sinLng * cosLat, sinLat}
}

// Chord2 returns the square of the straight line through the Earth between two
// positions, in Earth radii: from 0 to 4, and growing with the distance.
func (v Vec) Chord2(w Vec) float64 {
	x, y, z := v.X-w.X, v.Y-w.Y, v.Z-w.Z
	return x*x + y*y + z*z
}

// Chord2 returns the square of the chord, in Earth radii, of a great-circle
// distance in metres, which is not negative: what Vec.Chord2 is compared with.
// It is infinite from half way round the Earth on, where everything is within.
func Chord2(metres float64) float64 {
	if metres >= math.Pi*Radius {
		return math.Inf(1)
	}
	s := math.Sin(metres / (2 * Radius))
	return 4 * s * s
}

// Chord2Distance is the inverse of Chord2, up to half way round the Earth.
func Chord2Distance(chord2 float64) float64 {
	half2 := chord2 / 4 // the square of the sine of half the angle
	if half2 < 1e-6 {
		// Up to 12 km: the arc sine's series, of which the next term is less than
		// rounding.
		return 2 * Radius * math.Sqrt(half2) * (1 + half2*(1./6+half2*(3./40)))
	}
	return 2 * Radius * math.Asin(min(math.Sqrt(half2), 1))
}
