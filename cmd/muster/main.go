// Command muster is the whole of Muster in one binary: a node of a deployment
// (serve), several regions on one machine (dev), and the tools around them.
// This package holds flags and commands only; internal/node assembles nodes.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/mustermesh/muster/internal/heap"
	"github.com/mustermesh/muster/internal/obs"
)

type cli struct {
	LogLevel  string `help:"debug, info, warn or error. Default: info; warn for dev, bench and replay." env:"MUSTER_LOG_LEVEL"`
	LogFormat string `help:"text or json." default:"text" env:"MUSTER_LOG_FORMAT"`

	Dev     DevCmd     `cmd:"" help:"Run several regions on this machine, with a database, the web app and a demo."`
	Serve   ServeCmd   `cmd:"" help:"Run one node of a deployment."`
	Turn    TurnCmd    `cmd:"" help:"Run a TURN relay, and nothing else."`
	Migrate MigrateCmd `cmd:"" help:"Bring the database's schema up to date."`
	CA      CACmd      `cmd:"" name:"ca" help:"Make the certificates by which nodes know each other."`
	Ctl     CtlCmd     `cmd:"" help:"Look into a running process, and tell it what to do."`
	Replay  ReplayCmd  `cmd:"" help:"Drive users along recorded GPS tracks."`
	Bench   BenchCmd   `cmd:"" help:"Measure a mesh."`
	Version VersionCmd `cmd:"" help:"Print the version."`
	Hash    HashCmd    `cmd:"" hidden:"" help:"Hash passwords for a node."`
}

func main() {
	os.Exit(run(os.Args[1:]))
}

func run(args []string) int {
	// The first signal asks for an orderly end, the second one ends at once.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)

	var c cli
	parser, err := kong.New(&c,
		kong.Name("muster"),
		kong.Description("One backend for apps in which people gather: who is here, where they are, what they say and plan."),
		kong.UsageOnError(),
		kong.BindTo(ctx, (*context.Context)(nil)),
	)
	if err != nil {
		panic(err) // the command line itself is wrong
	}
	k, err := parser.Parse(args)
	if err != nil {
		parser.FatalIfErrorf(err)
	}
	first, _, _ := strings.Cut(k.Command(), " ")
	if c.LogLevel == "" {
		c.LogLevel = "info"
		switch first {
		case "dev", "bench", "replay": // their output is for people
			c.LogLevel = "warn"
		}
	}
	log, err := obs.Logger(os.Stderr, c.LogFormat, c.LogLevel)
	if err != nil {
		fmt.Fprintln(os.Stderr, "muster:", err)
		return 2
	}
	switch first {
	case "serve", "dev", "bench", "turn":
		pacer := heap.NewPacer()
		if err := pacer.Start(ctx); err != nil {
			fmt.Fprintln(os.Stderr, "muster:", err)
			return 1
		}
		defer pacer.Stop()
	}
	k.Bind(log)
	if err := k.Run(); err != nil && !errors.Is(err, context.Canceled) {
		log.Debug("failed", slog.Any("error", err))
		fmt.Fprintln(os.Stderr, "muster:", err)
		return 1
	}
	return 0
}
