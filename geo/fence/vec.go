package fence

import (
	"math"

	"github.com/mustermesh/muster/geo"
)

func dot(a, b geo.Vec) float64 { return a.X*b.X + a.Y*b.Y + a.Z*b.Z }

func cross(a, b geo.Vec) geo.Vec {
	return geo.Vec{X: a.Y*b.Z - a.Z*b.Y, Y: a.Z*b.X - a.X*b.Z, Z: a.X*b.Y - a.Y*b.X}
}

// unit returns v at length 1.
func unit(v geo.Vec) geo.Vec {
	l := math.Sqrt(dot(v, v))
	return geo.Vec{X: v.X / l, Y: v.Y / l, Z: v.Z / l}
}

// lerp returns the point of the straight line through a and b at t.
func lerp(a, b geo.Vec, t float64) geo.Vec {
	return geo.Vec{X: a.X + (b.X-a.X)*t, Y: a.Y + (b.Y-a.Y)*t, Z: a.Z + (b.Z-a.Z)*t}
}

func pointOf(v geo.Vec) geo.Point {
	return geo.Point{
		Lat: math.Atan2(v.Z, math.Hypot(v.X, v.Y)) * 180 / math.Pi,
		Lng: math.Atan2(v.Y, v.X) * 180 / math.Pi,
	}
}
