package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/mustermesh/muster/bench/report"
	"github.com/mustermesh/muster/bench/scenario"
	"github.com/mustermesh/muster/internal/node"
	"github.com/mustermesh/muster/internal/simnet"
	"github.com/mustermesh/muster/regions"
)

// BenchCmd holds the benchmarks.
type BenchCmd struct {
	Presence  BenchPresenceCmd  `cmd:"" help:"How fast people in rooms that span regions see each other move, come and go."`
	Messages  BenchMessagesCmd  `cmd:"" help:"How long a message takes to be stored, and from then on to everybody in other regions."`
	Roam      BenchRoamCmd      `cmd:"" help:"People travel to other regions: how their sessions follow, and what others notice."`
	Lose      BenchLoseCmd      `cmd:"" name:"lose-region" help:"Regions are lost for good: how long until their clients live in another one."`
	Heal      BenchHealCmd      `cmd:"" help:"A region is cut off and comes back: what people see, and how long until everybody knows everything again."`
	Drain     BenchDrainCmd     `cmd:"" help:"A rolling upgrade under load: what people notice of it."`
	Failover  BenchFailoverCmd  `cmd:"" help:"The leader dies under load: how long rooms are dead, and what is lost."`
	Chat      BenchChatCmd      `cmd:"" help:"What messages cost that are stored: per second of the CPU of one process and its database."`
	Ledger    BenchLedgerCmd    `cmd:"" help:"How many expenses a second are split over HTTP, beside pgbench on the same database."`
	Fanout    BenchFanoutCmd    `cmd:"" help:"What one process delivers per second of its CPU, beside Centrifugo."`
	Geo       BenchGeoCmd       `cmd:"" help:"What one process does with moving points per second of its CPU, beside Tile38 and Redis."`
	Turn      BenchTurnCmd      `cmd:"" help:"What the TURN relay relays per second of its CPU, beside coturn."`
	SFU       BenchSFUCmd       `cmd:"" name:"sfu" help:"What the media server forwards per second of its CPU, beside LiveKit."`
	SFUServer BenchSFUServerCmd `cmd:"" name:"sfu-server" hidden:""`
	Idle      BenchIdleCmd      `cmd:"" help:"What sessions cost that do nothing but be there."`
	Logins    BenchLoginsCmd    `cmd:"" help:"Many sign in by password at a node whose rooms talk: what those notice of it."`
	Opens     BenchOpensCmd     `cmd:"" help:"How many sessions a region opens a second, with its log on disk."`
	Roster    BenchRosterCmd    `cmd:"" help:"A full roster loses a node, then all of them: how long until all sessions are back."`
	Scale     BenchScaleCmd     `cmd:"" help:"What many regions cost, by drawing a population and counting."`
	DNS       BenchDNSCmd       `cmd:"" name:"dns" help:"Queries per second of CPU of the name server, beside nsd and gdnsd."`
	DNSServer BenchDNSServerCmd `cmd:"" name:"dns-server" hidden:""`
}

// benchMesh is regions with emulated links between them, in this process.
type benchMesh struct {
	Dev     bool          `help:"Start a mesh in this process, with a database of its own." xor:"where" required:""`
	Regions int           `help:"With --dev: how many regions." default:"5"`
	Nodes   int           `help:"With --dev: nodes a region." default:"3"`
	Jitter  time.Duration `help:"With --dev: the most that is added to the delay of a packet between regions." default:"0"`
	Loss    float64       `help:"With --dev: share of the packets between regions that vanish, 0 to 1." default:"0"`
	Seed    uint64        `help:"Makes jitter, loss and faults repeatable." default:"1"`
}

// benchPage is where a result goes that has a page.
type benchPage struct {
	benchOutput
	HTML   string `help:"Write a page with plots to this file." type:"path" placeholder:"FILE" name:"html"`
	Strict bool   `help:"Fail if a goal for time was missed, too."`
}

// judge writes a result, and fails if the product broke its word.
func (o benchPage) judge(r interface {
	result
	report.Paged
	Broken() error
	Late() error
}) error {
	err := o.judgeGoals(o.Strict, r)
	if o.HTML == "" {
		return err
	}
	return errors.Join(err, create(o.HTML, "--html", func(w io.Writer) error { return report.WriteHTML(w, r) }))
}

const emulated = "emulated (internal/simnet: published round-trip times between regions), bare UDP echo in the same run"

// about describes the mesh in a report.
func (c *benchMesh) about() report.Mesh {
	return report.Mesh{
		Nodes: c.Nodes, Baseline: emulated, Jitter: report.Millis(c.Jitter), Loss: c.Loss, Database: "PostgreSQL, at no distance from any region",
	}
}

