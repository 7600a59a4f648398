package fence

import (
	"cmp"
	"maps"
	"math"
	"slices"

	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/geo/h3"
)

// area is a shape that is ready to be measured against: a circle, or a bag of
// edges whose inside is what an odd number of them lies around.
type area struct {
	center geo.Vec
	radius float64 // metres; of the smallest circle around center that holds it
	edges  []edge  // none: it is that circle
	frame  frame
}

// edge is an arc of a great circle, shorter than half of one.
type edge struct {
	a, b   geo.Vec
	n      geo.Vec // unit normal of its plane
	ta, tb geo.Vec // p lies beside the arc, not beyond its ends, if p·ta and p·tb are not negative
	ax, ay float64 // a and b on the plane that touches the Earth in the area's centre
	bx, by float64
}

// distance returns how far v is from the edge of the area, in metres: positive
// outside, negative inside.
func (a *area) distance(v geo.Vec) float64 {
	c2 := v.Chord2(a.center)
	if len(a.edges) == 0 {
		return geo.Chord2Distance(c2) - a.radius
	}
	least := 4.0
	for i := range a.edges {
		least = min(least, a.edges[i].chord2(v))
	}
	d := geo.Chord2Distance(least)
	if geo.Chord2Distance(c2) <= a.radius*(1+1e-9) && a.odd(v) {
		return -d
	}
	return d
}

// chord2 returns the squared chord from v to the nearest point of the arc.
func (e *edge) chord2(v geo.Vec) float64 {
	if dot(v, e.ta) >= 0 && dot(v, e.tb) >= 0 {
		s := dot(v, e.n)
		s2 := min(s*s, 1)
		return 2 * s2 / (1 + math.Sqrt(1-s2)) // 2 - 2cos, without cancellation
	}
	return min(v.Chord2(e.a), v.Chord2(e.b))
}

// odd casts a ray in the plane that touches the Earth in the area's centre, in
// which great circles are straight lines.
func (a *area) odd(v geo.Vec) bool {
	x, y := a.frame.project(v)
	odd := false
	for i := range a.edges {
		e := &a.edges[i]
		if (e.ay > y) != (e.by > y) && x < e.ax+(y-e.ay)/(e.by-e.ay)*(e.bx-e.ax) {
			odd = !odd
		}
	}
	return odd
}

// frame is the gnomonic projection around a point.
type frame struct{ up, east, north geo.Vec }

func newFrame(up geo.Vec) frame {
	axis := geo.Vec{Z: 1}
	if math.Abs(up.Z) > 0.9 {
		axis = geo.Vec{X: 1}
	}
	east := unit(cross(axis, up))
	return frame{up, east, cross(up, east)}
}

func (f frame) project(v geo.Vec) (x, y float64) {
	w := dot(v, f.up)
	return dot(v, f.east) / w, dot(v, f.north) / w
}

func compile(s Shape) (*area, error) {
	kinds := 0
	for _, set := range []bool{s.Circle != nil, s.Polygon != nil, s.Cells != nil} {
		if set {
			kinds++
		}
	}
	switch {
	case kinds != 1:
		return nil, invalid("a shape is one of circle, polygon and cells")
	case s.Circle != nil:
		return compileCircle(*s.Circle)
	case s.Polygon != nil:
		return compilePolygon(s.Polygon)
	default:
		return compileCells(s.Cells)
	}
}

func compileCircle(c Circle) (*area, error) {
	if !c.Center.Valid() {
		return nil, invalid("a circle's center needs lat within ±90 and lng within ±180")
	}
	if !(c.Radius >= MinRadius && c.Radius <= MaxRadius) {
		return nil, invalid("a circle's radius is from %d to %d m", MinRadius, MaxRadius)
	}
	return &area{center: c.Center.Vec(), radius: c.Radius}, nil
}

