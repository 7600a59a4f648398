package grant

import (
	"math"
	"time"

	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/geo/h3"
)

// level is what is told at one resolution.
type level struct {
	told     shape
	moment   time.Time // of the last step
	captured time.Time // as views have it
	leaving  bool      // at the last step the subject was outside of the told cell
	anchor   geo.Point // where the subject stays
	since    time.Time // since when
	places   []place   // where they stayed, the last seen last
}

// input is what a level decides by: the fix, or what the next finer level tells.
type input struct {
	point    geo.Point
	accuracy float64
	cell     geo.Cell
}

// place is where a subject stayed and which cell was told of it.
type place struct {
	point geo.Point
	cell  geo.Cell
}

const (
	unknownAccuracy = 50.0 // metres, of a fix that doesn't say
	margin          = 0.1  // of the radius: how far outside is outside, beyond the accuracy
	nearby          = 50.0 // metres: how far one moves without leaving a place, at least
	staying         = 20 * time.Minute
	maxPlaces       = 16
)

func (l *level) known() bool { return l.told.cell != 0 }

// step decides, at one of the subject's moments, which cell is told.
func (l *level) step(in input, res int, now time.Time) error {
	next, err := l.next(in, in.cell.Parent(res))
	if err != nil {
		return err
	}
	slack := max(nearby, in.accuracy/2)
	if next != l.told.cell {
		told, err := newShape(next)
		if err != nil {
			return err
		}
		l.told, l.since = told, time.Time{}
	}
	if l.since.IsZero() || geo.Distance(l.anchor, in.point) > slack {
		l.anchor, l.since = in.point, now
	}
	if now.Sub(l.since) >= staying {
		l.remember(place{l.anchor, l.told.cell}, slack)
	}
	return nil
}

// next returns the cell to tell, mine being the one that the input is in.
func (l *level) next(in input, mine geo.Cell) (geo.Cell, error) {
	if !l.known() {
		return mine, nil
	}
	slack := max(nearby, in.accuracy/2)
	for i := len(l.places) - 1; i >= 0; i-- {
		if p := l.places[i]; geo.Distance(p.point, in.point) <= slack {
			l.places = append(append(l.places[:i], l.places[i+1:]...), p)
			l.leaving = false
			return p.cell, nil
		}
	}
	if mine == l.told.cell {
		l.leaving = false
		return mine, nil
	}
	if !l.leaving && l.told.border(in.point) <= in.accuracy+margin*l.told.radius {
		return l.told.cell, nil
	}
	if !l.leaving {
		far := false
		if mine.Resolution() < MaxResolution {
			center, err := h3.Center(mine)
			if err != nil {
				return 0, err
			}
			far = geo.Distance(center, l.told.center) > 2.4*l.told.radius
		}
		if !far {
			l.leaving = true
			return l.told.cell, nil
		}
	}
	l.leaving = false
	return mine, nil
}

// remember keeps a place, unless it is known.
func (l *level) remember(p place, slack float64) {
	for i := range l.places {
		if geo.Distance(l.places[i].point, p.point) <= slack {
			return
		}
	}
	if len(l.places) == maxPlaces {
		l.places = append(l.places[:0], l.places[1:]...)
	}
	l.places = append(l.places, p)
}

// shape is a cell and where it lies.
type shape struct {
	cell    geo.Cell
	center  geo.Point
	radius  float64 // metres from the centre to the farthest corner
	corners []geo.Vec
}

func newShape(c geo.Cell) (shape, error) {
	center, err := h3.Center(c)
	if err != nil {
		return shape{}, err
	}
	corners, err := h3.Boundary(c)
	if err != nil {
		return shape{}, err
	}
	s := shape{cell: c, center: center}
	for _, p := range corners {
		s.radius = max(s.radius, geo.Distance(center, p))
		s.corners = append(s.corners, p.Vec())
	}
	return s, nil
}

// border returns how many metres p is from the border of the cell. Vectors make
// it the same at the poles and the antimeridian, and it doesn't ask whether the
// cell is convex: those around pentagons aren't quite.
func (s *shape) border(p geo.Point) float64 {
	v, nearest := p.Vec(), 4.0
	for i, a := range s.corners {
		b := s.corners[(i+1)%len(s.corners)]
		// The foot of p on the chord from a to b, lifted to the sphere.
		x, y, z := b.X-a.X, b.Y-a.Y, b.Z-a.Z
		t := ((v.X-a.X)*x + (v.Y-a.Y)*y + (v.Z-a.Z)*z) / (x*x + y*y + z*z)
		t = max(0, min(t, 1))
		foot := geo.Vec{X: a.X + t*x, Y: a.Y + t*y, Z: a.Z + t*z}
		up := 1 / math.Sqrt(foot.X*foot.X+foot.Y*foot.Y+foot.Z*foot.Z)
		nearest = min(nearest, v.Chord2(geo.Vec{X: up * foot.X, Y: up * foot.Y, Z: up * foot.Z}))
	}
	return geo.Chord2Distance(nearest)
}

// cellOf returns the cell of a resolution that a point is in, by way of the
// finest: so each coarse cell is a function of the finer one.
func cellOf(p geo.Point, res int) (geo.Cell, error) {
	c, err := h3.CellOf(p, geo.MaxResolution)
	return c.Parent(res), err
}
