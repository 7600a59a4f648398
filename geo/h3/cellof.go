package h3

import (
	"fmt"
	"math"

	c "github.com/uber/h3-go/v4"

	"github.com/mustermesh/muster/geo"
)

// CellOf returns the cell of a resolution from 0 to 15 that H3 puts a point in.
func CellOf(p geo.Point, res int) (geo.Cell, error) {
	if !p.Valid() {
		return 0, badInput("point", p)
	}
	return CellOfVec(p.Vec(), p, res)
}

// CellOfVec is CellOf where the point's vector is at hand. The point must be
// valid, and v its vector.
//
// The library's way to the cell is: which face of the icosahedron is nearest;
// polar coordinates around the face's centre; those as a point of the plane that
// touches the Earth there; the hexagon of the finest grid that the point is in;
// from it up to the base cell, a digit per resolution; digits turned to the base
// cell's axes. All but the hexagon is exact arithmetic on integers, done the same
// here; the point of the plane is found by three dot products instead of seven
// trigonometric functions, and may differ in its last bits. So where the point
// is so near to an edge of hexagons or faces that this could matter, which is
// one in ten thousand at resolution 15 and fewer at others, or so near to a
// face's centre that the library itself is imprecise, the library is asked.
func CellOfVec(v geo.Vec, p geo.Point, res int) (geo.Cell, error) {
	if res < 0 || res > geo.MaxResolution {
		return 0, badInput("resolution", res)
	}
	if cell := quickCellOf(v, res); cell != 0 {
		return cell, nil
	}
	return libraryCellOf(p, res)
}

func libraryCellOf(p geo.Point, res int) (geo.Cell, error) {
	cell, err := c.LatLngToCell(c.LatLng{Lat: p.Lat, Lng: p.Lng}, res)
	if err != nil {
		return 0, fmt.Errorf("h3: cell: %w", err)
	}
	return geo.Cell(cell), nil
}

const (
	// edgeMargin is how near to an edge, in units of twice the distance from a
	// hexagon's centre to it, the library is asked. What both can differ by is
	// 1e-16 in angles near 1, and more near centres of faces, where the library
	// takes an arc cosine near 1: 1e-16/r at r radians. A hexagon of resolution
	// 15 is 1.6e-7 radians wide, so this is 1e-6 of it at centreMargin.
	edgeMargin = 2e-5
	// centreMargin is how near to a face's centre the library is asked, as the
	// tangent of the angle: 6 km.
	centreMargin = 1e-3
	// faceMargin is the least difference of the cosines of the angles to the
	// centres of the nearest two faces.
	faceMargin = 1e-12
)

// axes of a face's grids, for even and odd resolutions: those are turned.
type axes struct{ x, y geo.Vec }

var faceAxes = func() (all [faces][2]axes) {
	for f, center := range faceCenter {
		// North and east on the plane that touches the Earth in the face's centre.
		s := math.Sqrt(1 - center.Z*center.Z)
		north := geo.Vec{X: -center.Z * center.X / s, Y: -center.Z * center.Y / s, Z: s}
		east := geo.Vec{X: -center.Y / s, Y: center.X / s}
		towards := func(azimuth float64) geo.Vec {
			sin, cos := math.Sincos(azimuth)
			return geo.Vec{X: cos*north.X + sin*east.X, Y: cos*north.Y + sin*east.Y, Z: cos*north.Z + sin*east.Z}
		}
		turn := math.Asin(math.Sqrt(3. / 28))
		for odd := range 2 {
			x := faceAzimuth[f] - float64(odd)*turn
			all[f][odd] = axes{towards(x), towards(x - math.Pi/2)}
		}
	}
	return all
}()

// gridScale are the units of the grids, the distance between neighbouring
// centres on the plane, as their inverses.
var gridScale = func() (scale [geo.MaxResolution + 1]float64) {
	for res := range scale {
		scale[res] = 2.61803398874989588842 * math.Pow(7, float64(res)/2)
	}
	return scale
}()

func dot(a, b *geo.Vec) float64 { return a.X*b.X + a.Y*b.Y + a.Z*b.Z }

