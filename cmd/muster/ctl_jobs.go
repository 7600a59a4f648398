package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	neturl "net/url"
	"time"

	"github.com/mustermesh/muster/internal/node"
)

type (
	// CtlJobsCmd is about the jobs of a deployment: any process will do.
	CtlJobsCmd struct {
		List  CtlJobsListCmd  `cmd:"" help:"List jobs: the dead ones, unless others are asked for."`
		Retry CtlJobsRetryCmd `cmd:"" help:"Give dead jobs all their attempts again, at once."`
		Drop  CtlJobsDropCmd  `cmd:"" help:"Delete dead jobs."`
	}
	// CtlJobsListCmd lists jobs.
	CtlJobsListCmd struct {
		State string `help:"ready, running, dead or all." enum:"ready,running,dead,all" default:"dead"`
		Kind  string `help:"Of this kind only." placeholder:"KIND"`
	}
	// ctlDeadJobs chooses dead jobs.
	ctlDeadJobs struct {
		ID   string `arg:"" optional:"" help:"The job's id."`
		Kind string `help:"All dead jobs of this kind." placeholder:"KIND"`
		All  bool   `help:"All dead jobs."`
	}
	// CtlJobsRetryCmd retries dead jobs.
	CtlJobsRetryCmd struct{ ctlDeadJobs }
	// CtlJobsDropCmd drops dead jobs.
	CtlJobsDropCmd struct{ ctlDeadJobs }
)

// Run lists jobs.
func (l *CtlJobsListCmd) Run(ctx context.Context, c *CtlCmd) error {
	query := neturl.Values{"kind": {l.Kind}}
	if l.State != "all" {
		query.Set("state", l.State)
	}
	var v node.JobsView
	if err := c.call(ctx, http.MethodGet, "jobs", query, &v); err != nil {
		return err
	}
	return c.show(v, func(w io.Writer) {
		fmt.Fprintln(w, "ID\tKIND\tKEY\tSTATE\tATTEMPTS\tAT\tNOTE\tERROR")
		for _, j := range v.Jobs {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d/%d\t%s\t%s\t%s\n", j.ID, j.Kind, j.Key, j.State, j.Attempts, j.Max, j.RunAt.UTC().Format(time.RFC3339), j.Note, j.Error)
		}
	})
}

// change posts what is to become of the chosen jobs.
func (d *ctlDeadJobs) change(ctx context.Context, c *CtlCmd, what, done string) error {
	query := neturl.Values{}
	chosen := 0
	for key, value := range map[string]string{"id": d.ID, "kind": d.Kind} {
		if value != "" {
			query.Set(key, value)
			chosen++
		}
	}
	if d.All {
		query.Set("kind", "*")
		chosen++
	}
	if chosen != 1 {
		return errors.New("name a job's id, or --kind KIND, or --all")
	}
	var v node.JobsChanged
	if err := c.call(ctx, http.MethodPost, "jobs/"+what, query, &v); err != nil {
		return err
	}
	return c.show(v, func(w io.Writer) { fmt.Fprintf(w, "%d %s\n", v.Jobs, done) })
}

// Run retries dead jobs.
func (r *CtlJobsRetryCmd) Run(ctx context.Context, c *CtlCmd) error {
	return r.change(ctx, c, "retry", "tried again")
}

// Run drops dead jobs.
func (d *CtlJobsDropCmd) Run(ctx context.Context, c *CtlCmd) error {
	return d.change(ctx, c, "drop", "dropped")
}