func compilePolygon(rings [][]geo.Point) (*area, error) {
	if len(rings) == 0 {
		return nil, invalid("a polygon needs a ring")
	}
	total := 0
	var loops [][]geo.Vec
	for _, ring := range rings {
		if total += len(ring); total > MaxVertices {
			return nil, invalid("a polygon has at most %d points", MaxVertices)
		}
		var loop []geo.Vec
		for _, p := range ring {
			if !p.Valid() {
				return nil, invalid("a polygon's points need lat within ±90 and lng within ±180")
			}
			// A centimetre is closer than anybody draws.
			if v := p.Vec(); len(loop) == 0 || geo.Chord2Distance(v.Chord2(loop[len(loop)-1])) > 0.01 {
				loop = append(loop, v)
			}
		}
		for len(loop) > 1 && geo.Chord2Distance(loop[0].Chord2(loop[len(loop)-1])) <= 0.01 {
			loop = loop[:len(loop)-1] // it was closed
		}
		if len(loop) < 3 {
			return nil, invalid("a ring of a polygon needs three different points")
		}
		loops = append(loops, loop)
	}
	a, err := around(slices.Concat(loops...))
	if err != nil {
		return nil, err
	}
	for _, loop := range loops {
		for i, v := range loop {
			a.add(v, loop[(i+1)%len(loop)])
		}
	}
	if err := a.simple(loops); err != nil {
		return nil, err
	}
	return a, nil
}

// around returns an area without edges whose circle holds the points.
func around(points []geo.Vec) (*area, error) {
	var sum geo.Vec
	for _, v := range points {
		sum.X, sum.Y, sum.Z = sum.X+v.X, sum.Y+v.Y, sum.Z+v.Z
	}
	if math.Sqrt(dot(sum, sum)) < 1e-3*float64(len(points)) {
		return nil, invalid("a shape reaches at most %d km from its middle", MaxRadius/1000)
	}
	a := &area{center: unit(sum)}
	for _, v := range points {
		a.radius = max(a.radius, geo.Chord2Distance(v.Chord2(a.center)))
	}
	if a.radius > MaxRadius {
		return nil, invalid("a shape reaches at most %d km from its middle, not %.0f km", MaxRadius/1000, a.radius/1000)
	}
	a.frame = newFrame(a.center)
	return a, nil
}

func (a *area) add(v, w geo.Vec) {
	n := unit(cross(v, w))
	e := edge{a: v, b: w, n: n, ta: cross(n, v), tb: cross(w, n)}
	e.ax, e.ay = a.frame.project(v)
	e.bx, e.by = a.frame.project(w)
	a.edges = append(a.edges, e)
}

// simple checks that no two edges meet but neighbours in their corner, and that
// holes are in the outline and not in each other.
func (a *area) simple(loops [][]geo.Vec) error {
	ring := make([]int, 0, len(a.edges))
	first := make([]int, len(loops))
	for r, loop := range loops {
		first[r] = len(ring)
		for range loop {
			ring = append(ring, r)
		}
	}
	for i := range a.edges {
		for j := range i {
			neighbours := false
			if ring[i] == ring[j] {
				n := len(loops[ring[i]])
				neighbours = i-j == 1 || i-j == n-1
			}
			e, f := &a.edges[i], &a.edges[j]
			switch {
			case neighbours && folded(e, f):
				return invalid("a ring of a polygon runs back on itself")
			case !neighbours && meet(e, f):
				return invalid("a polygon's edges must not cross or touch each other")
			}
		}
	}
	var size float64
	for r, loop := range loops {
		part := area{frame: a.frame, edges: a.edges[first[r] : first[r]+len(loop)]}
		if r == 0 {
			size = part.planeSize()
		}
		for s, other := range loops {
			inside := s != r && part.odd(other[0])
			if inside != (r == 0 && s != 0) {
				return invalid("a polygon's holes are in its first ring and not in each other")
			}
		}
	}
	if size*geo.Radius*geo.Radius < 1 {
		return invalid("a polygon covers at least a square metre")
	}
	return nil
}

// planeSize returns the size of the ring in the plane, in Earth radii squared.
func (a *area) planeSize() float64 {
	sum := 0.0
	for i := range a.edges {
		e := &a.edges[i]
		sum += e.ax*e.by - e.bx*e.ay
	}
	return math.Abs(sum) / 2
}

// turnOf says on which side of the line a→b the point c lies.
func turnOf(ax, ay, bx, by, cx, cy float64) int {
	return cmp.Compare((bx-ax)*(cy-ay), (by-ay)*(cx-ax))
}

