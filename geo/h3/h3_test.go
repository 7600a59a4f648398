package h3

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
	c "github.com/uber/h3-go/v4"

	"github.com/mustermesh/muster/geo"
)

// What geo.Cell reads from the bits is what the library says.
func TestCellsAreTheLibrarys(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 2))
	nasty := nastyPoints(t)
	check := func(cell geo.Cell) {
		lib := c.Cell(cell)
		require.Equal(t, lib.IsValid(), cell.Valid(), "%x", uint64(cell))
		if !cell.Valid() {
			return
		}
		require.Equal(t, lib.Resolution(), cell.Resolution())
		require.Equal(t, lib.BaseCellNumber(), cell.BaseCell())
		require.Equal(t, lib.IsPentagon(), cell.IsPentagon(), "%v", cell)
		require.Equal(t, lib.String(), cell.String())
		back, err := geo.ParseCell(lib.String())
		require.NoError(t, err)
		require.Equal(t, cell, back)
		for res := range cell.Resolution() + 1 {
			parent, err := lib.Parent(res)
			require.NoError(t, err)
			require.Equal(t, geo.Cell(parent), cell.Parent(res))
			require.True(t, cell.Parent(res).Contains(cell))
		}
		if cell.Resolution() < geo.MaxResolution {
			children, err := lib.Children(cell.Resolution() + 1)
			require.NoError(t, err)
			var want, got []geo.Cell
			for _, child := range children {
				want = append(want, geo.Cell(child))
			}
			for d := range 7 {
				if child := cell.Child(d); child != 0 {
					got = append(got, child)
				}
			}
			require.Equal(t, want, got, "children of %v", cell)
		}
	}
	for range queries(t) / 20 {
		for _, p := range []geo.Point{anywhere(r), near(r, nasty[r.IntN(len(nasty))])} {
			cell, err := CellOf(p, r.IntN(16))
			require.NoError(t, err)
			check(cell)
			check(cell ^ 1<<r.IntN(64)) // mostly not valid
		}
		check(geo.Cell(r.Uint64()))
	}
	for base := range 122 { // all pentagons, and what lacks in them
		for cell := geo.Cell(1<<59 | uint64(base)<<45 | (1<<45 - 1)); cell.Resolution() < 15; cell = cell.Child(0) {
			check(cell)
			check(cell.Child(0)&^7 | 1)
		}
	}
}

// No point is further from its cells' centres than MaxRadius says, and some are
// nearly as far.
func TestMaxRadius(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 3))
	nasty := nastyPoints(t)
	var furthest [16]float64
	for range queries(t) {
		for _, p := range []geo.Point{anywhere(r), near(r, nasty[r.IntN(len(nasty))])} {
			cell, err := CellOf(p, 15)
			require.NoError(t, err)
			res := r.IntN(16)
			direct, err := CellOf(p, res)
			require.NoError(t, err)
			for _, in := range []geo.Cell{direct, cell.Parent(res)} {
				center, err := Center(in)
				require.NoError(t, err)
				d := geo.Distance(p, center)
				require.LessOrEqual(t, d, geo.MaxRadius(res), "%v in %v", p, in)
				furthest[res] = max(furthest[res], d/geo.MaxRadius(res))
			}
		}
	}
	for res, f := range furthest {
		require.Greater(t, f, 0.85, "resolution %d", res)
	}
	t.Logf("furthest: %.3f of MaxRadius", furthest)
}

func TestBadArguments(t *testing.T) {
	nan := math.NaN()
	for _, p := range []geo.Point{{Lat: 91}, {Lng: 181}, {Lat: nan}, {Lng: nan}, {Lng: math.Inf(1)}} {
		_, err := CellOf(p, 5)
		require.ErrorIs(t, err, ErrInput)
		_, err = Circle(nil, p, 1, 5, 10)
		require.ErrorIs(t, err, ErrInput)
	}
	for _, res := range []int{-1, 16, math.MaxInt} {
		_, err := CellOf(geo.Point{}, res)
		require.ErrorIs(t, err, ErrInput)
		_, err = Circle(nil, geo.Point{}, 1, res, 10)
		require.ErrorIs(t, err, ErrInput)
		_, err = Viewport(nil, Box{North: 1, East: 1}, res, 10)
		require.ErrorIs(t, err, ErrInput)
	}
	for _, cell := range []geo.Cell{0, 1, math.MaxUint64, 0x8009fffffffffff | 1<<63} {
		_, err := Center(cell)
		require.ErrorIs(t, err, ErrInput)
		_, err = Boundary(cell)
		require.ErrorIs(t, err, ErrInput)
		_, err = Disk(cell, 1)
		require.ErrorIs(t, err, ErrInput)
	}
	for _, k := range []int{-1, 101, math.MaxInt} {
		_, err := Disk(0x8009fffffffffff, k)
		require.ErrorIs(t, err, ErrInput)
	}
	for _, radius := range []float64{-1, nan} {
		_, err := Circle(nil, geo.Point{}, radius, 5, 10)
		require.ErrorIs(t, err, ErrInput)
	}
	for _, box := range []Box{{South: 1}, {North: 91}, {West: nan}, {East: 181}} {
		_, err := Viewport(nil, box, 5, 10)
		require.ErrorIs(t, err, ErrInput)
	}
}

func TestDiskAroundPentagons(t *testing.T) {
	for base := range 122 {
		cell := geo.Cell(1<<59 | uint64(base)<<45 | (1<<45 - 1))
		if !cell.IsPentagon() {
			continue
		}
		for res := range 9 {
			for k, want := range []int{1, 6, 16} {
				cells, err := Disk(cell, k)
				require.NoError(t, err)
				require.Len(t, cells, want, "resolution %d", res)
			}
			cell = cell.Child(0)
		}
	}
}
