package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/mustermesh/muster/internal/node"
	"github.com/mustermesh/muster/internal/obs"
	"github.com/mustermesh/muster/regions"
)

// DevCmd runs several regions in one process.
type DevCmd struct {
	HTTP           string `help:"Address of the web app and the API." default:"localhost:8080" placeholder:"ADDR"`
	Admin          string `help:"Address of health, metrics and profiles." default:"localhost:8081" placeholder:"ADDR"`
	Data           string `help:"Directory that holds everything which outlives a run." default:".muster/dev" type:"path" placeholder:"DIR"`
	Regions        int    `help:"How many regions." default:"3"`
	Nodes          int    `help:"How many nodes a region." default:"3"`
	DatabaseRegion string `help:"Region in which the database is: the others reach it over the emulated distance. Default: it is at no distance from any." placeholder:"NAME"`

	DatabaseSurvivesRegion bool `help:"Messages of groups whose home region cannot be reached are written from elsewhere."`

	GoogleFlags
	StripeFlags
	OTLPEndpoint string `help:"Where spans of all traces go: OTLP over HTTP. Default: nowhere." name:"otlp-endpoint" env:"MUSTER_OTLP_ENDPOINT" placeholder:"URL"`

	ReadyFile string `help:"File that is written once all is up." type:"path" placeholder:"FILE"`
	Demo      bool   `help:"Let three recorded walks play in a demo group." default:"true" negatable:""`
}

// Run starts the mesh, says where everything is, and ends it on a signal.
func (c *DevCmd) Run(ctx context.Context, log *slog.Logger) error {
	started := time.Now()
	// Ports first: a busy one is the commonest mistake, and costs nothing to find.
	front, err := listen(c.HTTP, "--http")
	if err != nil {
		return err
	}
	defer front.Close()
	admin, err := listen(c.Admin, "--admin")
	if err != nil {
		return err
	}
	defer admin.Close()

	cfg := node.DevConfig{
		Regions: c.Regions, Nodes: c.Nodes, DatabaseRegion: regions.RegionID(c.DatabaseRegion), DatabaseSurvives: c.DatabaseSurvivesRegion, Data: c.Data, Front: front, Admin: admin,
		Log: log, Progress: progress(os.Stderr), Version: version(), Google: c.google(), Stripe: c.stripe(), Hashing: hashing(),
	}
	if c.Demo {
		cfg.Demo = playDemo
	}
	if c.OTLPEndpoint != "" {
		if cfg.Traces, err = obs.NewTraces(ctx, c.OTLPEndpoint, 1, version()); err != nil {
			return err
		}
		defer cfg.Traces.Stop()
	}
	dev, err := node.NewDev(cfg)
	if err != nil {
		return err
	}
	defer dev.Stop()
	if err := dev.Start(ctx); err != nil {
		return err
	}
	ready := dev.Ready()
	if c.ReadyFile != "" {
		if err := writeReady(c.ReadyFile, ready); err != nil {
			return err
		}
		defer os.Remove(c.ReadyFile)
	}
	c.welcome(os.Stdout, dev, ready, time.Since(started))

	select {
	case <-ctx.Done():
		fmt.Fprintln(os.Stderr, "muster: draining (Ctrl-C again to end at once)")
		return nil
	case err := <-dev.Failed():
		return err
	}
}

// listen opens a TCP listener and explains the usual reasons why it can't.
func listen(addr, flag string) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("%s %s is in use by another program: stop that one, or choose another address with %s", flag, addr, flag)
	case errors.Is(err, syscall.EACCES):
		return nil, fmt.Errorf("%s %s needs privileges: choose a port above 1023 with %s", flag, addr, flag)
	case err != nil:
		return nil, fmt.Errorf("%s: %w", flag, err)
	}
	return l, nil
}

// progress prints each step of a start, so that a first run that takes a few
// seconds is not silent.
func progress(w io.Writer) func(string) {
	return func(step string) { fmt.Fprintf(w, "muster: %s\n", step) }
}

// writeReady writes the file in one step: whoever sees it sees all of it.
func writeReady(path string, r node.Ready) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("--ready-file: %w", err)
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".ready-*")
	if err != nil {
		return fmt.Errorf("--ready-file: %w", err)
	}
	_, err = tmp.Write(append(b, '\n'))
	err = errors.Join(err, tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		_ = os.Remove(tmp.Name())
		return fmt.Errorf("--ready-file: %w", err)
	}
	return nil
}

func (c *DevCmd) welcome(w io.Writer, dev *node.Dev, r node.Ready, took time.Duration) {
	fmt.Fprintf(w, "\nMuster is up: %d regions, %d nodes each, in %.1f s.\n\n", len(r.Regions), c.Nodes, took.Seconds())
	t := tabwriter.NewWriter(w, 2, 4, 2, ' ', 0)
	host, port, _ := net.SplitHostPort(r.DNS)
	fmt.Fprintf(t, "  web app\t%s\n", r.HTTP)
	fmt.Fprintf(t, "  API\t%s/docs\n", r.HTTP)
	fmt.Fprintf(t, "  admin\t%s/metrics\n", r.Admin)
	fmt.Fprintf(t, "  DNS\tdig @%s -p %s %s HTTPS\n", host, port, r.DNSName)
	fmt.Fprintf(t, "  database\t%s\n", dev.About())
	fmt.Fprintf(t, "  data\t%s\n", c.Data)
	_ = t.Flush()
	fmt.Fprintln(w)
	t = tabwriter.NewWriter(w, 2, 4, 2, ' ', 0)
	fmt.Fprintln(t, "  REGION\tNODE\tHTTP\tWEBSOCKET\tWEBTRANSPORT")
	for _, region := range r.Regions {
		for _, n := range region.Nodes {
			fmt.Fprintf(t, "  %s\t%s\t%s\t%s\t%s\n", region.Name, n.ID, n.HTTP, n.WS, n.WT)
		}
	}
	_ = t.Flush()
	fmt.Fprintf(w, "\nOpen %s and press \"Try it\": no account needed.\n", r.HTTP)
	if c.Demo {
		fmt.Fprintf(w, "In the group %q recorded walks play: \"Look around\" takes you there.\n", demoGroup)
	}
	fmt.Fprintln(w, "Ctrl-C ends it; the next start continues where this one ended.")
}
