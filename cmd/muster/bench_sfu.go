package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/mustermesh/muster/bench/media"
	"github.com/mustermesh/muster/bench/scenario"
)

// BenchSFUCmd is the sfu scenario.
type BenchSFUCmd struct {
	benchOutput
	Rounds   int           `help:"How often everything is measured; the median counts." default:"3"`
	Duration time.Duration `help:"How long one measurement takes." default:"10s"`
	Case     string        `help:"Only this one." placeholder:"NAME"`
	Strict   bool          `help:"Fail if a goal was missed, too."`
}

// Run measures and prints.
func (c *BenchSFUCmd) Run(ctx context.Context) error {
	binary, err := os.Executable()
	if err != nil {
		return fmt.Errorf("which program this is: %w", err)
	}
	r, err := scenario.SFU{Binary: binary, Rounds: c.Rounds, Duration: c.Duration, Only: c.Case, Progress: benchProgress}.Run(ctx)
	if err != nil {
		return err
	}
	return c.judgeGoals(c.Strict, r)
}

// BenchSFUServerCmd is the server of that, in a process of its own.
type BenchSFUServerCmd struct{}

// Run serves until it is told to end.
func (c *BenchSFUServerCmd) Run(ctx context.Context) error { return media.Serve(ctx, os.Stdout) }
