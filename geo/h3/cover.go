package h3

import (
	"errors"
	"fmt"
	"math"

	c "github.com/uber/h3-go/v4"

	"github.com/mustermesh/muster/geo"
)

// ErrTooMany is returned when a cover has more cells than the caller allows.
var ErrTooMany = errors.New("h3: too many cells")

// Box is what a map shows: the points from South to North, and from West
// eastwards to East. If West is greater than East it lies over the antimeridian;
// -180 to 180 is all the way round.
type Box struct {
	South float64 `json:"south"`
	West  float64 `json:"west"`
	North float64 `json:"north"`
	East  float64 `json:"east"`
}

// Valid reports whether all four are in range, and South is not above North.
func (b Box) Valid() bool {
	return geo.Point{Lat: b.South, Lng: b.West}.Valid() && geo.Point{Lat: b.North, Lng: b.East}.Valid() && b.South <= b.North
}

// Contains reports whether p is in the box or on its edge.
func (b Box) Contains(p geo.Point) bool {
	if p.Lat < b.South || p.Lat > b.North {
		return false
	}
	if p.Lat == 90 || p.Lat == -90 {
		return true // a pole has all longitudes
	}
	return eastOf(b.West, p.Lng) <= b.width() || eastOf(b.West, p.Lng) == 360
}

// width returns how many degrees of longitude the box is wide.
func (b Box) width() float64 {
	if b.East-b.West == 360 {
		return 360
	}
	return eastOf(b.West, b.East)
}

// eastOf returns how many degrees east of a one gets to b, from 0 up to 360.
func eastOf(a, b float64) float64 {
	if b < a {
		return b - a + 360
	}
	return b - a
}

// distance returns how far p is from the box, in metres, or a little less.
func (b Box) distance(p geo.Point) float64 {
	east := eastOf(b.West, p.Lng)
	if east <= b.width() || east == 360 {
		return math.Pi / 180 * geo.Radius * max(b.South-p.Lat, p.Lat-b.North, 0)
	}
	return min(meridianDistance(p, b.West, b.South, b.North), meridianDistance(p, b.East, b.South, b.North))
}

// meridianDistance returns how far p is from a stretch of a meridian.
func meridianDistance(p geo.Point, lng, south, north float64) float64 {
	const rad = math.Pi / 180
	v := p.Vec()
	sin, cos := math.Sincos(lng * rad)
	along, across := v.X*cos+v.Y*sin, v.Y*cos-v.X*sin
	// The foot of p on the meridian's great circle, if it is on the stretch.
	if foot := math.Atan2(v.Z, along) / rad; foot >= south && foot <= north {
		return geo.Radius * math.Asin(min(math.Abs(across), 1))
	}
	return min(geo.Distance(p, geo.Point{Lat: south, Lng: lng}), geo.Distance(p, geo.Point{Lat: north, Lng: lng}))
}

// Circle appends to dst all cells of a resolution that may hold a point within
// radius metres of p, and returns ErrTooMany if there are more than limit.
func Circle(dst []geo.Cell, p geo.Point, radius float64, res, limit int) ([]geo.Cell, error) {
	if !p.Valid() {
		return dst, errPoint
	}
	if !(radius >= 0) {
		return dst, badInput("radius", radius)
	}
	v, reach := p.Vec(), 0.0
	if res >= 0 && res <= geo.MaxResolution {
		reach = geo.Chord2(radius + geo.MaxRadius(res))
	}
	return walk(dst, p, res, limit, func(center geo.Point) bool { return v.Chord2(center.Vec()) <= reach*(1+1e-9) })
}

// Viewport appends to dst all cells of a resolution that may hold a point of the
// box, and returns ErrTooMany if there are more than limit.
func Viewport(dst []geo.Cell, box Box, res, limit int) ([]geo.Cell, error) {
	if !box.Valid() {
		return dst, errPoint
	}
	lng := box.West + box.width()/2
	if lng > 180 {
		lng -= 360
	}
	middle := geo.Point{Lat: (box.South + box.North) / 2, Lng: lng}
	return walk(dst, middle, res, limit, func(center geo.Point) bool { return box.distance(center) <= geo.MaxRadius(res)*(1+1e-9) })
}

// walk appends the cells around start whose centres are near, going from cell to
// neighbour. A shape in one piece is covered in one piece, as cells that meet in
// a corner meet in an edge, too.
func walk(dst []geo.Cell, start geo.Point, res, limit int, near func(center geo.Point) bool) ([]geo.Cell, error) {
	first, err := CellOf(start, res)
	if err != nil {
		return dst, err
	}
	seen := map[geo.Cell]bool{first: true}
	from := len(dst)
	dst = append(dst, first)
	for i := from; i < len(dst); i++ {
		if len(dst)-from > limit {
			return dst[:from], fmt.Errorf("%w: more than %d of resolution %d", ErrTooMany, limit, res)
		}
		around, err := c.GridDisk(c.Cell(dst[i]), 1)
		if err != nil {
			return dst[:from], fmt.Errorf("h3: neighbours: %w", err)
		}
		for _, n := range around {
			cell := geo.Cell(n)
			if seen[cell] {
				continue
			}
			seen[cell] = true
			center, err := c.CellToLatLng(n)
			if err != nil {
				return dst[:from], fmt.Errorf("h3: centre: %w", err)
			}
			if near(point(center)) {
				dst = append(dst, cell)
			}
		}
	}
	return dst, nil
}