// with starts the mesh, runs f with it, and ends it. set may change what it is
// made of.
func (c *benchMesh) with(ctx context.Context, log *slog.Logger, set func(*node.DevConfig), f func(*node.Dev) error) (err error) {
	if c.Jitter < 0 || c.Loss < 0 || c.Loss >= 1 {
		return errors.New("--jitter is not negative, --loss from 0 to below 1")
	}
	dir, err := os.MkdirTemp("", "muster-bench-")
	if err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	var listeners [2]net.Listener
	for i := range listeners {
		if listeners[i], err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			return fmt.Errorf("bench: %w", err)
		}
		defer listeners[i].Close()
	}
	cfg := node.DevConfig{
		Regions: c.Regions, Nodes: c.Nodes, Data: dir, Front: listeners[0], Admin: listeners[1], Log: log,
		Net:      simnet.Config{Jitter: c.Jitter, Loss: c.Loss, Seed: c.Seed},
		Progress: func(step string) { fmt.Fprintln(os.Stderr, "muster:", step) },
	}
	if set != nil {
		set(&cfg)
	}
	dev, err := node.NewDev(cfg)
	if err != nil {
		return err
	}
	defer dev.Stop()
	if err := dev.Start(ctx); err != nil {
		return err
	}
	return f(dev)
}

// benchCrowd is who lives in the mesh.
type benchCrowd struct {
	Users     int    `help:"How many users, in whole rooms." default:"500"`
	RoomSize  int    `help:"Users in a room; they spread over all regions." default:"25"`
	Transport string `help:"auto, webtransport or websocket." enum:"auto,webtransport,websocket" default:"auto"`
}

func (c benchCrowd) wan(dev *node.Dev, mesh report.Mesh) scenario.WAN {
	return scenario.WAN{
		API: dev.Ready().HTTP, Net: dev.Mesh().Net, Users: c.Users, RoomSize: c.RoomSize, Transport: transportOf(c.Transport),
		Mesh: mesh, Progress: benchProgress,
	}
}

// BenchPresenceCmd is the presence scenario.
type BenchPresenceCmd struct {
	API string `help:"Base URL of a running mesh." name:"api" xor:"where" required:""`
	benchMesh
	benchCrowd
	benchPage
	Rate      float64       `help:"Updates per second, of all users together: fixes, and changes." default:"500"`
	Changes   float64       `help:"Of those, visitors who come or go." default:"20"`
	Duration  time.Duration `help:"How long is measured." default:"30s"`
	Warmup    time.Duration `help:"How long before that the load runs." default:"5s"`
	Ramp      bool          `help:"Afterwards look for the highest rate that reaches the goals."`
	ServerPID int           `help:"With --api: process of the servers, whose CPU time is read from /proc." name:"server-pid"`
	Baseline  string        `help:"With --api: emulated takes the links of 'muster dev', measured here; none reports no added latency." enum:"emulated,none" default:"emulated"`
}

// Run measures, prints, and fails if the product broke its word.
func (c *BenchPresenceCmd) Run(ctx context.Context, log *slog.Logger) error {
	s := scenario.Presence{Rate: c.Rate, Changes: c.Changes, Duration: c.Duration, Warmup: c.Warmup, Ramp: c.Ramp, ServerPID: c.ServerPID}
	run := func(w scenario.WAN) error {
		s.WAN = w
		r, err := s.Run(ctx)
		if err != nil {
			return err
		}
		return c.judge(r)
	}
	if c.Dev {
		return c.with(ctx, log, nil, func(dev *node.Dev) error { return run(c.wan(dev, c.about())) })
	}
	w := scenario.WAN{
		API: c.API, Users: c.Users, RoomSize: c.RoomSize, Transport: transportOf(c.Transport), Progress: benchProgress,
		Mesh: report.Mesh{Database: "that of the mesh"},
	}
	if c.Baseline == "emulated" {
		w.Net, w.Mesh.Baseline = simnet.New(simnet.Config{}), emulated
	}
	return run(w)
}

// BenchMessagesCmd is the messages scenario.
type BenchMessagesCmd struct {
	benchMesh
	benchCrowd
	benchPage
	Rate           float64       `help:"Messages per second, of all users together." default:"100"`
	Duration       time.Duration `help:"How long is measured." default:"30s"`
	Warmup         time.Duration `help:"How long before that the load runs." default:"5s"`
	Ramp           bool          `help:"Afterwards look for the highest rate that reaches the goals."`
	DatabaseRegion string        `help:"Put the database into this region, behind the emulated links for the others; all rooms are at home there then. Default: at no distance from any region, the rooms at home in all of them." placeholder:"REGION"`
}

// Run measures, prints, and fails if the product broke its word.
func (c *BenchMessagesCmd) Run(ctx context.Context, log *slog.Logger) error {
	commits := &scenario.Commits{}
	mesh := c.about()
	if c.DatabaseRegion != "" {
		mesh.Database = "PostgreSQL in " + c.DatabaseRegion + ", behind the emulated links for the others"
	}
	return c.with(ctx, log, func(cfg *node.DevConfig) {
		cfg.Committed, cfg.DatabaseRegion = commits.Note, regions.RegionID(c.DatabaseRegion)
	}, func(dev *node.Dev) error {
		r, err := scenario.Messages{
			WAN: c.wan(dev, mesh), Rate: c.Rate, Duration: c.Duration, Warmup: c.Warmup, Ramp: c.Ramp, Home: c.DatabaseRegion, Commits: commits,
		}.Run(ctx)
		if err != nil {
			return err
		}
		return c.judge(r)
	})
}
