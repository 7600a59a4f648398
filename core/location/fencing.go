package location

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
)

// Stored returns the crossings of a group's room that were stored at a time or
// later, in that order: those whose owner may have died before it told them.
func (s *Store) Stored(ctx context.Context, room string, since time.Time) (list []Crossing, err error) {
	group, ok := core.GroupOf(room)
	if !ok {
		return nil, nil
	}
	err = s.db.Read(ctx, func(ctx context.Context, q db.Querier) error {
		rows, err := q.Query(ctx,
			`SELECT id, kind, fence_id, name, user_id, other_id, at, passed, stored_at FROM fence_crossings
			 WHERE group_id = $1 AND stored_at >= $2 ORDER BY stored_at, id`, group, since)
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(rows, scanCrossing)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read crossings: %w", err)
	}
	return list, nil
}

func scanCrossing(row pgx.CollectableRow) (c Crossing, err error) {
	err = row.Scan(&c.ID, &c.Kind, &c.Fence, &c.Name, &c.User, &c.Other, &c.At, &c.Passed, &c.StoredAt)
	c.At, c.StoredAt = c.At.UTC(), c.StoredAt.UTC()
	return c, err
}

// Outside has a user stand nowhere in a group: whoever withdrew their position
// is not told to have left, nor to be still there. What was on its way to be
// stored of them is refused from then on.
func (s *Store) Outside(ctx context.Context, room string, user core.UserID) error {
	group, ok := core.GroupOf(room)
	if !ok {
		return nil
	}
	err := s.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx,
			`UPDATE fence_states SET inside = false, n = n + 1, at = $3 WHERE group_id = $1 AND (user_id = $2 OR other_id = $2) AND inside`,
			group, user, s.now())
		return err
	})
	if err != nil {
		return fmt.Errorf("forget where a user stands: %w", err)
	}
	return nil
}
