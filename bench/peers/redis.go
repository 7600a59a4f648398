package peers

import (
	"context"

	"github.com/mustermesh/muster/geo"
)

var redisGeo = resp{
	name: "redis",
	move: func(m Move) []any { return []any{"GEOADD", key, m.To.Lng, m.To.Lat, m.Name} },
	near: func(at geo.Point, radius float64, limit int) []any {
		return []any{"GEOSEARCH", key, "FROMLONLAT", at.Lng, at.Lat, "BYRADIUS", radius, "m", "ASC", "COUNT", limit}
	},
	answers: func(got any) ([]any, bool) {
		names, ok := got.([]any)
		return names, ok
	},
}

// Redis connects to a Redis server. Of those near it asks for the names alone,
// which is the least that it can answer.
func Redis(address string) PointsOpener {
	return func(ctx context.Context) (Points, error) { return redisGeo.open(ctx, address) }
}

// DropRedis has a Redis server forget the points of benchmarks.
func DropRedis(ctx context.Context, address string) error {
	return redisGeo.drop(ctx, address, "DEL")
}
