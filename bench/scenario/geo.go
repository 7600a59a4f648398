package scenario

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/mustermesh/muster/bench/loadgen"
	"github.com/mustermesh/muster/bench/peers"
	"github.com/mustermesh/muster/bench/report"
)

// GeoCase is what each connection does, one request after the other.
type GeoCase struct {
	Name  string
	Moves int // points that a request moves; 0: it asks who is near
}

// GeoCases are the loads that peers were measured under. Goals are set for these
// names in bench/report.
func GeoCases() []GeoCase {
	return []GeoCase{{report.GeoSingle, 1}, {report.GeoBatched, geoBatch}, {report.GeoNearby, 0}}
}

// GeoLeast is how many points there must be, for each connection to have some.
const GeoLeast = 1000

// NewGeo returns a report of these loads.
func NewGeo(rounds int, duration time.Duration) *report.Geo {
	return &report.Geo{
		Connections: geoConns, Batch: geoBatch, Radius: geoRadius, Limit: geoLimit, Rounds: rounds, Seconds: duration.Seconds(),
	}
}

// GeoTarget is a server that has an index of moving points.
type GeoTarget struct {
	Name string
	Open peers.PointsOpener
	PID  int // whose CPU time and memory count
	// Clear has it forget what it has of earlier benchmarks; nil: it has nothing.
	Clear func(ctx context.Context) error
}

// Geo gives several servers the same moving points, and then in turn the same
// moves and questions.
type Geo struct {
	Points   int
	Over     string // how Muster is spoken to, for the report
	Cases    []GeoCase
	Targets  []GeoTarget
	Rounds   int           // of all cases with all targets
	Warmup   time.Duration // before each measurement
	Duration time.Duration // of each
	Quiet    time.Duration // in which nobody says anything
	Queries  int           // whose answers are compared with brute force
	Progress func(format string, args ...any)
}

// geoSettle is how long after a move all of a server's answers know of it: a map of
// several nodes tells a point at most every two seconds (edge/nearby).
const geoSettle = 3 * time.Second

// geoServer is a target with its connections.
type geoServer struct {
	GeoTarget
	conns  []peers.Points
	movers []*geoMover // of the connections
	report report.GeoServer
}

// Run measures.
func (g Geo) Run(ctx context.Context) (part report.GeoPart, err error) {
	part = report.GeoPart{Points: g.Points, Over: g.Over}
	world := newGeoWorld(g.Points)
	var servers []*geoServer
	defer func() {
		for _, s := range servers {
			s.close()
		}
	}()
	for _, t := range g.Targets {
		s := &geoServer{GeoTarget: t, report: report.GeoServer{Server: t.Name}}
		servers = append(servers, s)
		if err := s.fill(ctx, world); err != nil {
			return part, fmt.Errorf("bench: %s: %w", t.Name, err)
		}
		g.Progress("%s has %d points: %.0f a CPU second, %d MiB", t.Name, g.Points, s.report.LoadedPerCPU, s.report.RSSFull>>20)
	}
	if err := pause(ctx, geoSettle); err != nil {
		return part, err
	}
	if err := g.check(ctx, servers, world); err != nil {
		return part, err
	}
	if err := g.idle(ctx, servers); err != nil {
		return part, err
	}
	for n, c := range g.Cases {
		rows, latencies := make([]report.GeoRow, len(servers)), make([]*loadgen.Latencies, len(servers))
		for i, s := range servers {
			rows[i].Server, latencies[i] = s.Name, loadgen.NewLatencies()
		}
		for round := range g.Rounds {
			for i := range servers {
				i = (i + round) % len(servers) // who begins takes turns
				s := servers[i]
				run, err := g.one(ctx, c, s, uint64(n*g.Rounds+round), latencies[i])
				if err != nil {
					return part, fmt.Errorf("bench: %s: %s: %w", s.Name, c.Name, err)
				}
				g.Progress("%d points over %s: %s: %s: %.0f a CPU second, %.0f/s, p99 %.2f ms",
					g.Points, g.Over, c.Name, s.Name, run.PerCPUSecond, run.PerSecond, run.Latency.P99)
				rows[i].Runs = append(rows[i].Runs, run)
			}
		}
		for i := range rows {
			rows[i].Latency = report.QuantilesOf(latencies[i].At, latencies[i].Max())
		}
		part.Add(c.Name, rows)
	}
	if err := pause(ctx, geoSettle); err != nil {
		return part, err
	}
	if err := g.check(ctx, servers, world); err != nil {
		return part, err
	}
	for _, s := range servers {
		if s.report.RSSAfter, err = loadgen.RSS(s.PID); err != nil {
			return part, err
		}
		part.Servers = append(part.Servers, s.report)
	}
	return part, nil
}

func (s *geoServer) close() {
	for _, c := range s.conns {
		c.Close()
	}
}

