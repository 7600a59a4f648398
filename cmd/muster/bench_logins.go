package main

import (
	"context"
	"time"

	"github.com/mustermesh/muster/bench/fleet"
	"github.com/mustermesh/muster/bench/report"
	"github.com/mustermesh/muster/bench/scenario"
)

// BenchLoginsCmd is the logins scenario.
type BenchLoginsCmd struct {
	benchFleet
	benchOutput
	Users    int           `help:"Clients, in whole rooms." default:"50"`
	RoomSize int           `help:"Clients in a room." default:"25"`
	Rate     float64       `help:"Messages per second, of all together." default:"50"`
	Logins   float64       `help:"Sign-ins by password per second." default:"100"`
	Accounts int           `help:"Who sign in, in turn: each may do so only every few seconds." default:"400"`
	Stretch  time.Duration `help:"How long is measured at a time." default:"15s"`
	Rounds   int           `help:"How often, without and with sign-ins." default:"5"`
	Strict   bool          `help:"Fail if events are later than twice as late, too."`
}

// Run measures, prints, and fails if the product broke its word.
func (c *BenchLoginsCmd) Run(ctx context.Context) error {
	var r *report.Logins
	err := c.with(ctx, fleet.Config{Nodes: 1}, func(f *fleet.Fleet) (err error) {
		r, err = scenario.Logins{
			Load:  scenario.Load{Users: c.Users, RoomSize: c.RoomSize, Rate: c.Rate},
			Fleet: f, Accounts: c.Accounts, PerS: c.Logins, Stretch: c.Stretch, Rounds: c.Rounds, Progress: benchProgress,
		}.Run(ctx)
		return err
	})
	if err != nil {
		return err
	}
	return c.judgeGoals(c.Strict, r)
}
