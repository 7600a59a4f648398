package main

import (
	"context"
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
}

// with runs f with a fleet that is not started yet, and cleans up after it.
func (c *benchFleet) with(ctx context.Context, cfg fleet.Config, f func(*fleet.Fleet) (result, error)) (_ result, err error) {
	if cfg.Binary, err = os.Executable(); err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	if cfg.Dir = c.Keep; cfg.Dir == "" {
		if cfg.Dir, err = os.MkdirTemp("", "muster-bench-"); err != nil {
			return nil, fmt.Errorf("bench: %w", err)
		}
		defer func() { _ = os.RemoveAll(cfg.Dir) }()
	} else if err := os.Mkdir(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("--keep: %w", err)
	}
	server := devdb.New(devdb.Options{Dir: filepath.Join(cfg.Dir, "database")})
	if err := server.Start(ctx); err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	defer server.Stop()
	cfg.Database, cfg.Env = server.URL(), c.env
	region, err := fleet.New(cfg)
	if err != nil {
		return nil, err
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
	r, err := c.with(ctx, fleet.Config{Nodes: 1}, func(f *fleet.Fleet) (result, error) {
		return scenario.Idle{
			Fleet: f, Sessions: c.Sessions, RoomSize: c.RoomSize, AtOnce: c.AtOnce, Quiet: c.Quiet, Progress: benchProgress,
		}.Run(ctx)
	})
	if err != nil {
		return err
	}
	return c.write(r)
}

func writeReport(path string, r any) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("--json: %w", err)
	}
	defer func() {
		if cerr := f.Close(); err == nil && cerr != nil {
			err = fmt.Errorf("--json: %w", cerr)
		}
	}()
	return report.WriteJSON(f, r)
}