// quickCellOf returns the cell, or 0 where the library must be asked.
func quickCellOf(v geo.Vec, res int) geo.Cell {
	face, best, second := 0, -2.0, -2.0
	for f := range faceCenter {
		if d := dot(&faceCenter[f], &v); d > best {
			face, best, second = f, d, best
		} else if d > second {
			second = d
		}
	}
	if best-second < faceMargin {
		return 0
	}
	a := &faceAxes[face][res&1]
	x, y := dot(&a.x, &v)/best, dot(&a.y, &v)/best
	if x*x+y*y < centreMargin*centreMargin {
		return 0
	}
	i, j, ok := hexagon(x*gridScale[res], y*gridScale[res])
	if !ok {
		return 0
	}

	// From the finest grid to the coarsest: which of its parent's children a
	// hexagon is, is told by a sum modulo 7; taking its vector away leaves
	// multiples of 7 that lead to the parent. The grids turn left and right
	// alternately.
	const (
		inverse7 = -0x49249249 // times 7 is 1, modulo 2^32
		positive = 7 << 25     // more than the sums are ever below 0
	)
	var digits [geo.MaxResolution + 1]uint8
	for r := res; r > 0; r-- {
		if r&1 == 1 {
			d := turnsLeft[uint32(i+2*j+positive)%7]
			digits[r] = d.digit
			i, j = i-d.i, j-d.j
			i, j = (3*i-j)*inverse7, (i+2*j)*inverse7
		} else {
			d := turnsRight[uint32(i+4*j+positive)%7]
			digits[r] = d.digit
			i, j = i-d.i, j-d.j
			i, j = (2*i+j)*inverse7, (3*j-i)*inverse7
		}
	}
	k := -min(i, j, 0)
	if i += k; i > 2 {
		return 0
	}
	if j += k; j > 2 || k > 2 {
		return 0
	}
	base := baseCellAt[face][9*i+3*j+k]
	leading := uint8(0)
	for r := 1; r <= res && leading == 0; r++ {
		leading = digits[r]
	}
	cell := geo.Cell(1)<<59 | geo.Cell(base.cell)<<45 | (1<<45 - 1)
	turn := &turned[base.turns]
	if cell.IsPentagon() && leading != 0 {
		turn = &turned[pentagonTurns(base.cell, base.turns, face, leading)]
	}
	cell |= geo.Cell(res) << 52
	for r := 1; r <= res; r++ {
		cell ^= geo.Cell(7^turn[digits[r]]) << uint(3*(geo.MaxResolution-r))
	}
	return cell
}

// hexagon returns the hexagon that a point of the plane is in. Its centre is
// i·(1, 0) + j·(-1/2, √3/2). It reports false for points near edges.
func hexagon(x, y float64) (i, j int32, ok bool) {
	b := y * (2 / math.Sqrt(3.))
	a := x + b/2
	// Three coordinates that add up to 0, each rounded; the one that was rounded
	// furthest follows from the others.
	ra, rb, rc := math.RoundToEven(a), math.RoundToEven(b), math.RoundToEven(b-a)
	da, db, dc := a-ra, b-rb, b-a-rc
	if rc != rb-ra {
		switch ea, eb, ec := math.Abs(da), math.Abs(db), math.Abs(dc); {
		case ea >= eb && ea >= ec:
			ra = rb - rc
		case eb >= ec:
			rb = ra + rc
		}
		da, db = a-ra, b-rb
	}
	const most = 1 - edgeMargin
	return int32(ra), int32(rb), math.Abs(2*da-db) < most && math.Abs(2*db-da) < most && math.Abs(da+db) < most
}

type child struct {
	i, j  int32
	digit uint8
}

// The children of a hexagon by their sum, i + 2j or i + 4j, modulo 7.
var (
	turnsLeft  = [7]child{{0, 0, 0}, {1, 0, 4}, {0, 1, 2}, {1, 1, 6}, {-1, -1, 1}, {0, -1, 5}, {-1, 0, 3}}
	turnsRight = [7]child{{0, 0, 0}, {1, 0, 4}, {-1, -1, 1}, {0, -1, 5}, {0, 1, 2}, {1, 1, 6}, {-1, 0, 3}}
)

// turned are the digits after so many turns by 60° counterclockwise.
var turned = func() (all [6][7]uint8) {
	all[0] = [7]uint8{0, 1, 2, 3, 4, 5, 6}
	for n := 1; n < 6; n++ {
		for d, before := range all[n-1] {
			all[n][d] = [7]uint8{0, 5, 3, 1, 6, 4, 2}[before]
		}
	}
	return all
}()

// pentagonTurns returns how often the digits of a cell in a pentagon must be
// turned, from those of the face to those of its base cell. The first digit that
// is not 0 can't be 1, since that part of the plane is missing: it is skipped by
// another turn.
func pentagonTurns(base, n uint8, face int, leading uint8) uint8 {
	total := uint8(0)
	if leading == 1 {
		total = 1
		if of, ok := clockwiseFaces[base]; ok && (of[0] == face || of[1] == face) {
			total = 5
		}
	}
	for range n {
		if total++; turned[total%6][leading] == 1 {
			total++
		}
	}
	return total % 6
}
