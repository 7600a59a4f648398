package peers

import (
	"context"

	"github.com/mustermesh/muster/geo"
)

var tile38 = resp{
	name: "tile38",
	move: func(m Move) []any { return []any{"SET", key, m.Name, "POINT", m.To.Lat, m.To.Lng} },
	near: func(at geo.Point, radius float64, limit int) []any {
		return []any{"NEARBY", key, "LIMIT", limit, "IDS", "POINT", at.Lat, at.Lng, radius}
	},
	// A cursor, and the names.
	answers: func(got any) ([]any, bool) {
		parts, _ := got.([]any)
		if len(parts) != 2 {
			return nil, false
		}
		names, ok := parts[1].([]any)
		return names, ok
	},
}

// Tile38 connects to a Tile38 server. Of those near it asks for the names alone,
// which is the least that it can answer.
func Tile38(address string) PointsOpener {
	return func(ctx context.Context) (Points, error) { return tile38.open(ctx, address) }
}

// DropTile38 has a Tile38 server forget the points of benchmarks.
func DropTile38(ctx context.Context, address string) error {
	return tile38.drop(ctx, address, "DROP")
}
