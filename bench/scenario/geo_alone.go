package scenario

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"time"

	"github.com/mustermesh/muster/bench/loadgen"
	"github.com/mustermesh/muster/bench/report"
	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/geo/index"
)

// GeoAlone measures the index of points in this process, with one goroutine and
// without a network. The map around it has benchmarks of its own (edge/nearby).
type GeoAlone struct {
	Points   int
	Duration time.Duration // of each measurement
	Progress func(format string, args ...any)
}

// Run measures.
func (g GeoAlone) Run(ctx context.Context) (report.GeoAlone, error) {
	r, err := g.measureAll(ctx, newGeoWorld(g.Points))
	if err != nil {
		return r, fmt.Errorf("bench: geo/index: %w", err)
	}
	g.Progress("geo/index, %d points: %.0f moves and %.0f questions a CPU second, %.0f bytes a point", r.Points, r.Moves, r.Near, r.Bytes)
	return r, nil
}

func (g GeoAlone) measureAll(ctx context.Context, world *geoWorld) (r report.GeoAlone, err error) {
	r.Part, r.Points = "geo/index", g.Points
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	points, now := index.New(), int64(0)
	put := func(id int, to geo.Point) error {
		now++
		_, err := points.Upsert(uint64(id), to, now, 0)
		return err
	}
	for i, home := range world.home {
		if err := put(i, home); err != nil {
			return r, err
		}
	}
	r.Bytes = float64(heap()-before) / float64(g.Points)

	// Moves and questions are ready beforehand, and lie one after the other: what is
	// measured is not the benchmark's own memory.
	type move struct {
		id int
		to geo.Point
	}
	moves := make([]move, 0, 2*g.Points)
	for _, to := range [][]geo.Point{world.away, world.home} {
		for _, id := range world.order {
			moves = append(moves, move{id, to[id]})
		}
	}
	r.Moves, err = g.measure(ctx, func(i int) error {
		m := &moves[i%len(moves)]
		return put(m.id, m.to)
	})
	if err != nil {
		return r, err
	}
	random := rand.New(rand.NewPCG(3, 3))
	centers := make([]geo.Point, 1<<16)
	for i := range centers {
		centers[i] = geoAnywhere(random)
	}
	found := 0
	var hits []index.Hit
	r.Near, err = g.measure(ctx, func(i int) error {
		hits = points.Nearest(hits[:0], centers[i%len(centers)], geoLimit, geoRadius, index.Options{})
		found += len(hits)
		return nil
	})
	if err == nil && found == 0 {
		err = errors.New("nobody was found")
	}
	return r, err
}

// measure returns how often something can be done in a second of this process's
// CPU time, what the collector of garbage needs included.
func (g GeoAlone) measure(ctx context.Context, do func(i int) error) (float64, error) {
	from, err := loadgen.CPU(0)
	if err != nil {
		return 0, err
	}
	n := 0
	for end := time.Now().Add(g.Duration); time.Now().Before(end) && ctx.Err() == nil; {
		for range 256 {
			if err := do(n); err != nil {
				return 0, err
			}
			n++
		}
	}
	to, err := loadgen.CPU(0)
	if err != nil {
		return 0, err
	}
	return float64(n) / (to - from).Seconds(), context.Cause(ctx)
}
