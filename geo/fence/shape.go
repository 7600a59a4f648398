package fence

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/mustermesh/muster/geo"
)

// Limits of shapes.
const (
	MinRadius   = 1         // metres, of a circle or a pair
	MaxRadius   = 5_000_000 // metres, of a shape's smallest circle around its middle
	MaxVertices = 1000      // of a polygon, holes included
	MaxCells    = 1000      // as given
)

// Shape is a circle, a polygon or a set of cells: exactly one of them is set.
// Its JSON is that of the HTTP API:
//
//	{"circle": {"center": {"lat": 45.3, "lng": 14.0}, "radius": 200}}
//	{"polygon": [[{"lat": …, "lng": …}, …], …]}
//	{"cells": ["8a1fb46622dffff", …]}
//
// The edges of a polygon are great circles. Its first ring is its outline, the
// others are holes; which way round they go, and whether their first point is
// repeated at the end, is the same. It may lie over the antimeridian or a pole:
// inside is what is not more than a hemisphere.
//
// Cells are the hexagons of H3 as maps draw them. If they are of several
// resolutions, each stands for its descendants of the finest one.
type Shape struct {
	Circle  *Circle       `json:"circle,omitempty"`
	Polygon [][]geo.Point `json:"polygon,omitempty"`
	Cells   []geo.Cell    `json:"cells,omitempty"`
}

// Circle is the points within a radius in metres.
type Circle struct {
	Center geo.Point `json:"center"`
	Radius float64   `json:"radius"`
}

// ParseShape reads and validates a shape's JSON. Unknown keys are errors.
func ParseShape(data []byte) (Shape, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	var s Shape
	if err := d.Decode(&s); err != nil {
		return Shape{}, fmt.Errorf("%w: shape: %w", ErrInvalid, err)
	}
	if d.More() {
		return Shape{}, invalid("shape: something follows it")
	}
	return s, s.Validate()
}

// Validate says what is wrong with a shape.
func (s Shape) Validate() error {
	_, err := compile(s)
	return err
}
