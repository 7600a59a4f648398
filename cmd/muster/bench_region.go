package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/mustermesh/muster/bench/region"
)

// benchRegion is nodes without clients, in this process.
type benchRegion struct {
	Nodes    int    `help:"Nodes of the region: 3 or 5." default:"3"`
	Data     string `help:"Where their logs are written; its disk is measured. Default: a temporary directory." type:"existingdir" placeholder:"DIR"`
	InFlight int    `help:"Openings that wait for their answer, per node." default:"256"`
}

func (c *benchRegion) with(log *slog.Logger, f func(region.Config) error) error {
	dir, err := os.MkdirTemp(c.Data, "muster-bench-")
	if err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	return f(region.Config{Dir: dir, Nodes: c.Nodes, Log: log})
}

// BenchOpensCmd is the opens scenario.
type BenchOpensCmd struct {
	benchRegion
	benchOutput
	Devices  int           `help:"Devices that open sessions, in turn." default:"50000"`
	Duration time.Duration `help:"How long each half takes." default:"20s"`
}

// Run measures and prints.
func (c *BenchOpensCmd) Run(ctx context.Context, log *slog.Logger) error {
	return c.with(log, func(cfg region.Config) error {
		r, err := region.Opens{Region: cfg, InFlight: c.InFlight, Devices: c.Devices, Duration: c.Duration, Progress: benchProgress}.Run(ctx)
		if err != nil {
			return err
		}
		return c.write(r)
	})
}

// BenchRosterCmd is the roster scenario.
type BenchRosterCmd struct {
	benchRegion
	benchOutput
	Sessions      int    `help:"Sessions in the roster." default:"50000"`
	RoomSize      int    `help:"Sessions in a room." default:"50"`
	SnapshotEvery uint64 `help:"Log entries until a snapshot." default:"256"`
}

// Run measures and prints.
func (c *BenchRosterCmd) Run(ctx context.Context, log *slog.Logger) error {
	return c.with(log, func(cfg region.Config) error {
		cfg.SnapshotEvery = c.SnapshotEvery
		r, err := region.Restart{Region: cfg, Sessions: c.Sessions, RoomSize: c.RoomSize, InFlight: c.InFlight, Snapshots: 40 * time.Second, Progress: benchProgress}.Run(ctx)
		if err != nil {
			return err
		}
		return c.write(r)
	})
}
