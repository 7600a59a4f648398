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

// BenchChatCmd is the chat scenario.
type BenchChatCmd struct {
	benchFleet
	benchOutput
	Rounds   int           `help:"How often everything is measured; the median counts." default:"3"`
	Duration time.Duration `help:"How long one measurement takes." default:"10s"`
	Warmup   time.Duration `help:"How long before that the load runs." default:"3s"`
	Size     int           `help:"Bytes of a message." default:"128"`
	Case     []int         `help:"Only these cases, from 1." placeholder:"N"`
	Strict   bool          `help:"Fail if a goal was missed, too."`

	cases []scenario.ChatCase // in tests
}

// Run measures and prints.
func (c *BenchChatCmd) Run(ctx context.Context) error {
	cases := c.cases
	if cases == nil {
		cases = scenario.ChatCases()
	}
	if len(c.Case) > 0 {
		var some []scenario.ChatCase
		for i, one := range cases {
			if slices.Contains(c.Case, i+1) {
				some = append(some, one)
			}
		}
		cases = some
	}
	if len(cases) == 0 || c.Rounds < 1 {
		return fmt.Errorf("cases are 1 to %d, and measured at least once", len(scenario.ChatCases()))
	}
	r := &report.Chat{Rounds: c.Rounds, Seconds: c.Duration.Seconds(), Bytes: c.Size}
	keep := c.Keep
	for i, one := range cases {
		if keep != "" { // each case has a server and a database of its own
			c.Keep = fmt.Sprintf("%s-%d", keep, i+1)
		}
		// A session may send as many messages as the load has: limits are for people.
		if err := c.with(ctx, fleet.Config{Nodes: 1, WebTransport: one.WebTransport, Messages: 100_000}, func(f *fleet.Fleet) error {
			if c.databasePID == 0 {
				return errors.New("the database has to be this benchmark's own, so that its CPU time can be read")
			}
			if err := f.Start(ctx); err != nil {
				return err
			}
			runs, err := scenario.Chat{
				Fleet: f, DatabasePID: c.databasePID, Rounds: c.Rounds, Warmup: c.Warmup, Duration: c.Duration, Size: c.Size, Progress: benchProgress,
			}.Play(ctx, one)
			if err == nil {
				r.Add(one.Name, runs, one.Nakama)
			}
			return err
		}); err != nil {
			return err
		}
	}
	r.Head = report.NewHead("chat")
	return c.judgeGoals(c.Strict, r)
}
