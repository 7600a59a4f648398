package objects

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/core/jobs"
)

// Catalog is the rows beside a Store; see the package comment. It is safe for
// concurrent use.
type Catalog struct {
	db    *db.DB
	store Store
	now   func() time.Time
}

// NewCatalog returns the Catalog of a Store; now is the clock (time.Now).
func NewCatalog(d *db.DB, s Store, now func() time.Time) *Catalog {
	return &Catalog{db: d, store: s, now: now}
}

// pending is how long there may be between Reserve and Keep.
const pending = time.Hour

// Reserve says that an object of a user is about to be put. It must have
// committed before that.
func (c *Catalog) Reserve(ctx context.Context, user core.UserID, kind string, keys ...string) error {
	for _, key := range keys {
		if err := CheckKey(key); err != nil {
			return err
		}
	}
	err := c.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		now := c.now()
		_, err := tx.Exec(ctx,
			`INSERT INTO objects (key, user_id, kind, created_at, expires_at)
			   SELECT k, $2::UUID, $3::TEXT, $4::TIMESTAMPTZ, $5::TIMESTAMPTZ FROM unnest($1::TEXT[]) AS v (k)
			 ON CONFLICT (key) DO UPDATE SET created_at = excluded.created_at, expires_at = excluded.expires_at`,
			keys, user, kind, now, now.Add(pending))
		return err
	})
	if err != nil {
		return fmt.Errorf("reserve objects: %w", err)
	}
	return nil
}

// Put puts an object that is reserved.
func (c *Catalog) Put(ctx context.Context, key string, body io.Reader, size int64, contentType string) error {
	if err := c.store.Put(ctx, key, body, size, contentType); err != nil {
		return fmt.Errorf("put object: %w", err)
	}
	return nil
}

// Get opens an object.
func (c *Catalog) Get(ctx context.Context, key string) (Object, error) { return c.store.Get(ctx, key) }

// Keep says, in the caller's transaction, that objects are in use; until a time,
// unless that is zero. An object that Sweep or Erase was faster with is ErrNotFound.
func (c *Catalog) Keep(ctx context.Context, tx pgx.Tx, until time.Time, keys ...string) error {
	var expires *time.Time
	if !until.IsZero() {
		expires = &until
	}
	tag, err := tx.Exec(ctx, `UPDATE objects SET expires_at = $2 WHERE key = ANY($1) AND user_id IS NOT NULL AND expires_at > $3`, keys, expires, c.now())
	if err != nil {
		return fmt.Errorf("keep objects: %w", err)
	}
	if tag.RowsAffected() != int64(len(keys)) {
		return fmt.Errorf("keep objects: %w", ErrNotFound)
	}
	return nil
}

// Release says, in the caller's transaction, that what a user has of a kind and
// is in use is needed no more, but for those keys.
func (c *Catalog) Release(ctx context.Context, tx pgx.Tx, user core.UserID, kind string, but ...string) error {
	tag, err := tx.Exec(ctx, `UPDATE objects SET expires_at = $3 WHERE user_id = $1 AND kind = $2 AND expires_at IS NULL AND NOT key = ANY($4)`,
		user, kind, c.now(), but)
	if err == nil && tag.RowsAffected() > 0 {
		err = jobs.Enqueue(ctx, tx, jobs.Job{Kind: sweepJob}) // at once, and not when Sweep's time has come
	}
	if err != nil {
		return fmt.Errorf("release objects: %w", err)
	}
	return nil
}

// Drop says, in the caller's transaction, that some objects are needed no more.
func (c *Catalog) Drop(ctx context.Context, tx pgx.Tx, keys ...string) error {
	tag, err := tx.Exec(ctx, `UPDATE objects SET expires_at = $2 WHERE key = ANY($1)`, keys, c.now())
	if err == nil && tag.RowsAffected() > 0 {
		err = jobs.Enqueue(ctx, tx, jobs.Job{Kind: sweepJob})
	}
	if err != nil {
		return fmt.Errorf("drop objects: %w", err)
	}
	return nil
}

const sweepJob = "objects.sweep"

// Handle gives a queue the work that Release leaves.
func (c *Catalog) Handle(q *jobs.Queue) {
	q.Handle(sweepJob, jobs.Handler{Timeout: 10 * time.Minute, Do: func(ctx context.Context, _ jobs.Work) error { return c.Sweep(ctx) }})
}

// Erase deletes all objects of a user, also those that are about to be put: who
// is at that fails at Keep. What they put after this is deleted by Sweep, for which
// the rows of what was reserved of late stay as nobody's.
func (c *Catalog) Erase(ctx context.Context, user core.UserID) error {
	return c.delete(ctx, func(ctx context.Context, q db.Querier) (pgx.Rows, error) {
		return q.Query(ctx, `SELECT key FROM objects WHERE user_id = $1 ORDER BY key LIMIT $2`, user, page)
	})
}

// Sweep deletes what has expired, and what nobody has any more.
func (c *Catalog) Sweep(ctx context.Context) error {
	return c.delete(ctx, func(ctx context.Context, q db.Querier) (pgx.Rows, error) {
		now := c.now()
		return q.Query(ctx, `SELECT key FROM objects WHERE expires_at <= $1 OR user_id IS NULL AND created_at <= $2 ORDER BY key LIMIT $3`, now, now.Add(-pending), page)
	})
}

const page = 100

// delete deletes the objects that find finds, and then their rows, until there
// are none. One that fails doesn't keep the others of its page.
func (c *Catalog) delete(ctx context.Context, find func(context.Context, db.Querier) (pgx.Rows, error)) error {
	for {
		var keys []string
		err := c.db.Read(ctx, func(ctx context.Context, q db.Querier) error {
			rows, err := find(ctx, q)
			if err != nil {
				return err
			}
			keys, err = pgx.CollectRows(rows, pgx.RowTo[string])
			return err
		})
		if err != nil {
			return fmt.Errorf("find objects: %w", err)
		}
		var gone []string
		var failed []error
		for _, key := range keys {
			if err := c.store.Delete(ctx, key); err != nil {
				failed = append(failed, fmt.Errorf("delete object: %w", err))
				continue
			}
			gone = append(gone, key)
		}
		if err := c.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
			// A row that is younger may be of an object that somebody is putting.
			sure := c.now().Add(-pending)
			if _, err := tx.Exec(ctx, `DELETE FROM objects WHERE key = ANY($1) AND created_at <= $2`, gone, sure); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, `UPDATE objects SET user_id = NULL, expires_at = created_at + $2::INTERVAL WHERE key = ANY($1)`, gone, pending)
			return err
		}); err != nil {
			failed = append(failed, err)
		}
		if len(failed) > 0 || len(keys) < page {
			return errors.Join(failed...)
		}
	}
}
