package grant

import (
	"math"
	"slices"
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
	anchor   geo.Point // where the subject is staying
	since    time.Time // since when
	places   []place   // where they stayed, the last seen last
}

// input is what a level decides by: the fix, or what the next finer level tells.
type input struct {
	point    geo.Point
	accuracy float64
	cell     geo.Cell
}

// slack is how far apart two inputs may be that are of the same spot.
func (in input) slack() float64 { return max(spot, in.accuracy/2) }

func (in input) at(p geo.Point) bool { return geo.Distance(in.point, p) <= in.slack() }

// place is where a subject stayed, and the cell that is told of it.
type place struct {
	point  geo.Point
	told   shape
	seen   time.Time // last
	stored time.Time // that, as a Memory has it; zero: none has the place
}

// stale reports whether a Memory should have the place, or that it was seen of late.
func (p *place) stale() bool { return p.seen.Sub(p.stored) >= 24*time.Hour }

const (
	unknownAccuracy = 50.0  // metres, of a fix that doesn't say
	spot            = 50.0  // metres: how far receivers wander while nobody moves
	astray          = 300.0 // metres: how far off a receiver may be without saying so
	staying         = 20 * time.Minute
	maxPlaces       = 16

	// In radii of the cell:
	margin = 0.1 // how far outside is outside, beyond the accuracy
	cloak  = 2.6 // around the centre of a place's cell, where passing shows nothing else
	beside = 1.6 // a place: who stays there is told to be in its cell, too
	apart  = 2.4 // from centre to centre: cells that don't touch
)

func (l *level) known() bool { return l.told.cell != 0 }

// step decides, at one of the subject's moments, which cell is told, and reports
// whether the subject stays at a place of which a Memory should know.
func (l *level) step(in input, res int, now time.Time) (learned bool, err error) {
	if l.since.IsZero() || !in.at(l.anchor) {
		l.anchor, l.since = in.point, now
	}
	stays := now.Sub(l.since) >= staying
	next, err := l.next(in, in.cell.Parent(res), stays)
	if err != nil {
		return false, err
	}
	if next != l.told.cell {
		if l.told, err = newShape(next); err != nil {
			return false, err
		}
	}
	return stays && !l.leaving && l.remember(in, now), nil
}

// next returns the cell to tell, mine being the one that the input is in.
func (l *level) next(in input, mine geo.Cell, stays bool) (geo.Cell, error) {
	if !l.known() {
		return mine, nil
	}
	was := l.leaving
	l.leaving = false
	if i := l.find(in); i >= 0 {
		return l.places[i].told.cell, nil
	}
	if c := l.cloaked(in); c != 0 && (!stays || l.beside(in, c)) {
		return c, nil
	}
	if was || mine == l.told.cell {
		return mine, nil
	}
	if l.told.border(in.point) <= in.accuracy+margin*l.told.radius {
		return l.told.cell, nil
	}
	center, err := h3.Center(mine)
	if err != nil {
		return 0, err
	}
	if geo.Distance(center, l.told.center) > apart*l.told.radius+astray {
		return mine, nil
	}
	l.leaving = true
	return l.told.cell, nil
}

// find returns the place that the input is at, -1 if it is at none.
func (l *level) find(in input) int {
	for i := len(l.places) - 1; i >= 0; i-- {
		if in.at(l.places[i].point) {
			return i
		}
	}
	return -1
}

// cloaked returns the cell of a place that the input is around, first of all the
// one that is told; 0 if it is around none.
func (l *level) cloaked(in input) (c geo.Cell) {
	for i := range l.places {
		p := &l.places[i].told
		if c != l.told.cell && geo.Distance(in.point, p.center) <= cloak*p.radius {
			c = p.cell
		}
	}
	return c
}

// beside reports whether the input is close to a place of which a cell is told.
func (l *level) beside(in input, told geo.Cell) bool {
	return slices.ContainsFunc(l.places, func(p place) bool {
		return p.told.cell == told && geo.Distance(in.point, p.point) <= beside*p.told.radius
	})
}

// remember keeps where the subject stays, and reports whether a Memory should know
// of it. It forgets the place that was not seen for longest if there are too many.
func (l *level) remember(in input, now time.Time) bool {
	p, i := place{point: l.anchor, told: l.told}, l.find(in)
	if i >= 0 {
		p = l.places[i]
		l.places = slices.Delete(l.places, i, i+1)
	} else if len(l.places) == maxPlaces {
		l.places = slices.Delete(l.places, 0, 1)
	}
	p.seen = now
	l.places = append(l.places, p)
	return p.stale()
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
