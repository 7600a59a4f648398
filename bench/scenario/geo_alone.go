package scenario

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"time"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/bench/loadgen"
	"github.com/mustermesh/muster/bench/report"
	"github.com/mustermesh/muster/edge"
	edgemap "github.com/mustermesh/muster/edge/nearby"
	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/geo/grant"
	"github.com/mustermesh/muster/geo/index"
	"github.com/mustermesh/muster/regions"
)

// GeoAlone measures the parts of the server that hold the points in this process,
// with one goroutine and without a network: the index, and the map around it.
type GeoAlone struct {
	Points   int
	Duration time.Duration // of each measurement
	Progress func(format string, args ...any)
}

// geoPart is one of them.
type geoPart struct {
	move func(id int, to geo.Point) error
	near func(at geo.Point) (found int, err error)
}

// Run measures.
func (g GeoAlone) Run(ctx context.Context) (all []report.GeoAlone, err error) {
	world := newGeoWorld(g.Points)
	for _, p := range []struct {
		name string
		make func() geoPart
	}{{"geo/index", indexAlone}, {"edge/nearby", func() geoPart { return mapAlone(ctx, world) }}} {
		r, err := g.one(ctx, world, p.make)
		if err != nil {
			return nil, fmt.Errorf("bench: %s: %w", p.name, err)
		}
		r.Part = p.name
		g.Progress("%s, %d points: %.0f moves and %.0f questions a CPU second, %.0f bytes a point", r.Part, r.Points, r.Moves, r.Near, r.Bytes)
		all = append(all, r)
	}
	return all, nil
}

func (g GeoAlone) one(ctx context.Context, world *geoWorld, newPart func() geoPart) (r report.GeoAlone, err error) {
	r.Points = g.Points
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	part := newPart()
	for i, home := range world.home {
		if err := part.move(i, home); err != nil {
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
		return part.move(m.id, m.to)
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
	r.Near, err = g.measure(ctx, func(i int) error {
		n, err := part.near(centers[i%len(centers)])
		found += n
		return err
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

// indexAlone is the index.
func indexAlone() geoPart {
	x := index.New()
	now := int64(0)
	var hits []index.Hit
	return geoPart{
		move: func(id int, to geo.Point) error {
			now++
			_, err := x.Upsert(uint64(id), to, now, 0)
			return err
		},
		near: func(at geo.Point) (int, error) {
			hits = x.Nearest(hits[:0], at, geoLimit, geoRadius, index.Options{})
			return len(hits), nil
		},
	}
}

// mapAlone is the map of a node that is alone, with the points as a fleet's subjects.
func mapAlone(ctx context.Context, w *geoWorld) geoPart {
	const id = "00000000-0000-4000-8000-000000000000"
	subjects := make([]string, len(w.names))
	for i, name := range w.names {
		subjects[i] = edge.Subject(id, name)
	}
	top := &regions.Topology{Regions: []regions.Region{{Name: "r", Nodes: []regions.Node{{ID: "n"}}}}}
	m := edgemap.New(edgemap.Config{
		Self: "n", Region: "r", Roster: soleNode{}, Topology: func() *regions.Topology { return top }, Links: soleNode{}, Blocks: soleNode{},
	})
	return geoPart{
		move: func(i int, to geo.Point) error {
			now := time.Now()
			m.Put(subjects[i], "", grant.View{Point: to, Precision: grant.Exact, Accuracy: 5, Captured: now}, now.Add(edge.FixLife))
			return nil
		},
		near: func(at geo.Point) (int, error) {
			found, err := m.Near(ctx, "somebody", id, at, geoRadius, geoLimit)
			return len(found.People), err
		},
	}
}

// soleNode is what a map sees of a mesh of one node.
type soleNode struct{}

func (soleNode) Current() bool                                                { return true }
func (soleNode) Slot(int) (regions.NodeID, regions.Epoch)                     { return "n", 1 }
func (soleNode) SlotIn(regions.RegionID, int) (regions.NodeID, regions.Epoch) { return "n", 1 }
func (soleNode) RegionOf(regions.NodeID) regions.RegionID                     { return "r" }
func (soleNode) Send(regions.NodeID, *peer.Frame)                             {}
func (soleNode) Blocked(context.Context, string) (map[string]bool, error)     { return nil, nil }
func (soleNode) Call(context.Context, regions.NodeID, *peer.Call) (*peer.Answer, error) {
	return nil, errors.New("there are no other nodes")
}
