package h3

import (
	"fmt"

	c "github.com/uber/h3-go/v4"

	"github.com/mustermesh/muster/geo"
)

// CellOf returns the cell of a resolution from 0 to 15 that H3 puts a point in.
func CellOf(p geo.Point, res int) (geo.Cell, error) {
	if !p.Valid() {
		return 0, badInput("point", p)
	}
	if res < 0 || res > geo.MaxResolution {
		return 0, badInput("resolution", res)
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
