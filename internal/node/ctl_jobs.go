package node

import (
	"context"
	"net/http"

	"github.com/google/uuid"

	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/core/jobs"
	"github.com/mustermesh/muster/internal/errs"
)

// JobsView are jobs, as an operator sees them.
type JobsView struct {
	Jobs []jobs.Row `json:"jobs"`
}

// JobsChanged says how many dead jobs were retried or dropped.
type JobsChanged struct {
	Jobs int64 `json:"jobs"`
}

// maxJobsListed bounds an answer.
const maxJobsListed = 1000

// database is that of the first node that runs: all have the same.
func (c *control) database() (*db.DB, error) {
	for _, n := range c.nodes() {
		if n.running() {
			return n.cfg.DB, nil
		}
	}
	return nil, errNoNode
}

// jobs lists them: those of ?state=, ?kind=, ?id=.
func (c *control) jobs(r *http.Request) (*JobsView, error) {
	d, err := c.database()
	if err != nil {
		return nil, err
	}
	f, err := jobsOf(r)
	if err != nil {
		return nil, err
	}
	list, err := jobs.List(r.Context(), d, f, r.FormValue("state"), maxJobsListed)
	if err != nil {
		return nil, err
	}
	return &JobsView{Jobs: append([]jobs.Row{}, list...)}, nil
}

// changeJobs retries or drops dead jobs: one by id, or all of a kind. All of all
// kinds are named by kind=*.
func (c *control) changeJobs(r *http.Request, change func(context.Context, *db.DB, jobs.Filter) (int64, error)) (*JobsChanged, error) {
	d, err := c.database()
	if err != nil {
		return nil, err
	}
	f, err := jobsOf(r)
	switch {
	case err != nil:
		return nil, err
	case f == jobs.Filter{}:
		return nil, errs.New(errs.Invalid, "no_jobs_named", "name jobs: by id, by kind, or all")
	case f.Kind == "*":
		f.Kind = ""
	}
	ctx, cancel := context.WithTimeout(r.Context(), ctlWait)
	defer cancel()
	n, err := change(ctx, d, f)
	if err == nil && n == 0 && f.ID != uuid.Nil {
		err = errs.New(errs.NotFound, "no_such_job", "no job with this id is dead; `muster ctl jobs list` lists them")
	}
	return &JobsChanged{Jobs: n}, err
}

func jobsOf(r *http.Request) (f jobs.Filter, err error) {
	f.Kind = r.FormValue("kind")
	if id := r.FormValue("id"); id != "" {
		if f.ID, err = uuid.Parse(id); err != nil {
			return f, errs.New(errs.Invalid, "invalid_job", "a job's id is a UUID")
		}
	}
	return f, nil
}
