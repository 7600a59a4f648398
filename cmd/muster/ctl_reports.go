package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	neturl "net/url"
	"time"

	"github.com/mustermesh/muster/internal/node"
)

type (
	// CtlReportsCmd is about what people reported: any process will do.
	CtlReportsCmd struct {
		List  CtlReportsListCmd  `cmd:"" help:"List reports, the oldest first; with --json also what was reported."`
		Close CtlReportsCloseCmd `cmd:"" help:"Say what became of a report."`
	}
	// CtlReportsListCmd lists reports.
	CtlReportsListCmd struct {
		State string `help:"open, closed or all." enum:"open,closed,all" default:"open"`
	}
	// CtlReportsCloseCmd closes a report.
	CtlReportsCloseCmd struct {
		ID      string `arg:"" help:"The report's id."`
		Outcome string `arg:"" help:"What became of it, for whoever reads it later."`
	}
	// CtlRatingsCmd is about ratings: any process will do.
	CtlRatingsCmd struct {
		Verify CtlRatingsVerifyCmd `cmd:"" help:"Count all ratings again, and fail if another sum is kept with somebody."`
	}
	// CtlRatingsVerifyCmd counts ratings again.
	CtlRatingsVerifyCmd struct{}
)

// Run lists reports.
func (l *CtlReportsListCmd) Run(ctx context.Context, c *CtlCmd) error {
	var v node.ReportsView
	if err := c.call(ctx, http.MethodGet, "reports", neturl.Values{"state": {l.State}}, &v); err != nil {
		return err
	}
	return c.show(v, func(w io.Writer) {
		fmt.Fprintln(w, "ID\tSINCE\tREASON\tABOUT\tBY\tTEXT\tEVIDENCE\tOUTCOME")
		for _, r := range v.Reports {
			about, by := r.Room, "-"
			if r.Number > 0 {
				about = fmt.Sprintf("%s #%d", r.Room, r.Number)
			}
			if r.Subject != nil {
				about += " " + r.Subject.String()
			}
			if r.Reporter != nil {
				by = r.Reporter.String()
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%q\t%s\t%s\n", r.ID, r.CreatedAt.UTC().Format(time.RFC3339), r.Reason, about, by, r.Text, r.Evidence, r.Outcome)
		}
	})
}

// Run closes a report.
func (x *CtlReportsCloseCmd) Run(ctx context.Context, c *CtlCmd) error {
	if err := c.call(ctx, http.MethodPost, "reports/close", neturl.Values{"id": {x.ID}, "outcome": {x.Outcome}}, &struct{}{}); err != nil {
		return err
	}
	return c.done("%s is closed", x.ID)
}

// Run verifies what is kept of ratings.
func (*CtlRatingsVerifyCmd) Run(ctx context.Context, c *CtlCmd) error {
	var v node.RatingsView
	if err := c.call(ctx, http.MethodGet, "ratings/verify", nil, &v); err != nil {
		return err
	}
	if err := c.show(v, func(w io.Writer) {
		for _, x := range v.Wrong {
			fmt.Fprintf(w, "%s\tkept %d in %d\tgot %d in %d\n", x.User, x.KeptSum, x.KeptCount, x.Sum, x.Count)
		}
		fmt.Fprintf(w, "%d users counted, %d wrong\n", v.Users, len(v.Wrong))
	}); err != nil {
		return err
	}
	if n := len(v.Wrong); n > 0 {
		return fmt.Errorf("%d users have another rating than they got", n)
	}
	return nil
}
