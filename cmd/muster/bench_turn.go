package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/mustermesh/muster/bench/scenario"
)

// BenchTurnCmd is the TURN relay beside another one.
type BenchTurnCmd struct {
	benchOutput
	Peer        string        `help:"Address of another TURN server, such as coturn with --use-auth-secret, to be measured beside." placeholder:"IP:PORT"`
	PeerPID     int           `help:"Its process, whose CPU time is read from /proc." name:"peer-pid" placeholder:"PID"`
	PeerSecret  string        `help:"The secret that its credentials are made of." placeholder:"SECRET"`
	PeerName    string        `help:"What it is called in the result." default:"coturn"`
	Rounds      int           `help:"How often everything is measured; the median counts." default:"3"`
	Duration    time.Duration `help:"How long one measurement takes." default:"10s"`
	Warmup      time.Duration `help:"How long before that the load runs." default:"1s"`
	Allocations int           `help:"Allocations that packets are relayed for." default:"10"`
	Size        int           `help:"Bytes of a payload." default:"1200"`
	Idle        int           `help:"Allocations whose memory is measured; 0: none." default:"1000"`
	Case        []int         `help:"Only these cases, from 1." placeholder:"N"`
	Strict      bool          `help:"Fail if a goal was missed, too."`

	cases []scenario.TurnCase // in tests
	env   []string            // of the server's process, in tests
}

// Run measures and prints.
func (c *BenchTurnCmd) Run(ctx context.Context) error {
	if (c.Peer == "") != (c.PeerPID == 0) || (c.Peer == "") != (c.PeerSecret == "") {
		return errors.New("--peer, --peer-pid and --peer-secret come together")
	}
	cases := c.cases
	if cases == nil {
		cases = scenario.TurnCases()
	}
	if len(c.Case) > 0 {
		var some []scenario.TurnCase
		for i, one := range cases {
			if slices.Contains(c.Case, i+1) {
				some = append(some, one)
			}
		}
		cases = some
	}
	if len(cases) == 0 || c.Rounds < 1 || c.Allocations < 1 {
		return fmt.Errorf("cases are 1 to %d, and measured at least once with at least one allocation", len(scenario.TurnCases()))
	}
	binary, err := os.Executable()
	if err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	ours, stop, err := scenario.TurnServer(ctx, binary, c.env)
	if err != nil {
		return err
	}
	defer stop()
	targets := []scenario.TurnTarget{ours}
	if c.Peer != "" {
		addr, err := netip.ParseAddrPort(c.Peer)
		if err != nil {
			return fmt.Errorf("--peer %q: say IP:PORT", c.Peer)
		}
		targets = append(targets, scenario.TurnTarget{Name: c.PeerName, Addr: addr, PID: c.PeerPID, Secret: c.PeerSecret})
	}
	r, err := scenario.Turn{
		Cases: cases, Targets: targets, Rounds: c.Rounds, Allocations: c.Allocations, Size: c.Size,
		Duration: c.Duration, Warmup: c.Warmup, Idle: c.Idle, Progress: benchProgress,
	}.Run(ctx)
	if err != nil {
		return err
	}
	return c.judgeGoals(c.Strict, r)
}
