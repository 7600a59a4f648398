package calls

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
)

// List returns the live calls in the rooms that a user is in, the latest first.
func (s *Store) List(ctx context.Context, user core.UserID) (list []Call, err error) {
	err = s.db.Read(ctx, func(ctx context.Context, q db.Querier) error {
		rows, err := q.Query(ctx,
			`SELECT `+columns+` FROM calls WHERE ended_at IS NULL AND room IN (
			   SELECT 'group:' || CAST(group_id AS TEXT) FROM group_members WHERE user_id = $1
			   UNION ALL
			   SELECT me.room FROM conversation_people me JOIN conversations c ON c.room = me.room
			   WHERE me.user_id = $1 AND me.left_at IS NULL AND c.ended_at IS NULL AND NOT (c.pair AND EXISTS (
			     SELECT 1 FROM conversation_people p JOIN blocks b
			     ON b.blocker = $1 AND b.blocked = p.user_id OR b.blocker = p.user_id AND b.blocked = $1 WHERE p.room = me.room)))
			 ORDER BY started_at DESC, id DESC`, user)
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(rows, scan)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list calls: %w", err)
	}
	return list, nil
}

// Going returns the live calls of all rooms, the oldest first, for operators; so many at
// most.
func (s *Store) Going(ctx context.Context, most int) (list []Call, err error) {
	err = s.db.Read(ctx, func(ctx context.Context, q db.Querier) error {
		rows, err := q.Query(ctx, `SELECT `+columns+` FROM calls WHERE ended_at IS NULL ORDER BY started_at, id LIMIT $1`, most)
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(rows, scan)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list all calls: %w", err)
	}
	return list, nil
}
