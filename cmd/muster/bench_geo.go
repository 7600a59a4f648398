package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/mustermesh/muster/bench/fleet"
	"github.com/mustermesh/muster/bench/report"
	"github.com/mustermesh/muster/bench/scenario"
)

// BenchGeoCmd is the geo scenario.
type BenchGeoCmd struct {
	benchFleet
	benchPage
	Tile38    string        `help:"Address of a Tile38 to be measured beside; the key muster-bench is used, and dropped before." name:"tile38" placeholder:"HOST:PORT"`
	Tile38PID int           `help:"Its process, whose CPU time and memory are read from /proc." name:"tile38-pid" placeholder:"PID"`
	Redis     string        `help:"Likewise a Redis." placeholder:"HOST:PORT"`
	RedisPID  int           `help:"Its process." name:"redis-pid" placeholder:"PID"`
	Points    []int         `help:"How many points there are, in turn." default:"100000,1000000"`
	Transport []string      `help:"How Muster is spoken to, in turn: webtransport, and websocket, which is without TLS as behind a proxy." enum:"webtransport,websocket" default:"webtransport,websocket"`
	Rounds    int           `help:"How often everything is measured." default:"3"`
	Duration  time.Duration `help:"How long one measurement takes." default:"5s"`
	Warmup    time.Duration `help:"How long before that the load runs." default:"1s"`
	Quiet     time.Duration `help:"How long nothing happens, to see what having points costs." default:"20s"`
	Queries   int           `help:"Questions whose answers are compared with brute force, before the moves and after." default:"200"`
	Case      []int         `help:"Only these cases, from 1." placeholder:"N"`
	Alone     bool          `help:"Only the parts in this process, without servers."`
}

// Run measures and prints.
func (c *BenchGeoCmd) Run(ctx context.Context) error {
	if (c.Tile38 == "") != (c.Tile38PID == 0) || (c.Redis == "") != (c.RedisPID == 0) {
		return errors.New("a server's address and its process come together")
	}
	cases := scenario.GeoCases()
	if len(c.Case) > 0 {
		var some []scenario.GeoCase
		for i, one := range cases {
			if slices.Contains(c.Case, i+1) {
				some = append(some, one)
			}
		}
		cases = some
	}
	if len(cases) == 0 || c.Rounds < 1 || len(c.Points) == 0 || slices.Min(c.Points) < scenario.GeoLeast {
		return fmt.Errorf("cases are 1 to %d, measured at least once, with at least %d points", len(scenario.GeoCases()), scenario.GeoLeast)
	}
	r := scenario.NewGeo(c.Rounds, c.Duration)
	for _, points := range c.Points {
		alone, err := scenario.GeoAlone{Points: points, Duration: c.Duration, Progress: benchProgress}.Run(ctx)
		if err != nil {
			return err
		}
		r.Alone = append(r.Alone, alone)
		if c.Alone {
			continue
		}
		for _, over := range c.Transport {
			part, err := c.part(ctx, points, over, cases)
			if err != nil {
				return err
			}
			r.AddPart(part)
		}
	}
	r.Head = report.NewHead("geo")
	return c.judge(r)
}

// part measures a process of its own, and the others beside it.
func (c *BenchGeoCmd) part(ctx context.Context, points int, over string, cases []scenario.GeoCase) (part report.GeoPart, err error) {
	err = c.with(ctx, fleet.Config{Nodes: 1, WebTransport: over == "webtransport"}, func(f *fleet.Fleet) error {
		defer f.Stop()
		s := scenario.Geo{
			Points: points, Over: over, Cases: cases, Rounds: c.Rounds, Warmup: c.Warmup, Duration: c.Duration, Quiet: c.Quiet, Queries: c.Queries,
			Progress: benchProgress,
		}
		muster, err := scenario.GeoFleetTarget(ctx, f, transportOf(over))
		if err != nil {
			return err
		}
		s.Targets = append(s.Targets, muster)
		if c.Tile38 != "" {
			s.Targets = append(s.Targets, scenario.Tile38Target(c.Tile38, c.Tile38PID))
		}
		if c.Redis != "" {
			s.Targets = append(s.Targets, scenario.RedisTarget(c.Redis, c.RedisPID))
		}
		part, err = s.Run(ctx)
		return err
	})
	return part, err
}
