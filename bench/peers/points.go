package peers

import (
	"context"

	"github.com/mustermesh/muster/geo"
)

// Move puts one moving point into a server's index, or moves it.
type Move struct {
	Name string
	To   geo.Point
}

// Points is one connection to a server's index of moving points. It is for one
// goroutine: each call is a request, and waits for its answer.
type Points interface {
	// Move moves points in one request: one frame, or one pipeline. What the server
	// refuses is an error.
	Move(ctx context.Context, moves []Move) error
	// Near returns the names of the nearest points within radius metres, at most
	// limit, the nearest first.
	Near(ctx context.Context, at geo.Point, radius float64, limit int) ([]string, error)
	Close()
}

// PointsOpener connects. Connections of one server share its points.
type PointsOpener func(ctx context.Context) (Points, error)
