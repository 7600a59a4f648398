package h3

import (
	"fmt"
	"math"

	"github.com/mustermesh/muster/geo"
)

// Polygon appends to dst all cells of a resolution that may hold a point of a
// polygon, and returns ErrTooMany if there are more than limit. The polygon is
// given by its corners, in either direction; whether the first is repeated at the
// end doesn't matter. Its edges are great circles. All corners must be within 60°
// of the middle of them; poles and the antimeridian are places like others.
func Polygon(dst []geo.Cell, corners []geo.Point, res, limit int) ([]geo.Cell, error) {
	shape, err := newPolygon(corners)
	if err != nil {
		return dst, err
	}
	return walk(dst, corners[0], res, limit, func(center geo.Point) bool {
		return shape.distance(center.Vec()) <= geo.MaxRadius(res)*(1+1e-9)
	})
}

// polygon is one on the plane that touches the Earth in its middle, where great
// circles are straight lines.
type polygon struct {
	middle, x, y geo.Vec
	corners      []geo.Vec
	flat         [][2]float64
}

func newPolygon(corners []geo.Point) (*polygon, error) {
	if len(corners) < 3 {
		return nil, fmt.Errorf("%w: a polygon has at least 3 corners", ErrInput)
	}
	s := &polygon{}
	for _, p := range corners {
		if !p.Valid() {
			return nil, errPoint
		}
		v := p.Vec()
		s.corners = append(s.corners, v)
		s.middle = geo.Vec{X: s.middle.X + v.X, Y: s.middle.Y + v.Y, Z: s.middle.Z + v.Z}
	}
	if norm(s.middle) < 1e-9 {
		return nil, fmt.Errorf("%w: a polygon all round the Earth", ErrInput)
	}
	s.middle = scale(s.middle, 1/norm(s.middle))
	// Any two directions at right angles to it and to each other.
	off := geo.Vec{Z: 1}
	if math.Abs(s.middle.Z) > 0.9 {
		off = geo.Vec{X: 1}
	}
	s.x = cross(off, s.middle)
	s.x = scale(s.x, 1/norm(s.x))
	s.y = cross(s.middle, s.x)
	for _, v := range s.corners {
		if dot(&v, &s.middle) < 0.5 {
			return nil, fmt.Errorf("%w: a polygon wider than 120°", ErrInput)
		}
		s.flat = append(s.flat, s.project(v))
	}
	return s, nil
}

func (s *polygon) project(v geo.Vec) [2]float64 {
	d := dot(&v, &s.middle)
	return [2]float64{dot(&v, &s.x) / d, dot(&v, &s.y) / d}
}

// distance returns how far a point is from the polygon, in metres.
func (s *polygon) distance(v geo.Vec) float64 {
	if s.holds(v) {
		return 0
	}
	nearest := math.Inf(1)
	for i, b := range s.corners {
		a := s.corners[(i+len(s.corners)-1)%len(s.corners)]
		nearest = min(nearest, geo.Chord2Distance(v.Chord2(b)))
		// The foot of v on the edge's great circle, if it is between a and b.
		n := cross(a, b)
		if size := norm(n); size > 0 {
			toA, toB := cross(n, a), cross(n, b)
			if dot(&toA, &v) > 0 && dot(&toB, &v) < 0 {
				nearest = min(nearest, geo.Radius*math.Asin(min(math.Abs(dot(&n, &v))/size, 1)))
			}
		}
	}
	return nearest
}

// holds reports whether a point is inside: a ray from it crosses an odd number of
// edges.
func (s *polygon) holds(v geo.Vec) bool {
	if dot(&v, &s.middle) < 0.4 {
		return false
	}
	p, inside := s.project(v), false
	for i, b := range s.flat {
		a := s.flat[(i+len(s.flat)-1)%len(s.flat)]
		if (a[1] > p[1]) != (b[1] > p[1]) && p[0] < a[0]+(b[0]-a[0])*(p[1]-a[1])/(b[1]-a[1]) {
			inside = !inside
		}
	}
	return inside
}

func cross(a, b geo.Vec) geo.Vec {
	return geo.Vec{X: a.Y*b.Z - a.Z*b.Y, Y: a.Z*b.X - a.X*b.Z, Z: a.X*b.Y - a.Y*b.X}
}

func norm(v geo.Vec) float64 { return math.Sqrt(dot(&v, &v)) }

func scale(v geo.Vec, by float64) geo.Vec { return geo.Vec{X: v.X * by, Y: v.Y * by, Z: v.Z * by} }
