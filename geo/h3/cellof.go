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
		return 0, errPoint
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
	// Faces lie opposite to each other: half of them tell.
	face, best, second := 0, 0.0, 0.0
	for n := range facePairs {
		if d := math.Abs(dot(&facePairs[n].center, &v)); d > best {
			face, best, second = n, d, best
		} else if d > second {
			second = d
		}
	}
	if best-second < faceMargin {
		return 0
	}
	pair := &facePairs[face]
	if face = pair.face; dot(&pair.center, &v) < 0 {
		face = pair.opposite
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

	// From the finest grid to the coarsest, each turned against the one before,
	// the odd ones to the left and the even ones back. Which of its parent's
	// children a hexagon is, is told by a sum modulo 7; taking its vector away
	// leaves multiples of 7 that lead to the parent. Two resolutions up, the grid
	// is the same, 7 times as large: i and j modulo 7 tell two digits at once.
	const (
		inverse7 = -0x49249249 // times 7 is 1, modulo 2^32
		positive = 7 << 25     // more than what is below 0 is below
	)
	var pairs [geo.MaxResolution / 2]uint8 // digits of resolutions 2n+1 and 2n+2
	var last uint8
	r := res
	if r&1 == 1 {
		d := turnsLeft[uint32(i+2*j+positive)%7]
		last = d.digit
		i, j = i-d.i, j-d.j
		i, j = (3*i-j)*inverse7, (i+2*j)*inverse7
		r--
	}
	for r >>= 1; r > 0; r-- {
		d := &twoUp[uint32(i+positive)%7][uint32(j+positive)%7]
		pairs[r-1] = d.digits
		i, j = (i-d.i)*inverse7, (j-d.j)*inverse7
	}
	k := -min(i, j, 0)
	if i += k; i > 2 {
		return 0
	}
	if j += k; j > 2 || k > 2 {
		return 0
	}
	base := baseCellAt[face][9*i+3*j+k]
	cell := geo.Cell(1)<<59 | geo.Cell(base.cell)<<45 | (1<<45 - 1)
	turn := base.turns
	if cell.IsPentagon() {
		leading := last
		for n := res/2 - 1; n >= 0; n-- {
			if high := pairs[n] >> 3; high != 0 {
				leading = high
			} else if pairs[n] != 0 {
				leading = pairs[n]
			}
		}
		turn = pentagonTurns(base.cell, turn, face, leading)
	}
	cell |= geo.Cell(res) << 52
	digits := &turnedPair[turn]
	for n := range res / 2 {
		cell ^= geo.Cell(63^digits[pairs[n]&63]) << uint(3*(geo.MaxResolution-2)-6*n)
	}
	if res&1 == 1 {
		cell ^= geo.Cell(7^digits[last]) << uint(3*(geo.MaxResolution-res))
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

// turnsLeft are the children of a hexagon of even resolution by i + 2j, and
// turnsRight of odd resolution by i + 4j, modulo 7.
var (
	turnsLeft  = [7]child{{0, 0, 0}, {1, 0, 4}, {0, 1, 2}, {1, 1, 6}, {-1, -1, 1}, {0, -1, 5}, {-1, 0, 3}}
	turnsRight = [7]child{{0, 0, 0}, {1, 0, 4}, {-1, -1, 1}, {0, -1, 5}, {0, 1, 2}, {1, 1, 6}, {-1, 0, 3}}
)

// twoUp are the grandchildren of a hexagon of even resolution by i and j modulo
// 7: where they are from its centre, and their last two digits.
var twoUp = func() (all [7][7]struct {
	i, j   int32
	digits uint8
}) {
	for _, a := range turnsLeft {
		for _, b := range turnsRight {
			// The centre of the child a is at (3i-j, i+2j) in the finer grid.
			i, j := 3*a.i-a.j+b.i, a.i+2*a.j+b.j
			at := &all[(i+7)%7][(j+7)%7]
			at.i, at.j, at.digits = i, j, a.digit<<3|b.digit
		}
	}
	return all
}()

// turned are the digits after so many turns by 60° counterclockwise, and
// turnedPair are two of them.
var turned, turnedPair = func() (one [6][7]uint8, two [6][64]uint8) {
	one[0] = [7]uint8{0, 1, 2, 3, 4, 5, 6}
	for n := range one {
		if n > 0 {
			for d, before := range one[n-1] {
				one[n][d] = [7]uint8{0, 5, 3, 1, 6, 4, 2}[before]
			}
		}
		for a, high := range one[n] {
			for b, low := range one[n] {
				two[n][a<<3|b] = high<<3 | low
			}
		}
	}
	return one, two
}()

// facePairs are the faces with those opposite to them.
var facePairs = func() (pairs [faces / 2]struct {
	center         geo.Vec
	face, opposite int
}) {
	n := 0
	for f := range faceCenter {
		for o := f + 1; o < faces; o++ {
			if dot(&faceCenter[f], &faceCenter[o]) < -0.999 {
				pairs[n].center, pairs[n].face, pairs[n].opposite = faceCenter[f], f, o
				n++
			}
		}
	}
	return pairs
}()

// pentagonTurns returns how often the digits of a cell in a pentagon must be
// turned, from those of the face to those of its base cell. The first digit that
// is not 0 can't be 1, since that part of the plane is missing: it is skipped by
// another turn.
func pentagonTurns(base, n uint8, face int, leading uint8) uint8 {
	if leading == 0 {
		return n
	}
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
