package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/mustermesh/muster/bench/report"
	"github.com/mustermesh/muster/bench/scenario"
	"github.com/mustermesh/muster/internal/node"
)

// benchLife is what goes on while something happens to the mesh.
type benchLife struct {
	benchMesh
	Users     int     `help:"How many users, in whole rooms; they spread over all regions." default:"200"`
	RoomSize  int     `help:"Users in a room." default:"10"`
	Transport string  `help:"auto, webtransport or websocket." enum:"auto,webtransport,websocket" default:"auto"`
	Fixes     float64 `help:"Fixes per second, of all users together." default:"200"`
	Messages  float64 `help:"Messages per second, of all users together." default:"20"`
}

func (c *benchLife) life(dev *node.Dev, mesh report.Mesh) scenario.Life {
	crowd := benchCrowd{Users: c.Users, RoomSize: c.RoomSize, Transport: c.Transport}
	return scenario.Life{WAN: crowd.wan(dev, mesh), Fixes: c.Fixes, Messages: c.Messages}
}

// BenchHealCmd is the heal scenario.
type BenchHealCmd struct {
	benchLife
	benchPage
	Cut   time.Duration `help:"How long a region is cut off." default:"30s"`
	Seeds int           `help:"Cuts: each another region and another way." default:"20"`
}

// Run plays it, prints, and fails if the product broke its word.
func (c *BenchHealCmd) Run(ctx context.Context, log *slog.Logger) error {
	return c.with(ctx, log, nil, func(dev *node.Dev) error {
		r, err := scenario.Heal{Life: c.life(dev, c.about()), Nodes: dev.Mesh(), Cut: c.Cut, Seeds: c.Seeds, First: c.Seed}.Run(ctx)
		if err != nil {
			return err
		}
		return c.judge(r)
	})
}

// BenchLoseCmd is the lose-region scenario.
type BenchLoseCmd struct {
	benchLife
	benchPage
	Lost int `help:"Regions that are lost, one after another; two are left at least." default:"3"`
}

// Run plays it, prints, and fails if the product broke its word.
func (c *BenchLoseCmd) Run(ctx context.Context, log *slog.Logger) error {
	mesh := c.about()
	mesh.Database = "PostgreSQL, outside the regions; it survives the loss of any"
	return c.with(ctx, log, func(cfg *node.DevConfig) { cfg.DatabaseSurvives = true }, func(dev *node.Dev) error {
		r, err := scenario.Lose{Life: c.life(dev, mesh), Rounds: c.Lost, Seed: c.Seed}.Run(ctx)
		if err != nil {
			return err
		}
		return c.judge(r)
	})
}

// BenchRoamCmd is the roam scenario.
type BenchRoamCmd struct {
	benchLife
	benchPage
	Share float64 `help:"Share of the users who travel." default:"0.5"`
}

// Run plays it, prints, and fails if the product broke its word.
func (c *BenchRoamCmd) Run(ctx context.Context, log *slog.Logger) error {
	return c.with(ctx, log, nil, func(dev *node.Dev) error {
		r, err := scenario.Roam{Life: c.life(dev, c.about()), Share: c.Share, Seed: c.Seed}.Run(ctx)
		if err != nil {
			return err
		}
		return c.judge(r)
	})
}