// fill gives a server all points.
func (s *geoServer) fill(ctx context.Context, w *geoWorld) error {
	if s.Clear != nil {
		if err := s.Clear(ctx); err != nil {
			return err
		}
	}
	for i := range geoConns {
		c, err := s.Open(ctx)
		if err != nil {
			return err
		}
		s.conns = append(s.conns, c)
		s.movers = append(s.movers, &geoMover{geoWorld: w, share: i})
	}
	before, err := loadgen.RSS(s.PID)
	if err != nil {
		return err
	}
	cpu, err := loadgen.CPU(s.PID)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	for i, c := range s.conns {
		g.Go(func() error {
			moves := make([]peers.Move, geoLoad)
			for n := 0; n < s.movers[i].size(); n += geoLoad {
				if err := c.Move(ctx, moves[:s.movers[i].homes(moves, n)]); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	used, err := loadgen.CPU(s.PID)
	if err != nil {
		return err
	}
	s.report.RSSBefore = before
	s.report.LoadedPerCPU = float64(len(w.names)) / max(used-cpu, 10*time.Millisecond).Seconds()
	s.report.RSSFull, err = loadgen.RSS(s.PID)
	return err
}

// check compares answers with brute force.
func (g Geo) check(ctx context.Context, servers []*geoServer, w *geoWorld) error {
	for _, s := range servers {
		truth := newGeoTruth(w, s.movers)
		r := rand.New(rand.NewPCG(2, 2))
		for n := range g.Queries {
			from := geoAnywhere(r)
			answer, err := s.conns[n%geoConns].Near(ctx, from, geoRadius, geoLimit)
			if err != nil {
				return fmt.Errorf("bench: %s: %w", s.Name, err)
			}
			same, right := truth.judge(from, answer)
			s.report.Asked++
			if !same {
				s.report.Differ++
			}
			if !right {
				s.report.Wrong++
			}
		}
		g.Progress("%s: of %d answers %d are not those of brute force, %d are wrong", s.Name, s.report.Asked, s.report.Differ, s.report.Wrong)
	}
	return nil
}

// idle measures what it costs a server to have the points.
func (g Geo) idle(ctx context.Context, servers []*geoServer) error {
	if g.Quiet == 0 {
		return nil
	}
	used := make([]time.Duration, len(servers))
	look := func() (err error) {
		for i, s := range servers {
			before := used[i]
			if used[i], err = loadgen.CPU(s.PID); err != nil {
				return err
			}
			s.report.IdleCores = (used[i] - before).Seconds() / g.Quiet.Seconds()
		}
		return nil
	}
	if err := look(); err != nil {
		return err
	}
	if err := pause(ctx, g.Quiet); err != nil {
		return err
	}
	return look()
}

// one plays one case on one server. It adds its latencies to those of all.
func (g Geo) one(ctx context.Context, c GeoCase, s *geoServer, seed uint64, all *loadgen.Latencies) (run report.GeoRun, err error) {
	load, ctx := errgroup.WithContext(ctx)
	var done [geoConns]struct {
		ops atomic.Int64
		_   [56]byte // a cache line of its own
	}
	var measuring, over atomic.Bool
	latencies := loadgen.NewLatencies()
	for i, conn := range s.conns {
		r := rand.New(rand.NewPCG(seed, uint64(i)))
		load.Go(func() error {
			moves := make([]peers.Move, c.Moves)
			for !over.Load() {
				from := time.Now()
				var err error
				if c.Moves > 0 {
					s.movers[i].next(moves)
					err = conn.Move(ctx, moves)
				} else {
					_, err = conn.Near(ctx, geoAnywhere(r), geoRadius, geoLimit)
				}
				if err != nil {
					return err
				}
				if measuring.Load() {
					took := time.Since(from)
					latencies.Record(took)
					all.Record(took)
				}
				done[i].ops.Add(int64(max(c.Moves, 1)))
			}
			return nil
		})
	}
	type usage struct {
		ops int64
		cpu time.Duration
		at  time.Time
	}
	measure := func() (u usage, err error) {
		if u.cpu, err = loadgen.CPU(s.PID); err != nil {
			return u, err
		}
		u.at = time.Now()
		for i := range done {
			u.ops += done[i].ops.Load()
		}
		return u, nil
	}
	var before, after usage
	load.Go(func() (err error) {
		defer over.Store(true)
		if err := pause(ctx, g.Warmup); err != nil {
			return err
		}
		measuring.Store(true)
		if before, err = measure(); err != nil {
			return err
		}
		if err := pause(ctx, g.Duration); err != nil {
			return err
		}
		after, err = measure()
		measuring.Store(false)
		return err
	})
	if err := load.Wait(); err != nil {
		return run, err
	}
	seconds, cpu, ops := after.at.Sub(before.at).Seconds(), (after.cpu - before.cpu).Seconds(), float64(after.ops-before.ops)
	return report.GeoRun{
		PerSecond:    ops / seconds,
		Cores:        cpu / seconds,
		PerCPUSecond: ops / max(cpu, 0.01),
		Latency:      report.QuantilesOf(latencies.At, latencies.Max()),
	}, nil
}
