package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/mustermesh/muster/bench/fleet"
	"github.com/mustermesh/muster/bench/report"
	"github.com/mustermesh/muster/bench/scenario"
	"github.com/mustermesh/muster/core/db/devdb"
)

// benchOutput is where a result goes.
type benchOutput struct {
	JSON string `help:"Write the result to this file." type:"path" placeholder:"FILE" name:"json"`
}

// result is what a benchmark found.
type result interface{ Print(w io.Writer) error }

func (o benchOutput) write(r result) error {
	if err := r.Print(os.Stdout); err != nil {
		return err
	}
	if o.JSON == "" {
		return nil
	}
	return writeReport(o.JSON, r)
}

func benchProgress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "muster: %s "+format+"\n", append([]any{time.Now().Format(time.TimeOnly)}, args...)...)
}

// benchFleet starts a database and prepares a region of `muster serve`
// processes on it.
type benchFleet struct {
	Keep string   `help:"Keep the processes' logs and data in this directory, which must not exist." type:"path" placeholder:"DIR"`
	env  []string // of the processes, for tests

	databasePID int // of the database that with started; 0: it isn't ours
}

// with runs f with a fleet that is not started yet, and cleans up after it.
func (c *benchFleet) with(ctx context.Context, cfg fleet.Config, f func(*fleet.Fleet) error) (err error) {
	if cfg.Binary, err = os.Executable(); err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	if cfg.Dir = c.Keep; cfg.Dir == "" {
		if cfg.Dir, err = os.MkdirTemp("", "muster-bench-"); err != nil {
			return fmt.Errorf("bench: %w", err)
		}
		defer func() { _ = os.RemoveAll(cfg.Dir) }()
	} else if err := os.Mkdir(cfg.Dir, 0o700); err != nil {
		return fmt.Errorf("--keep: %w", err)
	}
	server := devdb.New(devdb.Options{Dir: filepath.Join(cfg.Dir, "database")})
	if err := server.Start(ctx); err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	defer server.Stop()
	cfg.Database, cfg.Env, c.databasePID = server.URL(), c.env, server.PID()
	region, err := fleet.New(cfg)
	if err != nil {
		return err
	}
	defer region.Stop()
	return f(region)
}

// BenchIdleCmd is the idle scenario.
type BenchIdleCmd struct {
	benchFleet
	benchOutput
	Sessions int           `help:"WebSocket sessions, in whole rooms." default:"5000"`
	RoomSize int           `help:"Sessions in a room." default:"50"`
	AtOnce   int           `help:"Sessions that are opened at the same time." default:"32"`
	Quiet    time.Duration `help:"How long they idle." default:"60s"`
}

// Run measures and prints.
func (c *BenchIdleCmd) Run(ctx context.Context) error {
	var r *report.Idle
	err := c.with(ctx, fleet.Config{Nodes: 1}, func(f *fleet.Fleet) (err error) {
		r, err = scenario.Idle{
			Fleet: f, Sessions: c.Sessions, RoomSize: c.RoomSize, AtOnce: c.AtOnce, Quiet: c.Quiet, Progress: benchProgress,
		}.Run(ctx)
		return err
	})
	if err != nil {
		return err
	}
	return c.write(r)
}

// benchLoad is what happens while nodes come and go.
type benchLoad struct {
	Nodes    int     `help:"Processes of the region: 3 or 5." default:"3"`
	Users    int     `help:"Clients, in whole rooms, spread over the nodes." default:"500"`
	RoomSize int     `help:"Clients in a room." default:"25"`
	Rate     float64 `help:"Messages per second, of all together." default:"200"`
}

func (l benchLoad) load() scenario.Load {
	return scenario.Load{Users: l.Users, RoomSize: l.RoomSize, Rate: l.Rate}
}

// judge writes a result, and fails if the product broke its word.
func (o benchOutput) judge(r interface {
	result
	Broken() error
}) error {
	return errors.Join(o.write(r), r.Broken())
}

// judgeGoals is judge for a result that has goals, too; one that was missed fails if
// strict says so, and is said else.
func (o benchOutput) judgeGoals(strict bool, r interface {
	result
	Broken() error
	Late() error
}) error {
	err, late := o.judge(r), r.Late()
	if strict {
		return errors.Join(err, late)
	}
	if late != nil {
		fmt.Fprintln(os.Stderr, late)
	}
	return err
}

// BenchDrainCmd is the drain scenario.
type BenchDrainCmd struct {
	benchFleet
	benchOutput
	benchLoad
	Rounds    int     `help:"Rolling drains of all nodes." default:"20"`
	DrainRate float64 `help:"Clients per second that a draining node sends away." default:"100"`
}

// Run plays it, prints, and fails if the product broke its word.
func (c *BenchDrainCmd) Run(ctx context.Context) error {
	var r *report.Drain
	err := c.with(ctx, fleet.Config{Nodes: c.Nodes, DrainRate: c.DrainRate}, func(f *fleet.Fleet) (err error) {
		r, err = scenario.Drain{Load: c.load(), Fleet: f, DrainRate: c.DrainRate, Rounds: c.Rounds, Progress: benchProgress}.Run(ctx)
		return err
	})
	if err != nil {
		return err
	}
	return c.judge(r)
}

// BenchFailoverCmd is the failover scenario.
type BenchFailoverCmd struct {
	benchFleet
	benchOutput
	benchLoad
	Kills  int           `help:"How often the leader is killed (SIGKILL)." default:"20"`
	Pauses int           `help:"How often the leader is paused (SIGSTOP)." default:"5"`
	Pause  time.Duration `help:"How long a pause is." default:"8s"`
	Lost   int           `help:"Devices that are lost with each node that is killed." default:"5"`
	Quiet  time.Duration `help:"Afterwards, this long without a fault." default:"10m"`
}

// Run plays it, prints, and fails if the product broke its word.
func (c *BenchFailoverCmd) Run(ctx context.Context) error {
	var r *report.Failover
	err := c.with(ctx, fleet.Config{Nodes: c.Nodes}, func(f *fleet.Fleet) (err error) {
		r, err = scenario.Failover{
			Load: c.load(), Fleet: f, Kills: c.Kills, Pauses: c.Pauses, Pause: c.Pause, Lost: c.Lost, Quiet: c.Quiet, Progress: benchProgress,
		}.Run(ctx)
		return err
	})
	if err != nil {
		return err
	}
	return c.judge(r)
}

func writeReport(path string, r any) error {
	return create(path, "--json", func(w io.Writer) error { return report.WriteJSON(w, r) })
}

// create writes a file that a flag names.
func create(path, flag string, write func(io.Writer) error) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("%s: %w", flag, err)
	}
	defer func() {
		if cerr := f.Close(); err == nil && cerr != nil {
			err = fmt.Errorf("%s: %w", flag, cerr)
		}
	}()
	return write(f)
}
