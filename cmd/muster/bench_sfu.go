package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/mustermesh/muster/bench/fleet"
	"github.com/mustermesh/muster/bench/media"
	"github.com/mustermesh/muster/bench/report"
	"github.com/mustermesh/muster/bench/scenario"
)

// BenchSFUCmd is the sfu scenario.
type BenchSFUCmd struct {
	benchFleet
	benchOutput
	Serve         bool          `help:"Measure a node of muster serve, too, with sessions and all else that it does."`
	LiveKit       string        `help:"URL of a LiveKit server, to be measured beside; rtc.enable_loopback_candidate has to be set in its configuration if it is of this machine." name:"livekit" placeholder:"ws://HOST:PORT"`
	LiveKitPID    int           `help:"Its process, whose CPU time is read from /proc." name:"livekit-pid" placeholder:"PID"`
	LiveKitKey    string        `help:"A key that it knows, for access tokens." name:"livekit-key" placeholder:"KEY"`
	LiveKitSecret string        `help:"The key's secret." name:"livekit-secret" placeholder:"SECRET"`
	Rounds        int           `help:"How often everything is measured; the median counts." default:"3"`
	Duration      time.Duration `help:"How long one measurement takes." default:"10s"`
	Case          string        `help:"Only this one." placeholder:"NAME"`
	Strict        bool          `help:"Fail if a goal was missed, too."`
}

// Run measures and prints.
func (c *BenchSFUCmd) Run(ctx context.Context) error {
	peer := media.LiveKit{URL: c.LiveKit, ServerPID: c.LiveKitPID, Key: c.LiveKitKey, Secret: c.LiveKitSecret}
	if peer != (media.LiveKit{}) && (peer.URL == "" || peer.ServerPID == 0 || peer.Key == "" || peer.Secret == "") {
		return errors.New("--livekit, --livekit-pid, --livekit-key and --livekit-secret come together")
	}
	binary, err := os.Executable()
	if err != nil {
		return fmt.Errorf("which program this is: %w", err)
	}
	if c.Rounds < 1 {
		return errors.New("--rounds: at least 1")
	}
	targets := []scenario.SFUTarget{scenario.BareTarget(binary, c.env)}
	if peer.URL != "" {
		targets = append(targets, scenario.LiveKitTarget(peer))
	}
	targets = append(targets, scenario.DirectTarget())
	var r *report.SFU
	run := func() (err error) {
		r, err = scenario.SFU{Targets: targets, Rounds: c.Rounds, Duration: c.Duration, Only: c.Case, Progress: benchProgress}.Run(ctx)
		return err
	}
	if c.Serve {
		err = c.with(ctx, fleet.Config{Nodes: 1, Media: true}, func(f *fleet.Fleet) error {
			defer f.Stop()
			t, err := scenario.ServeTarget(ctx, f, benchProgress)
			if err != nil {
				return err
			}
			targets = slices.Insert(targets, 0, t)
			return run()
		})
	} else {
		err = run()
	}
	if err != nil {
		return err
	}
	return c.judgeGoals(c.Strict, r)
}

// BenchSFUServerCmd is the server of that, in a process of its own.
type BenchSFUServerCmd struct{}

// Run serves until it is told to end.
func (c *BenchSFUServerCmd) Run(ctx context.Context) error { return media.Serve(ctx, os.Stdout) }
