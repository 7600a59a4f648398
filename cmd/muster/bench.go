package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/mustermesh/muster/bench/scenario"
	"github.com/mustermesh/muster/internal/node"
	"github.com/mustermesh/muster/internal/simnet"
)

// BenchCmd holds the benchmarks.
type BenchCmd struct {
	Presence BenchPresenceCmd `cmd:"" help:"How fast people in rooms that span regions see each other move."`
	Drain    BenchDrainCmd    `cmd:"" help:"A rolling upgrade under load: what people notice of it."`
	Failover BenchFailoverCmd `cmd:"" help:"The leader dies under load: how long rooms are dead, and what is lost."`
	Idle     BenchIdleCmd     `cmd:"" help:"What sessions cost that do nothing but be there."`
	Opens    BenchOpensCmd    `cmd:"" help:"How many sessions a region opens a second, with its log on disk."`
	Roster   BenchRosterCmd   `cmd:"" help:"A full roster loses a node, then all of them: how long until all sessions are back."`
}

// BenchPresenceCmd is the presence scenario.
type BenchPresenceCmd struct {
	API       string        `help:"Base URL of a running mesh." name:"api" xor:"where" required:""`
	Dev       bool          `help:"Start a mesh of 3 regions of 3 nodes in this process." xor:"where" required:""`
	Users     int           `help:"How many users, in whole rooms." default:"300"`
	RoomSize  int           `help:"Users in a room; they spread over all regions." default:"30"`
	Rate      float64       `help:"Fixes per second and user." default:"1"`
	Duration  time.Duration `help:"How long is measured." default:"30s"`
	Warmup    time.Duration `help:"How long before that the load runs." default:"5s"`
	Transport string        `help:"auto, webtransport or websocket." enum:"auto,webtransport,websocket" default:"auto"`
	ServerPID int           `help:"Process of the servers, whose CPU time is read from /proc; 0: this one." name:"server-pid"`
	Baseline  string        `help:"emulated: the links of 'muster dev', measured here; none: report no added latency." enum:"emulated,none" default:"emulated"`
	JSON      string        `help:"Write the result to this file." type:"path" placeholder:"FILE" name:"json"`
}

// Run measures, prints, and fails if the product broke its word.
func (c *BenchPresenceCmd) Run(ctx context.Context, log *slog.Logger) error {
	links := simnet.New(simnet.Config{})
	api := c.API
	if c.Dev {
		dev, stop, err := c.mesh(ctx, log)
		if err != nil {
			return err
		}
		defer stop()
		api, links = dev.Ready().HTTP, dev.Mesh().Net
	}
	s := scenario.Presence{
		API: api, Users: c.Users, RoomSize: c.RoomSize, Rate: c.Rate, Duration: c.Duration, Warmup: c.Warmup,
		Transport: transportOf(c.Transport), ServerPID: c.ServerPID,
		Progress: func(format string, args ...any) { fmt.Fprintf(os.Stderr, "muster: "+format+"\n", args...) },
	}
	if c.Baseline == "emulated" {
		s.Echo = links.Echo
		s.Link = "emulated (internal/simnet: published round-trip times between regions), bare UDP echo in the same run"
	}
	r, err := s.Run(ctx)
	if err != nil {
		return err
	}
	if err := r.Print(os.Stdout); err != nil {
		return err
	}
	if c.JSON != "" {
		if err := writeReport(c.JSON, r); err != nil {
			return err
		}
	}
	if r.Duplicates > 0 || r.LostFinal > 0 {
		return fmt.Errorf("bench: %d duplicates and %d lost final positions: there may be none", r.Duplicates, r.LostFinal)
	}
	return nil
}

// mesh starts a mesh in this process, with a database of its own.
func (c *BenchPresenceCmd) mesh(ctx context.Context, log *slog.Logger) (*node.Dev, func(), error) {
	dir, err := os.MkdirTemp("", "muster-bench-")
	if err != nil {
		return nil, nil, fmt.Errorf("bench: %w", err)
	}
	var stops []func()
	stop := func() {
		for i := len(stops) - 1; i >= 0; i-- {
			stops[i]()
		}
	}
	stops = append(stops, func() { _ = os.RemoveAll(dir) })
	var listeners [2]net.Listener
	for i := range listeners {
		if listeners[i], err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			stop()
			return nil, nil, fmt.Errorf("bench: %w", err)
		}
		stops = append(stops, func() { _ = listeners[i].Close() })
	}
	dev, err := node.NewDev(node.DevConfig{
		Regions: 3, Nodes: 3, Data: dir, Front: listeners[0], Admin: listeners[1], Log: log,
		Progress: func(step string) { fmt.Fprintln(os.Stderr, "muster:", step) },
	})
	if err == nil {
		stops = append(stops, dev.Stop)
		err = dev.Start(ctx)
	}
	if err != nil {
		stop()
		return nil, nil, err
	}
	return dev, stop, nil
}
