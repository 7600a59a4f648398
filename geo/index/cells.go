package index

import (
	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/geo/h3"
)

// These are for those who spread an index, and may not use geo/h3 themselves.

// ErrTooMany is returned when a cover has more cells than the caller allows.
var ErrTooMany = h3.ErrTooMany

// Box is what a map shows; see h3.Box.
type Box = h3.Box

// CellOf returns the cell of a resolution that a point is in: the ancestor of its
// cell of resolution 15, which is what InCells asks for and what covers hold.
func CellOf(p geo.Point, res int) (geo.Cell, error) {
	if res < 0 || res > geo.MaxResolution {
		return h3.CellOf(p, res) // an error
	}
	cell, err := h3.CellOf(p, geo.MaxResolution)
	return cell.Parent(res), err
}

// Center returns the centre of a cell.
func Center(cell geo.Cell) (geo.Point, error) { return h3.Center(cell) }

// Circle appends all cells of a resolution that may hold a point within radius
// metres of p to dst; see h3.Circle.
func Circle(dst []geo.Cell, p geo.Point, radius float64, res, limit int) ([]geo.Cell, error) {
	return h3.Circle(dst, p, radius, res, limit)
}

// Viewport appends all cells of a resolution that may hold a point of the box to
// dst; see h3.Viewport.
func Viewport(dst []geo.Cell, box Box, res, limit int) ([]geo.Cell, error) {
	return h3.Viewport(dst, box, res, limit)
}