// meet reports whether two edges have a point in common.
func meet(e, f *edge) bool {
	if max(e.ax, e.bx) < min(f.ax, f.bx) || max(f.ax, f.bx) < min(e.ax, e.bx) ||
		max(e.ay, e.by) < min(f.ay, f.by) || max(f.ay, f.by) < min(e.ay, e.by) {
		return false
	}
	return turnOf(e.ax, e.ay, e.bx, e.by, f.ax, f.ay)*turnOf(e.ax, e.ay, e.bx, e.by, f.bx, f.by) <= 0 &&
		turnOf(f.ax, f.ay, f.bx, f.by, e.ax, e.ay)*turnOf(f.ax, f.ay, f.bx, f.by, e.bx, e.by) <= 0
}

// folded reports whether two edges with a common corner lie on each other.
func folded(e, f *edge) bool {
	if e.a == f.b {
		e, f = f, e
	}
	if e.b != f.a { // a ring of three: both ends are neighbours
		return false
	}
	return turnOf(e.ax, e.ay, e.bx, e.by, f.bx, f.by) == 0 &&
		(e.bx-e.ax)*(f.bx-f.ax)+(e.by-e.ay)*(f.by-f.ay) < 0
}

const (
	maxFineCells = 10_000
	maxOutline   = 4_000
)

// compileCells returns the outline of a set of cells: the edges of its hexagons
// beyond which there is none of them.
func compileCells(cells []geo.Cell) (*area, error) {
	if len(cells) == 0 || len(cells) > MaxCells {
		return nil, invalid("a set of cells has from 1 to %d of them", MaxCells)
	}
	finest := 0
	for _, c := range cells {
		if !c.Valid() {
			return nil, invalid("%q is not an H3 cell", c.String())
		}
		finest = max(finest, c.Resolution())
	}
	set, err := atResolution(cells, finest)
	if err != nil {
		return nil, err
	}
	type arc struct{ v, w geo.Vec }
	var outline []arc
	var corners []geo.Vec
	for _, c := range slices.Sorted(maps.Keys(set)) {
		boundary, err := h3.Boundary(c)
		if err != nil {
			return nil, invalid("cell %s: %v", c, err)
		}
		center, err := h3.Center(c)
		if err != nil {
			return nil, invalid("cell %s: %v", c, err)
		}
		mid := center.Vec()
		for i, p := range boundary {
			v, w := p.Vec(), boundary[(i+1)%len(boundary)].Vec()
			// A point a little outside of the middle of the edge.
			beyond := pointOf(lerp(mid, unit(lerp(v, w, 0.5)), 1.01))
			next, err := h3.CellOf(beyond, finest)
			if err != nil {
				return nil, invalid("cell %s: %v", c, err)
			}
			if _, ok := set[next]; ok && next != c {
				continue
			}
			outline = append(outline, arc{v, w})
			corners = append(corners, v, w)
		}
	}
	if len(outline) > maxOutline {
		return nil, invalid("a set of cells has an outline of at most %d edges, not %d", maxOutline, len(outline))
	}
	if len(corners) == 0 {
		return nil, invalid("a set of cells must not be the whole Earth")
	}
	a, err := around(corners)
	if err != nil {
		return nil, err
	}
	for _, o := range outline {
		a.add(o.v, o.w)
	}
	return a, nil
}

// atResolution returns the descendants of the cells at a resolution.
func atResolution(cells []geo.Cell, res int) (map[geo.Cell]struct{}, error) {
	set := map[geo.Cell]struct{}{}
	var descend func(c geo.Cell) bool
	descend = func(c geo.Cell) bool {
		if c.Resolution() == res {
			set[c] = struct{}{}
			return len(set) <= maxFineCells
		}
		for digit := range 7 {
			if child := c.Child(digit); child != 0 && !descend(child) {
				return false
			}
		}
		return true
	}
	for _, c := range cells {
		if !descend(c) {
			return nil, invalid("cells of such different sizes are more than %d of the finest one", maxFineCells)
		}
	}
	return set, nil
}
