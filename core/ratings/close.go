package ratings

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
)

// CloseEvery is how often CloseDue is called.
const CloseEvery = time.Minute

// closeAtOnce is how many encounters are looked for at a time.
const closeAtOnce = 200

// CloseDue reveals what was given in encounters whose window has ended. It can be
// called at any time, by several at once.
func (s *Store) CloseDue(ctx context.Context) error {
	for {
		var due []uuid.UUID
		err := s.db.Read(ctx, func(ctx context.Context, q db.Querier) error {
			rows, err := q.Query(ctx, `SELECT id FROM encounters WHERE closed_at IS NULL AND window_ends <= $1 ORDER BY window_ends LIMIT $2`, s.now(), closeAtOnce)
			if err != nil {
				return err
			}
			due, err = pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
			return err
		})
		if err != nil {
			return fmt.Errorf("close encounters: %w", err)
		}
		var failed error
		for _, id := range due { // one that fails keeps no other from its own
			if err := s.end(ctx, id); err != nil {
				failed = errors.Join(failed, fmt.Errorf("close encounter %s: %w", id, err))
			}
		}
		if failed != nil || len(due) < closeAtOnce {
			return failed
		}
	}
}

// end closes one encounter. Whatever Rate does at once conflicts with it: Rate reads
// closed_at.
func (s *Store) end(ctx context.Context, id uuid.UUID) error {
	return s.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `UPDATE encounters SET closed_at = $2 WHERE id = $1 AND closed_at IS NULL`, id, s.now())
		if err != nil || tag.RowsAffected() == 0 {
			return err
		}
		rows, err := tx.Query(ctx, `SELECT id, rater, ratee, stars FROM ratings WHERE encounter_id = $1 AND revealed_at IS NULL`, id)
		if err != nil {
			return err
		}
		list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (h hidden, err error) {
			h.encounter = id
			return h, row.Scan(&h.id, &h.rater, &h.ratee, &h.stars)
		})
		if err != nil {
			return err
		}
		if err := s.reveal(ctx, tx, list); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `DELETE FROM encounter_people WHERE encounter_id = $1`, id); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `DELETE FROM encounters WHERE id = $1 AND NOT EXISTS (SELECT 1 FROM ratings WHERE encounter_id = $1)`, id)
		return err
	})
}

// Wrong is somebody with whom another rating is kept than they got.
type Wrong struct {
	User core.UserID
	Kept core.Rating
	Got  core.Rating
}

// Verify counts again what all users got, as of one moment, and returns those with
// whom something else is kept: nobody, unless there is a bug, or somebody wrote to
// the database by hand.
func (s *Store) Verify(ctx context.Context) (users int, wrong []Wrong, err error) {
	err = s.db.InTx(ctx, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(ctx context.Context, tx pgx.Tx) error {
		if err := tx.QueryRow(ctx, `SELECT count(*) FROM users WHERE deleted_at IS NULL`).Scan(&users); err != nil {
			return err
		}
		rows, err := tx.Query(ctx,
			`SELECT u.id, u.rating_sum, u.rating_count, coalesce(sum(r.stars), 0)::BIGINT, count(r.id)
			 FROM users u LEFT JOIN ratings r ON r.ratee = u.id AND r.revealed_at IS NOT NULL
			 WHERE u.deleted_at IS NULL GROUP BY u.id, u.rating_sum, u.rating_count
			 HAVING u.rating_sum <> coalesce(sum(r.stars), 0)::BIGINT OR u.rating_count <> count(r.id) ORDER BY u.id`)
		if err != nil {
			return err
		}
		wrong, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (w Wrong, err error) {
			return w, row.Scan(&w.User, &w.Kept.Sum, &w.Kept.Count, &w.Got.Sum, &w.Got.Count)
		})
		return err
	})
	if err != nil {
		return 0, nil, fmt.Errorf("verify ratings: %w", err)
	}
	return users, wrong, nil
}
