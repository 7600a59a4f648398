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

// BenchFanoutCmd is the fan-out scenario.
type BenchFanoutCmd struct {
	benchFleet
	benchOutput
	Centrifugo    string        `help:"Address of a Centrifugo 6 that runs with CENTRIFUGO_CLIENT_INSECURE=true, to be measured beside." placeholder:"HOST:PORT"`
	CentrifugoPID int           `help:"Its process, whose CPU time is read from /proc." name:"centrifugo-pid" placeholder:"PID"`
	Rounds        int           `help:"How often everything is measured; the median counts." default:"3"`
	Duration      time.Duration `help:"How long one measurement takes." default:"10s"`
	Warmup        time.Duration `help:"How long before that the load runs." default:"3s"`
	Size          int           `help:"Bytes of a message." default:"128"`
	Case          []int         `help:"Only these cases, from 1." placeholder:"N"`

	cases []scenario.FanoutCase // in tests
}

// Run measures and prints.
func (c *BenchFanoutCmd) Run(ctx context.Context) error {
	if (c.Centrifugo == "") != (c.CentrifugoPID == 0) {
		return errors.New("--centrifugo and --centrifugo-pid come together")
	}
	cases := c.cases
	if cases == nil {
		cases = scenario.FanoutCases()
	}
	if len(c.Case) > 0 {
		var some []scenario.FanoutCase
		for i, one := range cases {
			if slices.Contains(c.Case, i+1) {
				some = append(some, one)
			}
		}
		cases = some
	}
	if len(cases) == 0 || c.Rounds < 1 {
		return fmt.Errorf("cases are 1 to %d, and measured at least once", len(scenario.FanoutCases()))
	}
	var r *report.Fanout
	err := c.with(ctx, fleet.Config{Nodes: 1}, func(f *fleet.Fleet) (err error) {
		defer f.Stop()
		s := scenario.Fanout{
			Cases: cases, Rounds: c.Rounds, Warmup: c.Warmup, Duration: c.Duration, Size: c.Size, Progress: benchProgress,
			Targets: map[string]scenario.FanoutTarget{},
		}
		if s.Targets["muster"], err = scenario.FleetTarget(ctx, f, cases, benchProgress); err != nil {
			return err
		}
		if c.Centrifugo != "" {
			s.Targets["centrifugo"] = scenario.CentrifugoTarget(c.Centrifugo, c.CentrifugoPID)
		}
		r, err = s.Run(ctx)
		return err
	})
	if err != nil {
		return err
	}
	return c.write(r)
}
