package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/mustermesh/muster/bench/names"
)

// BenchDNSCmd is the name server beside others.
type BenchDNSCmd struct {
	benchOutput
	Rounds   int           `help:"How often each server is measured." default:"3"`
	Duration time.Duration `help:"How long each time." default:"10s"`
	Rate     int           `help:"Queries a second where the rate is fixed." default:"20000"`
	Sockets  int           `help:"Sockets of the load." default:"8"`
	Window   int           `help:"Queries under way per socket where it is not." default:"64"`
}

// Run measures and prints.
func (c *BenchDNSCmd) Run(ctx context.Context) error {
	binary, err := os.Executable()
	if err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	r, err := names.Scenario{
		Binary: binary, Rounds: c.Rounds, Duration: c.Duration, Rate: c.Rate, Sockets: c.Sockets, Window: c.Window, Progress: benchProgress,
	}.Run(ctx)
	if err != nil {
		return err
	}
	return c.write(r)
}

// BenchDNSServerCmd is the server that BenchDNSCmd measures, in a process of its
// own.
type BenchDNSServerCmd struct {
	Addr string `arg:"" help:"UDP and TCP address."`
}

// Run answers until a signal.
func (c *BenchDNSServerCmd) Run(ctx context.Context) error { return names.Serve(ctx, c.Addr) }
