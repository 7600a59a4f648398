package geo_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/geo"
)

// From H3's documentation; geo/h3 compares with the library.
const (
	sanFrancisco = geo.Cell(0x8928308280fffff)
	pentagon     = geo.Cell(0x8009fffffffffff)
)

func TestCell(t *testing.T) {
	c := sanFrancisco
	require.True(t, c.Valid())
	require.Equal(t, 9, c.Resolution())
	require.Equal(t, 20, c.BaseCell())
	require.False(t, c.IsPentagon())
	require.Equal(t, geo.Cell(0x872830828ffffff), c.Parent(7))
	require.Equal(t, geo.Cell(0x8029fffffffffff), c.Parent(0))
	require.Equal(t, c, c.Parent(9))
	require.Zero(t, c.Parent(10))
	require.Zero(t, c.Parent(-1))
	require.Equal(t, c, c.Parent(8).Child(c.Digit(9)))
	require.True(t, c.Parent(3).Contains(c))
	require.True(t, c.Contains(c))
	require.False(t, c.Contains(c.Parent(3)))
	require.False(t, c.Parent(8).Child(1).Contains(c.Parent(8).Child(2)))
	require.False(t, c.Contains(0))
	require.NotEqual(t, c.Hash(), c.Parent(8).Hash())

	require.True(t, pentagon.IsPentagon())
	require.True(t, pentagon.Child(0).IsPentagon())
	require.False(t, pentagon.Child(2).IsPentagon())
	require.Zero(t, pentagon.Child(1), "what a pentagon lacks")
	require.Zero(t, pentagon.Child(7))

	finest := c
	for finest.Resolution() < geo.MaxResolution {
		finest = finest.Child(6)
	}
	require.True(t, finest.Valid())
	require.Zero(t, finest.Child(0))
}

func TestCellIsNotValid(t *testing.T) {
	c := sanFrancisco
	for name, bad := range map[string]geo.Cell{
		"none":                   0,
		"mode":                   c ^ 1<<59,
		"reserved":               c | 1<<56,
		"the top bit":            c | 1<<63,
		"base cell":              c&^(127<<45) | 122<<45,
		"a digit too few":        c | 7<<18,
		"a digit too many":       c &^ 7,
		"a finer resolution":     c + 1<<52,
		"what a pentagon lacks":  pentagon&^(7<<42) | 1<<52 | 1<<42,
		"below what it lacks":    pentagon&^(7<<42|7<<39) | 2<<52 | 1<<42 | 3<<39,
		"below that, after zero": pentagon&^(7<<42|7<<39) | 2<<52 | 1<<39,
	} {
		require.False(t, bad.Valid(), name)
	}
}

func TestCellsAreText(t *testing.T) {
	b, err := json.Marshal(map[geo.Cell][]geo.Cell{sanFrancisco: {pentagon}})
	require.NoError(t, err)
	require.JSONEq(t, `{"8928308280fffff": ["8009fffffffffff"]}`, string(b))
	var back map[geo.Cell][]geo.Cell
	require.NoError(t, json.Unmarshal(b, &back))
	require.Equal(t, map[geo.Cell][]geo.Cell{sanFrancisco: {pentagon}}, back)

	_, err = json.Marshal(geo.Cell(1))
	require.ErrorIs(t, err, geo.ErrCell)
	for _, s := range []string{"", "0", "8928308280FFFFF", "08928308280fffff", "0x8928308280fffff", "8928308280ffffe", "+928308280fffff", "8928308280fffff0", "89_8308280fffff"} {
		_, err := geo.ParseCell(s)
		require.ErrorIs(t, err, geo.ErrCell, s)
	}
}

func FuzzParseCell(f *testing.F) {
	for _, s := range []string{"8928308280fffff", "8009fffffffffff", "8f283080dcb64e2", "0", "ffffffffffffffff", "", "-1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c, err := geo.ParseCell(s)
		if err != nil {
			require.Zero(t, c)
			return
		}
		require.True(t, c.Valid())
		require.Equal(t, s, c.String())
		for res := range c.Resolution() {
			p := c.Parent(res)
			require.True(t, p.Valid(), "%v of %v", p, c)
			require.True(t, p.Contains(c))
			require.True(t, p.Child(c.Digit(res+1)).Contains(c))
		}
	})
}

func TestSizesByResolution(t *testing.T) {
	for res := range geo.MaxResolution {
		require.Greater(t, geo.MaxRadius(res), geo.EdgeLength(res))
		require.Less(t, geo.MaxRadius(res), 1.3*geo.EdgeLength(res)+0.02)
		require.Greater(t, geo.MaxRadius(res), 2*geo.MaxRadius(res+1))
	}
	require.InDelta(t, 609, geo.MaxRadius(8), 1)
}
