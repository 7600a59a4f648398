package jobs

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/internal/errs"
)

// Row is a job as an operator sees it. What it was given stays out: that is the
// business of users.
type Row struct {
	ID       uuid.UUID `json:"id"`
	Kind     string    `json:"kind"`
	Key      string    `json:"key,omitempty"`
	State    string    `json:"state"`
	RunAt    time.Time `json:"run_at"` // of a dead one: when it died
	Attempts int       `json:"attempts"`
	Max      int       `json:"max_attempts"`
	Enqueued time.Time `json:"enqueued_at"`
	Error    string    `json:"last_error,omitempty"`
	Note     string    `json:"note,omitempty"`
}

// Filter chooses jobs: by id, or by kind, where empty means all.
type Filter struct {
	ID   uuid.UUID
	Kind string
}

func (f Filter) args() (id *uuid.UUID, kind string) {
	if f.ID != uuid.Nil {
		id = &f.ID
	}
	return id, f.Kind
}

// List returns at most limit jobs in a state (ready, running, dead; empty: all),
// those that have been so for longest first.
func List(ctx context.Context, d *db.DB, f Filter, state string, limit int) ([]Row, error) {
	id, kind := f.args()
	var list []Row
	err := d.InOneTrip(ctx, readOnly, func(b *pgx.Batch) {
		list = nil
		b.Queue(`SELECT id, kind, key, state, run_at, attempts, max_attempts, enqueued_at, last_error, note FROM jobs
			WHERE ($1::UUID IS NULL OR id = $1) AND ($2 = '' OR kind = $2) AND ($3 = '' OR state = $3)
			ORDER BY run_at LIMIT $4`, id, kind, state, limit).Query(func(rows pgx.Rows) (err error) {
			list, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Row])
			return err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("list jobs: %w", err)
	}
	return list, nil
}

// errAlive says that a dead job can't live again beside another.
var errAlive = errs.New(errs.Conflict, "job_alive", "another job of the same kind and key waits or runs: let it end, or drop the dead one")

// Retry gives dead jobs all their attempts again, at once, and says how many.
func Retry(ctx context.Context, d *db.DB, f Filter) (n int64, err error) {
	id, kind := f.args()
	err = d.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		// Of those with one key the newest: the others would be its repetitions. By
		// kind, what is alive already is left out, too; by id that is an error.
		rows, err := tx.Query(ctx, `UPDATE jobs SET state = 'ready', run_at = now(), attempts = 0
			WHERE state = 'dead' AND ($1::UUID IS NULL OR id = $1) AND ($2 = '' OR kind = $2)
			AND ($1::UUID IS NOT NULL OR key = '' OR NOT EXISTS (SELECT 1 FROM jobs o WHERE o.kind = jobs.kind AND o.key = jobs.key
				AND (o.state <> 'dead' OR (o.enqueued_at, o.id) > (jobs.enqueued_at, jobs.id)))) RETURNING kind`, id, kind)
		if err != nil {
			return err
		}
		kinds, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return err
		}
		n = int64(len(kinds))
		slices.Sort(kinds)
		for _, kind := range slices.Compact(kinds) {
			db.Wake(ctx, topic, kind)
		}
		return nil
	})
	switch {
	case db.Violates(err, "jobs_key"):
		return 0, errAlive
	case err != nil:
		return 0, fmt.Errorf("retry jobs: %w", err)
	}
	return n, nil
}

// Drop deletes dead jobs, and says how many.
func Drop(ctx context.Context, d *db.DB, f Filter) (n int64, err error) {
	id, kind := f.args()
	err = d.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `DELETE FROM jobs WHERE state = 'dead' AND ($1::UUID IS NULL OR id = $1) AND ($2 = '' OR kind = $2)`, id, kind)
		n = tag.RowsAffected()
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("drop jobs: %w", err)
	}
	return n, nil
}

// keepDead is for how long an operator can have a job tried again that users bring
// about, by webhooks that nobody answers and the like.
const keepDead = 90 * 24 * time.Hour

// Sweep deletes jobs of the kinds that have been dead for long. Those of other kinds
// stay until somebody looks after them.
func Sweep(ctx context.Context, d *db.DB, kinds ...string) error {
	err := d.InOneTrip(ctx, readCommitted, func(b *pgx.Batch) {
		b.Queue(`DELETE FROM jobs WHERE state = 'dead' AND kind = ANY($1::TEXT[]) AND run_at < now() - $2 * INTERVAL '1 second'`,
			kinds, keepDead.Seconds())
	})
	if err != nil {
		return fmt.Errorf("sweep dead jobs: %w", err)
	}
	return nil
}
