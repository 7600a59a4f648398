// Package h3 knows where the cells of H3 lie. It is the only package that needs
// cgo: it wraps Uber's C library (github.com/uber/h3-go/v4, which must be
// v4.5.0 or later; v4.1.0 hides errors). Coordinates outside of their ranges and
// cells that are none are errors here; the library wraps them round, or worse.
//
// Two things differ from a plain binding:
//
//   - CellOf is computed in Go where the result can't depend on rounding, about
//     six times as fast, and by the library where it could. See cellof.go.
//   - Covers are found by walking from neighbour to neighbour by gridDisk(1), as
//     distances to the centres tell, instead of by the library's ring and polygon
//     functions: gridRing and the functions named unsafe give wrong rings around
//     pentagons (uber/h3 #1241), polygonToCells has trouble with the antimeridian
//     (#1048), the poles (#1051) and shapes wider than half the Earth (#561). See
//     cover.go.
//
// A point is in the cell c, at c's resolution, if it is in a cell of resolution
// 15 that descends from c: this is how positions are made coarse, so that each
// coarse cell is a function of the finer one. H3 itself, asked for the cell of a
// resolution at once, tells another one for a few percent of points, near
// edges. Covers here hold the cells of both kinds.
package h3

import (
	"errors"
	"fmt"

	c "github.com/uber/h3-go/v4"

	"github.com/mustermesh/muster/geo"
)

// ErrInput is returned for arguments that make no sense.
var ErrInput = errors.New("h3: bad argument")

// Errors don't repeat coordinates and cells: they end up in logs.
var (
	errPoint = fmt.Errorf("%w: a coordinate is out of range", ErrInput)
	errCell  = fmt.Errorf("%w: not a cell", ErrInput)
)

func badInput(what string, v any) error { return fmt.Errorf("%w: %s %v", ErrInput, what, v) }

// Center returns the centre of a cell.
func Center(cell geo.Cell) (geo.Point, error) {
	if !cell.Valid() {
		return geo.Point{}, errCell
	}
	ll, err := c.CellToLatLng(c.Cell(cell))
	if err != nil {
		return geo.Point{}, fmt.Errorf("h3: centre: %w", err)
	}
	return point(ll), nil
}

// Boundary returns the corners of a cell, counterclockwise, not repeating the
// first: five or six, and more where an edge is broken by one of the
// icosahedron. Over the antimeridian longitudes jump from 180 to -180.
func Boundary(cell geo.Cell) ([]geo.Point, error) {
	if !cell.Valid() {
		return nil, errCell
	}
	corners, err := c.CellToBoundary(c.Cell(cell))
	if err != nil {
		return nil, fmt.Errorf("h3: boundary: %w", err)
	}
	points := make([]geo.Point, len(corners))
	for i, ll := range corners {
		points[i] = point(ll)
	}
	return points, nil
}

// maxDisk bounds the cells that one Disk returns, to about 30,000.
const maxDisk = 100

// Disk returns the cells that are at most k steps from cell, k being at most
// 100, in no particular order.
func Disk(cell geo.Cell, k int) ([]geo.Cell, error) {
	if !cell.Valid() {
		return nil, errCell
	}
	if k < 0 || k > maxDisk {
		return nil, badInput("k", k)
	}
	found, err := c.GridDisk(c.Cell(cell), k)
	if err != nil {
		return nil, fmt.Errorf("h3: disk of %d: %w", k, err)
	}
	cells := make([]geo.Cell, len(found))
	for i, f := range found {
		cells[i] = geo.Cell(f)
	}
	return cells, nil
}

// point brings what the library returns into range: longitudes of centres near
// the antimeridian come out as a hair more than 180.
func point(ll c.LatLng) geo.Point {
	p := geo.Point{Lat: min(max(ll.Lat, -90), 90), Lng: ll.Lng}
	if p.Lng > 180 {
		p.Lng -= 360
	} else if p.Lng < -180 {
		p.Lng += 360
	}
	return p
}
