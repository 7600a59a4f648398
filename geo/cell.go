package geo

import (
	"errors"
	"math"
	"strconv"
)

// Cell is an index of H3, the hexagonal grid of the Earth (https://h3geo.org):
// 16 resolutions, the cells of each about seven times smaller than those of the
// one before. Its bits, from the top: one 0, mode (4, is 1), reserved (3, are
// 0), resolution (4), base cell (7), and 15 digits of 3 bits, one for each
// resolution from 1, those finer than the cell's own being 7
// (https://h3geo.org/docs/library/index/cell).
//
// Everything here is arithmetic on those bits; where a cell lies is known to
// package geo/h3 only. The zero Cell is no cell.
type Cell uint64

// MaxResolution is the finest resolution, with cells of half a metre.
const MaxResolution = 15

const (
	baseCells = 122
	unused    = 7 // the digit of a resolution that the cell doesn't reach

	modeCell  = 1
	modeShift = 59
	resShift  = 52
	baseShift = 45

	resMask    = Cell(15) << resShift
	digitsMask = Cell(1)<<baseShift - 1
)

// pentagons are the twelve base cells whose centre is a corner of the
// icosahedron, one bit each. One of their seven children is missing.
var pentagons = func() (set [2]uint64) {
	for _, b := range [...]int{4, 14, 24, 38, 49, 58, 63, 72, 83, 97, 107, 117} {
		set[b>>6] |= 1 << (b & 63)
	}
	return set
}()

// ErrCell is returned for text that names no cell.
var ErrCell = errors.New("geo: not an H3 cell")

// Resolution returns the resolution, 0 (coarsest) to 15.
func (c Cell) Resolution() int { return int(c >> resShift & 15) }

// BaseCell returns the number of the cell of resolution 0 that c is in.
func (c Cell) BaseCell() int { return int(c >> baseShift & 127) }

// Digit returns which of its parent's children c, or its ancestor, is at the
// resolution, which is from 1 to 15: 0 the centre, 1 to 6 those around it, 7 for
// resolutions that c does not reach.
func (c Cell) Digit(res int) int { return int(c >> digitShift(res) & 7) }

func digitShift(res int) uint { return uint(3*(MaxResolution-res)) & 63 }

// Valid reports whether there is such a cell.
func (c Cell) Valid() bool {
	res, base := c.Resolution(), c.BaseCell()
	if c>>(resShift+4) != modeCell<<(modeShift-resShift-4) || base >= baseCells {
		return false
	}
	pent, leading := pentagonBase(base), true
	for r := 1; r <= MaxResolution; r++ {
		switch d := c.Digit(r); {
		case (d == unused) != (r > res):
			return false
		case d != 0 && leading:
			if pent && d == 1 {
				return false // the missing child
			}
			leading = false
		}
	}
	return true
}

// IsPentagon reports whether c is one of the twelve pentagons of its resolution.
func (c Cell) IsPentagon() bool {
	return pentagonBase(c.BaseCell()) && c&digitsMask>>digitShift(c.Resolution()) == 0
}

func pentagonBase(base int) bool { return pentagons[base>>6]>>(base&63)&1 != 0 }

// Parent returns the ancestor of c at a resolution, c itself at its own, and no
// cell (0) where there is none: at finer or negative resolutions.
func (c Cell) Parent(res int) Cell {
	if res < 0 || res > c.Resolution() {
		return 0
	}
	return c&^resMask | Cell(res)<<resShift | (Cell(1)<<digitShift(res) - 1)
}

// Child returns the child of c by its digit, 0 to 6, and no cell where there is
// none: of a cell of resolution 15, and the first one of a pentagon.
func (c Cell) Child(digit int) Cell {
	res := c.Resolution() + 1
	if res > MaxResolution || digit < 0 || digit >= unused || digit == 1 && c.IsPentagon() {
		return 0
	}
	return c&^resMask&^(7<<digitShift(res)) | Cell(res)<<resShift | Cell(digit)<<digitShift(res)
}

// Contains reports whether d is c or one of its descendants. This is the grid's
// own hierarchy: a small part of a descendant may lie outside of the hexagon c.
func (c Cell) Contains(d Cell) bool { return d != 0 && d.Parent(c.Resolution()) == c }

// Hash returns c with its bits mixed: cells near each other differ in few bits,
// most of which are the same for all cells of a resolution.
func (c Cell) Hash() uint64 { // the finalizer of splitmix64
	x := uint64(c)
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// String returns the cell as H3 writes it, 15 hexadecimal digits.
func (c Cell) String() string { return strconv.FormatUint(uint64(c), 16) }

// ParseCell reads what String returns. Of the ways to write a number only that
// one is taken, so that two texts are two cells.
func ParseCell(s string) (Cell, error) {
	n, err := strconv.ParseUint(s, 16, 64)
	if c := Cell(n); err == nil && c.Valid() && c.String() == s {
		return c, nil
	}
	return 0, ErrCell // without s: a cell is a position, and errors end up in logs
}

// MarshalText makes a cell a string in JSON: its number doesn't fit a float64.
func (c Cell) MarshalText() ([]byte, error) {
	if !c.Valid() {
		return nil, ErrCell
	}
	return strconv.AppendUint(nil, uint64(c), 16), nil
}

func (c *Cell) UnmarshalText(text []byte) (err error) {
	*c, err = ParseCell(string(text))
	return err
}

// MaxRadius returns how many metres from a cell's centre a point may be that is
// in the cell or in any of its descendants, at most, for cells of a resolution
// from 0 to 15.
//
// H3 draws its hexagons on the planes that touch the Earth at the centres of the
// icosahedron's faces. There, the corners of those of resolution r are
// 0.38196601125/√3/√7^r Earth radii from their centre. The corners of
// descendants reach beyond, since hexagons don't nest: a sum over all finer
// resolutions, 1.04083 times that. The plane is nowhere smaller than the sphere
// under it, and a path that is folded over an edge of the icosahedron gets no
// longer, so this bounds all cells, pentagons included. The centimetre is for
// rounding in the library, which is coarse near the centres of faces.
func MaxRadius(res int) float64 { return maxRadius[res] }

var maxRadius = func() (radius [MaxResolution + 1]float64) {
	for res := range radius {
		radius[res] = Radius*0.38196601125010500003/math.Sqrt(3)/math.Pow(7, float64(res)/2)*1.04084 + 0.01
	}
	return radius
}()

// EdgeLength returns the length of the edges of the hexagons of a resolution
// from 0 to 15, in metres and on average
// (https://h3geo.org/docs/core-library/restable).
func EdgeLength(res int) float64 { return edgeLength[res] }

var edgeLength = [MaxResolution + 1]float64{
	1_281_256.011, 483_056.8391, 182_512.9565, 68_979.22179, 26_071.75968, 9_854.090990, 3_724.532667, 1_406.475763,
	531.414010, 200.786148, 75.863783, 28.663897, 10.830188, 4.092010, 1.546100, 0.584169,
}
