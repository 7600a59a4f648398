package node

import (
	"context"
	"net/http"

	"github.com/google/uuid"

	"github.com/mustermesh/muster/core/reports"
	"github.com/mustermesh/muster/internal/errs"
)

// ReportsView are reports, as an operator sees them.
type ReportsView struct {
	Reports []reports.Report `json:"reports"`
}

// RatingsView says whether what is kept with users is what they got.
type RatingsView struct {
	Users int           `json:"users"` // that were counted
	Wrong []WrongRating `json:"wrong"`
}

// WrongRating is a user with whom something else is kept.
type WrongRating struct {
	User      string `json:"user_id"`
	KeptSum   int64  `json:"kept_sum"`
	KeptCount int64  `json:"kept_count"`
	Sum       int64  `json:"sum"`
	Count     int64  `json:"count"`
}

// maxReportsListed bounds an answer.
const maxReportsListed = 500

// anyNode is one that runs: what is in the database all of them know.
func (c *control) anyNode() (*Node, error) {
	for _, n := range c.nodes() {
		if n.running() {
			return n, nil
		}
	}
	return nil, errNoNode
}

// reports lists those of ?state=open, closed or all.
func (c *control) reports(r *http.Request) (*ReportsView, error) {
	n, err := c.anyNode()
	if err != nil {
		return nil, err
	}
	state := reports.State(r.FormValue("state"))
	switch state {
	case "":
		state = reports.Open
	case reports.Open, reports.Closed, reports.All:
	default:
		return nil, errs.New(errs.Invalid, "invalid_state", "a report is open or closed")
	}
	list, err := n.reports.List(r.Context(), state, maxReportsListed)
	return &ReportsView{Reports: append([]reports.Report{}, list...)}, err
}

// closeReport says what became of ?id=: ?outcome=.
func (c *control) closeReport(ctx context.Context, r *http.Request) error {
	n, err := c.anyNode()
	if err != nil {
		return err
	}
	id, err := uuid.Parse(r.FormValue("id"))
	if err != nil {
		return errs.New(errs.Invalid, "invalid_report", "a report's id is a UUID")
	}
	was, err := n.reports.Close(ctx, id, r.FormValue("outcome"))
	if err == nil && !was {
		err = errs.New(errs.NotFound, "no_such_report", "no report with this id is open; `muster ctl reports list` lists them")
	}
	return err
}

// verifyRatings counts all ratings again.
func (c *control) verifyRatings(r *http.Request) (*RatingsView, error) {
	n, err := c.anyNode()
	if err != nil {
		return nil, err
	}
	users, wrong, err := n.ratings.Verify(r.Context())
	v := &RatingsView{Users: users, Wrong: []WrongRating{}}
	for _, w := range wrong {
		v.Wrong = append(v.Wrong, WrongRating{User: w.User.String(), KeptSum: w.Kept.Sum, KeptCount: w.Kept.Count, Sum: w.Got.Sum, Count: w.Got.Count})
	}
	return v, err
}
