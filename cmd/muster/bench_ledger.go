package main

import (
	"context"
	"errors"
	"time"

	"github.com/mustermesh/muster/bench/fleet"
	"github.com/mustermesh/muster/bench/report"
	"github.com/mustermesh/muster/bench/scenario"
)

// BenchLedgerCmd is the ledger scenario.
type BenchLedgerCmd struct {
	benchFleet
	benchOutput
	Rounds   int           `help:"How often everything is measured; the median counts." default:"3"`
	Duration time.Duration `help:"How long one measurement takes." default:"10s"`
	Clients  int           `help:"Requests under way." default:"16"`
	Groups   int           `help:"Groups of the case of many." default:"1000"`
	Scale    int           `help:"Of pgbench; 0: without it." default:"50"`
	Members  int           `help:"Of the group that is asked about; 0: it is not." default:"50"`
	Expenses int           `help:"Of that group." default:"10000"`
	Rate     float64       `help:"Questions a second." default:"50"`
	Strict   bool          `help:"Fail if a goal was missed, too."`
}

// Run measures and prints.
func (c *BenchLedgerCmd) Run(ctx context.Context) error {
	var r *report.Ledger
	err := c.with(ctx, fleet.Config{Nodes: 1}, func(f *fleet.Fleet) (err error) {
		if c.databasePID == 0 {
			return errors.New("the database has to be this benchmark's own, so that its CPU time can be read")
		}
		if err := f.Start(ctx); err != nil {
			return err
		}
		r, err = scenario.Ledger{
			Fleet: f, DatabasePID: c.databasePID, Rounds: c.Rounds, Duration: c.Duration, Clients: c.Clients, Groups: c.Groups,
			Scale: c.Scale, Members: c.Members, Expenses: c.Expenses, Rate: c.Rate, Progress: benchProgress,
		}.Run(ctx)
		return err
	})
	if err != nil {
		return err
	}
	return c.judgeGoals(c.Strict, r)
}
